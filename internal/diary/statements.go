package diary

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/pgprod/pgprod/internal/activity"
)

// A Named is a statement that can say what it is. Its methods are called only if they are needed, which they are for few
// statements, and before the Diary's method that got it returns.
type Named interface {
	Summary() string // a few words, without literals
	Text() string    // the whole text, without literals
	Rows() int64     // how many rows it has returned or changed, by the server's command tag
}

// A Statement is a statement that has ended.
type Statement struct {
	Named
	Took   time.Duration
	Cause  *activity.Cause // what it was last found to wait for; nil: it wasn't slow, or that isn't known
	Waited time.Duration   // how long its caller had waited for the connection; 0 unless it was the first statement on it
	Server time.Duration   // the part of Took in which the server was awaited
	Read   time.Duration   // the part of Took in which its rows were read
	Error  *StatementError // nil: it has succeeded
}

// A StatementError says how a statement has failed, in words that may be shown.
type StatementError struct {
	Level      slog.Level // the level of the line; lower for failures that an application has to expect
	Type       string     // its class, the same as in metrics
	Message    string
	SQLState   string // "": the error isn't the server's
	Constraint string // the name of the constraint that was broken; "": none was
	HitsAll    bool   // the cause isn't in the statement, so that failures of different statements count as repetitions
}

// Statement notes that a statement has ended. It writes a line if the statement has failed or was slow, or with
// Options.Echo. If Watch was called it keeps the duration, and the statement if it was slow. For any other statement it does
// nothing, which is the fast path.
func (d *Diary) Statement(ctx context.Context, s Statement) {
	if kept := d.statements.Load(); kept != nil {
		kept.Record(s.Summary(), activity.Execution{
			Took: s.Took, Waited: s.Waited, Server: s.Server, Read: s.Read, Rows: s.Rows(), Failed: s.Error != nil,
		})
		if s.Took+s.Waited >= d.slow {
			d.keepSlow(ctx, s)
		}
	}
	switch {
	case s.Error != nil:
		d.failed(ctx, s)
	case s.Took+s.Waited >= d.slow:
		d.wasSlow(ctx, s)
	case d.options.Echo && d.wants(ctx, slog.LevelInfo):
		d.write(ctx, slog.LevelInfo, "pgprod: statement", 0, s.attrs()...)
	}
}

// keepSlow keeps a statement that was slow for the live page. ctx has its span.
func (d *Diary) keepSlow(ctx context.Context, s Statement) {
	slow := activity.SlowStatement{
		At: time.Now(), Summary: s.Summary(), Took: s.Took, Waited: s.Waited, Server: s.Server, Read: s.Read,
		Rows: s.Rows(), Cause: s.Cause,
	}
	if s.Error != nil {
		slow.Failed = s.Error.Type
	}
	if span := trace.SpanContextFromContext(ctx); span.IsValid() && span.IsSampled() {
		slow.TraceID = span.TraceID().String()
	}
	if s.Cause != nil {
		slow.Found = s.Cause.String()
	}
	d.slowOnes.Add(slow)
}

// failed writes a line about a statement that has failed, and keeps the error for the live page, unless its level is below
// that of a warning: then the caller has cancelled the statement itself.
func (d *Diary) failed(ctx context.Context, s Statement) {
	e := s.Error
	if e.Level < slog.LevelWarn && !d.wants(ctx, e.Level) {
		return
	}
	summary := s.Summary()
	key, text := "failed "+e.Type, summary+": "+e.Message
	attrs := append(make([]slog.Attr, 0, 6), slog.String(keySummary, summary),
		slog.String(keyErrorType, e.Type), slog.String("error_message", e.Message))
	if e.SQLState != "" {
		text += " (SQLSTATE " + e.SQLState + ")"
		attrs = append(attrs, slog.String(keySQLState, e.SQLState))
	}
	if e.Constraint != "" {
		attrs = append(attrs, slog.String("constraint", e.Constraint))
	}
	if !e.HitsAll {
		key += " " + summary
	}
	switch e.Level {
	case slog.LevelError:
		d.errors.Add("statement", key, text)
	case slog.LevelWarn:
		d.errors.AddWarning("statement", key, text)
	}
	attrs = append(attrs, duration("duration", s.Took))
	if s.Took >= d.slow {
		attrs = append(attrs, s.parts()...)
	}
	d.tellOfStatement(ctx, key, e.Level, "pgprod: statement failed", append(attrs, causeAttrs(s.Cause)...)...)
}

