package diary

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// A Named is a statement that can say what it is. Most statements are never asked, and no summary is looked up for them. One
// that is asked is asked before the Diary's method returns, by the goroutine that called it.
type Named interface {
	Summary() string // a few words, without a literal
	Text() string    // the whole text, without a literal
}

// A Statement is one that has ended.
type Statement struct {
	Named
	Took   time.Duration
	Waited time.Duration // its caller, for the connection; 0 unless it was the first on it
	Rows   int64
	Error  *StatementError // nil: it has succeeded
}

// A StatementError says how a statement has failed, in words that may be shown.
type StatementError struct {
	Level      slog.Level // of the line: how much of it an application has to expect
	Type       string     // its class, the same as in metrics
	Message    string
	SQLState   string // "" if it isn't the server that says so
	Constraint string // the name of the one that was broken, "" if there is none
	HitsAll    bool   // the cause isn't the statement's: one that fails tells as much as the next
}

// Statement notes that a statement has ended. It writes a line if the statement has failed or was slow, or if there is to be
// one for each, and keeps its duration if somebody watches. Of any other statement nothing is kept, and it costs nothing.
func (d *Diary) Statement(ctx context.Context, s Statement) {
	if seen := d.statements.Load(); seen != nil {
		seen.Record(s.Summary(), s.Took, s.Rows, s.Error != nil)
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

// failed writes a line, and keeps the error for the live page unless it is the caller's own doing.
func (d *Diary) failed(ctx context.Context, s Statement) {
	e := s.Error
	if e.Level < slog.LevelWarn && !d.wants(ctx, e.Level) {
		return
	}
	summary := s.Summary()
	key, text := "failed "+e.Type, summary+": "+e.Message
	attrs := append(make([]slog.Attr, 0, 6), slog.String("summary", summary),
		slog.String("error_type", e.Type), slog.String("error_message", e.Message))
	if e.SQLState != "" {
		text += " (SQLSTATE " + e.SQLState + ")"
		attrs = append(attrs, slog.String("sqlstate", e.SQLState))
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
	d.tellOfStatement(ctx, key, e.Level, "pgprod: statement failed", append(attrs, duration("duration", s.Took))...)
}

// wasSlow writes a line about a statement that was slow, or about its wait for a connection if that was the longer part: a
// wait is the pool's matter and no statement's.
func (d *Diary) wasSlow(ctx context.Context, s Statement) {
	if !d.wants(ctx, slog.LevelWarn) {
		return
	}
	summary := s.Summary()
	if s.Took < s.Waited {
		d.tell(ctx, &d.ofPool, "waited", slog.LevelWarn, "pgprod: a caller waited long for a connection",
			duration("waited", s.Waited), slog.String("summary", summary), duration("duration", s.Took))
		return
	}
	attrs := append([]slog.Attr{slog.String("summary", summary), duration("waited", s.Waited)}, s.attrs()...)
	d.tellOfStatement(ctx, "slow "+summary, slog.LevelWarn, "pgprod: slow statement", attrs...)
}

func (s Statement) attrs() []slog.Attr {
	return []slog.Attr{slog.String("statement", shorten(s.Text())), duration("duration", s.Took), slog.Int64("rows", s.Rows)}
}

// maxText bounds the text of a statement in a line of log.
const maxText = 2000

func shorten(text string) string {
	if len(text) > maxText {
		return strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

// Abandoned notes a statement whose end nobody saw.
func (d *Diary) Abandoned(s Named, f Failure) {
	ctx := context.Background()
	if !d.wants(ctx, slog.LevelError) {
		return
	}
	summary := s.Summary()
	d.tellOfStatement(ctx, "abandoned "+summary, slog.LevelError, "pgprod: statement failed",
		slog.String("summary", summary), slog.String("error_type", f.Type), slog.String("error_message", f.Text))
}

// Warned notes a warning of the server: a statement's caller sees nothing of it, since the statement succeeds. s is the
// statement that is under way, nil if there is none. text is called, at once, only if the application's handler takes
// warnings.
func (d *Diary) Warned(sqlState string, s Named, text func() string) {
	ctx := context.Background()
	if !d.wants(ctx, slog.LevelWarn) {
		return
	}
	key, attrs := "warning "+sqlState, make([]slog.Attr, 0, 3)
	if s != nil {
		summary := s.Summary()
		key += " " + summary
		attrs = append(attrs, slog.String("summary", summary))
	}
	attrs = append(attrs, slog.String("sqlstate", sqlState), slog.String("warning", text()))
	d.tellOfStatement(ctx, key, slog.LevelWarn, "pgprod: the server warns", attrs...)
}

// CommitUnknown notes a COMMIT that was sent and not answered: unknown is the error that says so, why is what was in the way
// of the answer.
func (d *Diary) CommitUnknown(unknown error, why string) {
	d.tellOfStatement(context.Background(), "commit unknown", slog.LevelError, unknown.Error(), slog.String("error_message", why))
}

// Unkept warns of a statement that did nothing but to leave something in its session, where its caller can't use it any more:
// what that is, and where it should be done instead. Each text is warned of once, since the mistake is in the program.
func (d *Diary) Unkept(text, what, instead string) {
	if text = shorten(text); !d.unkept.first(text) {
		return
	}
	d.write(context.Background(), slog.LevelWarn,
		"pgprod: "+what+" doesn't outlive its statement: the connection went back to the pool", 0,
		slog.String("statement", text), slog.String("instead", instead))
}

// onceEach remembers texts, so that each of them is told once. The zero value is ready.
type onceEach struct {
	mu   sync.Mutex // guards told
	told map[string]bool
}

// maxOnceEach bounds how many texts are told.
const maxOnceEach = 100

// first reports whether a text is a new one, and there is room for it.
func (o *onceEach) first(text string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.told[text] || len(o.told) >= maxOnceEach {
		return false
	}
	if o.told == nil {
		o.told = map[string]bool{}
	}
	o.told[text] = true
	return true
}
