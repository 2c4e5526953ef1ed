package diary

import (
	"context"
	"iter"
	"log/slog"
	"maps"
	"strconv"
	"time"
)

// pidAttr is the attribute that names a connection by the server's process that serves it.
func pidAttr(pid uint32) slog.Attr { return slog.Uint64("pid", uint64(pid)) }

// backend names a connection by the server's process, for the live page.
func backend(pid uint32) string { return "backend " + strconv.FormatUint(uint64(pid), 10) }

// Connected notes that a connection was made, which took so long; overflow says that it is one beyond pool_size.
func (d *Diary) Connected(ctx context.Context, pid uint32, took time.Duration, overflow bool) {
	kind, message := "connect", "pgprod: connect"
	if overflow {
		kind, message = "overflow", "pgprod: overflow: connected beyond pool_size"
	}
	d.events.Add(kind, "", backend(pid)+" after "+took.Round(time.Microsecond).String())
	if d.options.EchoPool {
		d.write(ctx, slog.LevelInfo, message, 0, duration("took", took), pidAttr(pid))
	}
}

// closings has a text for each reason for closing a connection, for a line of log.
var closings = map[string]string{
	"lifetime":    "recycle: older than pool_recycle",
	"credentials": "close: its credentials are about to end",
	"moved":       "close: a better host is back, or its host's name leads elsewhere",
	"idle":        "close: idle for pool_idle_timeout",
	"overflow":    "close: beyond pool_size",
	"invalid":     "invalidate: dead, or as old as one that was lost",
	"dirty":       "close: its session was changed, or left in the middle of something",
	"closed":      "close: the pool is closed",
}

// Reasons returns the words for the reasons for closing a connection, which are the values of pgprod.reason in metrics.
func Reasons() iter.Seq[string] { return maps.Keys(closings) }

// Closed notes that the pool has closed a connection. The reason is one of Reasons.
func (d *Diary) Closed(pid uint32, reason string) {
	d.events.Add("close", reason, backend(pid)+": "+reason)
	if d.options.EchoPool {
		d.write(context.Background(), slog.LevelInfo, "pgprod: "+closings[reason], 0, slog.String("reason", reason), pidAttr(pid))
	}
}

// CheckedOut notes that a caller has got a connection.
func (d *Diary) CheckedOut(ctx context.Context, pid uint32, waited time.Duration) {
	if d.options.EchoPool {
		d.write(ctx, slog.LevelInfo, "pgprod: checkout", 0, duration("waited", waited), pidAttr(pid))
	}
}

// CheckedIn notes that a caller has given its connection back.
func (d *Diary) CheckedIn(pid uint32, held time.Duration) {
	if d.options.EchoPool {
		d.write(context.Background(), slog.LevelInfo, "pgprod: checkin", 0, duration("held", held), pidAttr(pid))
	}
}

// Unserved notes that a caller got no connection after it had waited. It is not called if the caller gave up by itself.
func (d *Diary) Unserved(ctx context.Context, f Failure, waited time.Duration) {
	d.errors.Add("no connection", f.Sort, f.Text)
	d.tell(ctx, &d.ofPool, "no connection "+f.Type, slog.LevelError, "pgprod: a caller got no connection",
		slog.String(keyErrorType, f.Type), slog.String("error_message", f.Text), duration("waited", waited))
}

// A Leak is a connection that a borrower has had for leak_detection or longer.
type Leak struct {
	PID      uint32        // the server's process that serves the connection
	Held     time.Duration // how long the borrower has had it
	Summary  string        // a few words for the borrower's last statement
	Borrower []string      // the borrower's stack, the innermost frame first; empty: it was not taken

	Running        bool // a statement is under way
	RowsOpen       bool // command_timeout has ended a statement whose rows are not closed
	WaitsForItself bool // the borrower may be waiting for another connection, which database/sql doesn't give it
}

const (
	// waitsForItself is the hint for a leak whose borrower isn't waiting for the server. It may wait in database/sql for a
	// second connection that SetMaxOpenConns doesn't allow, so that it waits for its own. pgprod can't see whether it does.
	waitsForItself = "a statement for the *sql.DB within this one's rows or transaction waits for it for ever, in database/sql, " +
		"if SetMaxOpenConns leaves no room for a second connection"

	stackNotTaken = "not taken: the pool is too busy to take each borrower's; for the next ten minutes it does"
)

// LeakFound notes a leak. It is called at most once for each time that a connection is lent.
func (d *Diary) LeakFound(l Leak) {
	held, at, stack := l.Held.Round(time.Millisecond), l.Summary, []string{stackNotTaken}
	if len(l.Borrower) > 0 {
		at, stack = l.Borrower[0], l.Borrower
	}
	d.events.Add("leak", at, "held for "+held.String()+" ("+l.Summary+") by "+at)
	attrs := []slog.Attr{slog.Duration("held", held), slog.String(keySummary, l.Summary), slog.Bool("running", l.Running)}
	if l.RowsOpen {
		attrs = append(attrs, slog.Bool("rows_open", true))
	}
	if l.WaitsForItself {
		attrs = append(attrs, slog.String("hint", waitsForItself))
	}
	attrs = append(attrs, pidAttr(l.PID), slog.Any("stack", stack))
	d.tell(context.Background(), &d.ofCallers, "leak "+at, slog.LevelWarn,
		"pgprod: a connection is held for long: close rows, end transactions, close *sql.Conns", attrs...)
}

// LeakBack notes that a connection was given back for which LeakFound was called. Its Summary is the same as then, so that
// the two lines match: the last statement may be a COMMIT by now, which would not say what the connection was used for.
func (d *Diary) LeakBack(l Leak) {
	at := l.Summary
	attrs := []slog.Attr{slog.Duration("held", l.Held.Round(time.Millisecond)), slog.String(keySummary, l.Summary), pidAttr(l.PID)}
	if len(l.Borrower) > 0 {
		at = l.Borrower[0]
		attrs = append(attrs, slog.String("borrower", at))
	}
	d.tell(context.Background(), &d.ofCallers, "back "+at, slog.LevelInfo,
		"pgprod: a connection that was held for long came back", attrs...)
}