// wasSlow writes a line about a statement that was slow. If its wait for the connection took longer than the statement
// itself, the line is about the wait: that the pool was full has nothing to do with the statement.
func (d *Diary) wasSlow(ctx context.Context, s Statement) {
	if !d.wants(ctx, slog.LevelWarn) {
		return
	}
	summary := s.Summary()
	if s.Took < s.Waited {
		d.tell(ctx, &d.ofPool, "waited", slog.LevelWarn, "pgprod: a caller waited long for a connection",
			duration("waited", s.Waited), slog.String(keySummary, summary), duration("duration", s.Took))
		return
	}
	attrs := append([]slog.Attr{slog.String(keySummary, summary), duration("waited", s.Waited)}, s.parts()...)
	attrs = append(append(attrs, s.attrs()...), causeAttrs(s.Cause)...)
	d.tellOfStatement(ctx, "slow "+summary, slog.LevelWarn, "pgprod: slow statement", attrs...)
}

// parts are the attributes that say where the duration of a statement went.
func (s Statement) parts() []slog.Attr {
	return []slog.Attr{duration("server", s.Server), duration("reading", s.Read)}
}

// attrs are the attributes of a line about a statement that has succeeded.
func (s Statement) attrs() []slog.Attr {
	return []slog.Attr{slog.String("statement", shorten(s.Text())), duration("duration", s.Took), slog.Int64("rows", s.Rows())}
}

// causeAttrs are the attributes that say what a slow statement was last found to wait for, and how long it had run then.
// There are none if that isn't known.
func causeAttrs(c *activity.Cause) []slog.Attr {
	if c == nil {
		return nil
	}
	attrs := []slog.Attr{slog.String("cause", c.String()), slog.Duration("seen_after", c.After.Round(time.Millisecond))}
	if own := c.OwnStack(); len(own) > 0 {
		attrs = append(attrs, slog.Any("blocker_stack", own))
	}
	return attrs
}

// A RunningStatement is a statement that is slow and has not ended.
type RunningStatement struct {
	Summary, Text string // without literals
	PID           uint32
	Cause         *activity.Cause // not nil
	Borrower      []string        // the stack of whoever has sent it, the innermost frame first; empty: it was not taken
}

// StillRuns notes that a statement is slow and still runs, for which there will be no other line if it never ends.
func (d *Diary) StillRuns(s RunningStatement) {
	ctx := context.Background()
	attrs := []slog.Attr{slog.String(keySummary, s.Summary), slog.String("statement", shorten(s.Text)),
		slog.Duration("runs", s.Cause.After.Round(time.Millisecond)), pidAttr(s.PID)}
	attrs = append(attrs, causeAttrs(s.Cause)...)
	if len(s.Borrower) > 0 {
		attrs = append(attrs, slog.String("borrower", s.Borrower[0]))
	}
	d.tellOfStatement(ctx, "runs "+s.Summary, slog.LevelWarn, "pgprod: a statement is slow and still runs", attrs...)
}

// maxText is how many bytes of a statement's text are in a line of log.
const maxText = 2000

// shorten cuts a text off after maxText.
func shorten(text string) string {
	return activity.Shorten(text, maxText)
}

