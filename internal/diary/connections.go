package diary

import (
	"context"
	"iter"
	"log/slog"
	"maps"
	"strconv"
	"time"
)

// pid is the attribute that names a connection: the process that serves it.
func pid(pid uint32) slog.Attr { return slog.Uint64("pid", uint64(pid)) }

func backend(pid uint32) string { return "backend " + strconv.FormatUint(uint64(pid), 10) }

// Connected notes that a connection was made; overflow says that it is one beyond pool_size.
func (d *Diary) Connected(ctx context.Context, by uint32, took time.Duration, overflow bool) {
	kind, message := "connect", "pgprod: connect"
	if overflow {
		kind, message = "overflow", "pgprod: overflow: connected beyond pool_size"
	}
	d.events.Add(kind, "", backend(by)+" after "+took.Round(time.Microsecond).String())
	if d.options.EchoPool {
		d.write(ctx, slog.LevelInfo, message, 0, duration("took", took), pid(by))
	}
}

// closings are what the reasons for closing a connection mean.
var closings = map[string]string{
	"lifetime": "recycle: older than pool_recycle",
	"idle":     "close: idle for pool_idle_timeout",
	"overflow": "close: beyond pool_size",
	"invalid":  "invalidate: dead, or as old as one that was lost",
	"dirty":    "close: its session was changed, or left in the middle of something",
	"closed":   "close: the pool is closed",
}

// Reasons are the reasons for closing a connection.
func Reasons() iter.Seq[string] { return maps.Keys(closings) }

// Closed notes that the pool has dropped a connection. The reason is one of Reasons.
func (d *Diary) Closed(by uint32, reason string) {
	d.events.Add("close", reason, backend(by)+": "+reason)
	if d.options.EchoPool {
		d.write(context.Background(), slog.LevelInfo, "pgprod: "+closings[reason], 0, slog.String("reason", reason), pid(by))
	}
}

// CheckedOut notes that a caller has got a connection.
func (d *Diary) CheckedOut(ctx context.Context, by uint32, waited time.Duration) {
	if d.options.EchoPool {
		d.write(ctx, slog.LevelInfo, "pgprod: checkout", 0, duration("waited", waited), pid(by))
	}
}

// CheckedIn notes that a caller has given its connection back.
func (d *Diary) CheckedIn(by uint32, held time.Duration) {
	if d.options.EchoPool {
		d.write(context.Background(), slog.LevelInfo, "pgprod: checkin", 0, duration("held", held), pid(by))
	}
}

// Unserved notes that a caller got no connection, for a reason that isn't its own doing.
func (d *Diary) Unserved(ctx context.Context, f Failure, waited time.Duration) {
	d.errors.Add("no connection", f.Sort, f.Text)
	d.tell(ctx, &d.ofPool, "no connection "+f.Type, slog.LevelError, "pgprod: a caller got no connection",
		slog.String("error_type", f.Type), slog.String("error_message", f.Text), duration("waited", waited))
}

// A Leak is a connection that somebody has held for leak_detection or longer.
type Leak struct {
	PID      uint32
	Held     time.Duration
	Summary  string   // of its last statement
	Borrower []string // the stack of whoever has it, the innermost frame first; empty: it was not taken, and soon will be

	Running        bool // a statement is under way
	RowsOpen       bool // command_timeout has ended one whose rows were not closed
	WaitsForItself bool // what its caller is busy with may be a wait for another connection
}

const (
	// waitsForItself is what to look for where a connection is held and not by a statement at work: a caller that waits in
	// database/sql for its own connection to come back. pgprod can't see that it does.
	waitsForItself = "a statement for the *sql.DB within this one's rows or transaction waits for it for ever, in database/sql, " +
		"if SetMaxOpenConns leaves no room for a second connection"

	stackNotTaken = "not taken: the pool is too busy to take each borrower's; for the next ten minutes it does"
)

// LeakFound notes a leak, once for each time that a connection is lent.
func (d *Diary) LeakFound(l Leak) {
	held, at, stack := l.Held.Round(time.Millisecond), l.Summary, []string{stackNotTaken}
	if len(l.Borrower) > 0 {
		at, stack = l.Borrower[0], l.Borrower
	}
	d.events.Add("leak", at, "held for "+held.String()+" ("+l.Summary+") by "+at)
	attrs := []slog.Attr{slog.Duration("held", held), slog.String("summary", l.Summary), slog.Bool("running", l.Running)}
	if l.RowsOpen {
		attrs = append(attrs, slog.Bool("rows_open", true))
	}
	if l.WaitsForItself {
		attrs = append(attrs, slog.String("hint", waitsForItself))
	}
	attrs = append(attrs, pid(l.PID), slog.Any("stack", stack))
	d.tell(context.Background(), &d.ofCallers, "leak "+at, slog.LevelWarn,
		"pgprod: a connection is held for long: close rows, end transactions, close *sql.Conns", attrs...)
}

// LeakBack notes that a connection was given back whose leak was noted. Its Summary is that of the leak, so that the lines
// match: the last statement may be a COMMIT by now, which tells nothing.
func (d *Diary) LeakBack(l Leak) {
	at := l.Summary
	attrs := []slog.Attr{slog.Duration("held", l.Held.Round(time.Millisecond)), slog.String("summary", l.Summary), pid(l.PID)}
	if len(l.Borrower) > 0 {
		at = l.Borrower[0]
		attrs = append(attrs, slog.String("borrower", at))
	}
	d.tell(context.Background(), &d.ofCallers, "back "+at, slog.LevelInfo,
		"pgprod: a connection that was held for long came back", attrs...)
}