// Abandoned notes a statement of which pgx has not reported the end.
func (d *Diary) Abandoned(s Named, f Failure) {
	ctx := context.Background()
	if !d.wants(ctx, slog.LevelError) {
		return
	}
	summary := s.Summary()
	d.tellOfStatement(ctx, "abandoned "+summary, slog.LevelError, "pgprod: statement failed",
		slog.String(keySummary, summary), slog.String(keyErrorType, f.Type), slog.String("error_message", f.Text))
}

// Warned notes a warning of the server, which the statement's caller doesn't see, since the statement succeeds. s is the
// statement under way, nil if there is none. text returns the warning's text; it is called only if the application's handler
// takes warnings, and before Warned returns.
func (d *Diary) Warned(sqlState string, s Named, text func() string) {
	ctx := context.Background()
	if !d.wants(ctx, slog.LevelWarn) {
		return
	}
	key, attrs := "warning "+sqlState, make([]slog.Attr, 0, 3)
	if s != nil {
		summary := s.Summary()
		key += " " + summary
		attrs = append(attrs, slog.String(keySummary, summary))
	}
	attrs = append(attrs, slog.String(keySQLState, sqlState), slog.String("warning", text()))
	d.tellOfStatement(ctx, key, slog.LevelWarn, "pgprod: the server warns", attrs...)
}

// CommitUnknown notes a COMMIT whose outcome is unknown. why is the reason, text says it in words, and message what kept the
// answer from coming.
func (d *Diary) CommitUnknown(why, text, message string) {
	d.errors.Add("commit", "commit unknown "+why, text+": "+message)
	d.tellOfStatement(context.Background(), "commit unknown "+why, slog.LevelError, "pgprod: "+text,
		slog.String("reason", why), slog.String("error_message", message))
}

// BeginsAgain notes, with Options.Echo, that a transaction begins again after a pause, why the attempt before was rolled back,
// and which attempt comes next.
func (d *Diary) BeginsAgain(ctx context.Context, attempt int, why string, pause time.Duration) {
	if d.options.Echo && d.wants(ctx, slog.LevelInfo) {
		d.write(ctx, slog.LevelInfo, "pgprod: a transaction begins again", 0,
			slog.Int("attempt", attempt), slog.String(keyErrorType, why), duration("pause", pause))
	}
}

// Repeated warns of a statement that ran many times in a row, and of the line of code that has called it. It is called once
// for each such statement and line.
func (d *Diary) Repeated(ctx context.Context, r activity.Repetition) {
	message := fmt.Sprintf("pgprod: the same statement ran %d times in a row under one parent: %q called by %s",
		r.Times, r.Summary, r.Caller)
	d.write(ctx, slog.LevelWarn, message, 0, slog.String(keySummary, r.Summary), slog.String("caller", r.Caller),
		slog.String("instead", r.Instead()), slog.Any("stack", r.Stack))
}

// Unkept warns of a statement that has left something in its session which its caller can't use, since the connection went
// back to the pool at once: what it has left, and what to do instead. There is one warning for each text, since the mistake
// is in the program.
func (d *Diary) Unkept(text, what, instead string) {
	if text = shorten(text); !d.unkept.first(text) {
		return
	}
	d.write(context.Background(), slog.LevelWarn,
		"pgprod: "+what+" doesn't outlive its statement: the connection went back to the pool", 0,
		slog.String("statement", text), slog.String("instead", instead))
}

// onceEach remembers texts, so that there is one line for each. The zero value is ready for use. It is safe for concurrent
// use.
type onceEach struct {
	mu   sync.Mutex // guards seen
	seen map[string]bool
}

// maxOnceEach is how many texts are remembered. Those that come later get no line.
const maxOnceEach = 100

// first remembers a text, and reports whether it is a new one for which there was room.
func (o *onceEach) first(text string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.seen[text] || len(o.seen) >= maxOnceEach {
		return false
	}
	if o.seen == nil {
		o.seen = map[string]bool{}
	}
	o.seen[text] = true
	return true
}
