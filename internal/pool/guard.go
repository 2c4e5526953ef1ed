package pool

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

// cancelGrace is how long the server has to confirm that it cancelled a statement. After that the connection is closed.
const cancelGrace = 500 * time.Millisecond

// fate is what cut a statement short, if anything did.
type fate struct {
	timedOut bool  // command_timeout
	caller   error // the caller's context

	after   time.Duration // it had run for; 0: not known
	reading bool          // its first rows had arrived, and the caller had not closed them
}

func (f fate) cut() bool { return f.timedOut || f.caller != nil }

// err is the error of the context that ended it, or that of a deadline for command_timeout; nil if it wasn't cut short.
func (f fate) err() error {
	if f.caller == nil && f.timedOut {
		return context.DeadlineExceeded
	}
	return f.caller
}

// manner is how a statement is ended before its time.
type manner uint8

const (
	// cancelling asks the server to cancel it. This is how statements are ended, unless another manner is given.
	cancelling manner = iota
	// hangingUp gives the connection up at once. It is for our own pings, of which there is nothing to cancel.
	hangingUp
	// waiting is for COMMIT. A cancel request that hits a COMMIT makes the server report a transaction as committed that
	// no synchronous standby has confirmed, so none is sent, by us or by pgx. The caller's context doesn't end it either;
	// after command_timeout the connection is given up.
	waiting
)

// A guard ends the statements of one connection: after command_timeout, and when the caller's context ends. As a rule
// it asks the server to cancel, so that the connection survives, and sets a deadline on the socket for a server that
// doesn't answer; the manner says where that is different.
//
// pgx is given the caller's context unchanged: a context with a timeout of our own, which pgx then watches, would cost
// each statement several allocations. Nor is a timer started and stopped for each: begin only notes the deadline. The
// timer, once running, looks at it when it fires and goes on for what is left, so that a busy connection touches it once
// per command_timeout.
//
// Only one statement runs at a time. What the timer's goroutine and pgx's watcher write is read after they are done.
type guard struct {
	pg    *pgconn.PgConn
	fate  fate
	how   manner
	stale bool   // a cancel request was sent: it may still be on its way to the server
	asked manner // what HandleCancel did when the context ended
	again bool   // cameLate has been granted for the statement

	late    atomic.Bool // the server has not acknowledged a cancel request: it may hit whatever runs at any time
	sparing atomic.Bool // a COMMIT is under way, or was when the connection was lost: pgx must not send a cancel request

	quiet func() bool // the server owes no answer

	deadline atomic.Int64 // of the statement under way, by clock(); 0: there is none, expired: the timer is ending it
	running  atomic.Bool  // the timer will fire
	timer    *time.Timer
	fired    chan struct{} // gets one value when the timer has ended a statement
}

const (
	expired   = -1
	unlimited = math.MaxInt64
)

// started is the origin of clock: reading the monotonic clock alone costs half of time.Now.
var started = time.Now()

func clock() int64 { return int64(time.Since(started)) }

func newGuard() *guard {
	g := &guard{fired: make(chan struct{}, 1)}
	g.timer = time.AfterFunc(time.Hour, g.look)
	g.timer.Stop()
	return g
}

// begin starts the time of a statement at now; zero is no limit.
func (g *guard) begin(now int64, limit time.Duration, how manner) {
	g.fate, g.again, g.how = fate{}, false, how
	if how == waiting {
		g.sparing.Store(true)
	}
	if limit <= 0 {
		g.deadline.Store(unlimited)
		return
	}
	g.deadline.Store(now + int64(limit))
	if !g.running.Load() && g.running.CompareAndSwap(false, true) {
		g.timer.Reset(limit)
	}
}

// end stops it. If the time was up in this very moment it waits until the cancel request is out of the way: until then the
// timer's goroutine reads how.
func (g *guard) end() {
	how := g.how
	if g.deadline.Swap(0) == expired {
		<-g.fired
		g.fate.timedOut = true
		g.settle(how)
	}
	g.how = cancelling
	if how == waiting && !g.pg.IsClosed() {
		g.sparing.Store(false)
	}
}

// look is the timer's function.
func (g *guard) look() {
	deadline := g.deadline.Load()
	switch left := deadline - clock(); {
	case !limits(deadline):
	case left > 0:
		g.timer.Reset(time.Duration(left))
		return
	case g.deadline.CompareAndSwap(deadline, expired):
		g.interrupt(g.how)
		g.fired <- struct{}{}
	}
	g.running.Store(false)
	// A statement that began before this line has seen the timer running.
	if next := g.deadline.Load(); limits(next) && g.running.CompareAndSwap(false, true) {
		g.timer.Reset(max(0, time.Duration(next-clock())))
	}
}

// limits reports whether there is a statement, and a time at which it has to end. Without one the timer must not run: the
// next statement would take it for its own.
func limits(deadline int64) bool { return deadline > 0 && deadline != unlimited }

// stop is called when the connection is closed.
func (g *guard) stop() {
	g.deadline.Store(0)
	g.timer.Stop()
}

var _ ctxwatch.Handler = (*guard)(nil)

// HandleCancel implements pgx's ctxwatch.Handler: the caller's context ended. Where the server owes no answer (during a
// wait for notifications, or a health check's question on a connection of its own) there is nothing to cancel.
func (g *guard) HandleCancel(ctx context.Context) {
	g.asked = g.how
	switch {
	case g.deadline.Load() == 0 && g.quiet():
		g.asked = hangingUp
	case g.how != waiting:
		g.fate.caller = ctx.Err()
	default:
		return
	}
	g.interrupt(g.asked)
}

// HandleUnwatchAfterCancel is called when the statement is over, after HandleCancel has returned.
func (g *guard) HandleUnwatchAfterCancel() {
	if g.asked != waiting {
		g.settle(g.asked)
	}
}

// interrupt ends what is under way: at the server, or by a deadline that has passed.
func (g *guard) interrupt(how manner) {
	if how == cancelling {
		g.cancel()
		return
	}
	_ = g.pg.Conn().SetDeadline(time.Now())
}

func (g *guard) cancel() {
	deadline := time.Now().Add(cancelGrace)
	_ = g.pg.Conn().SetDeadline(deadline)
	ctx, stop := context.WithDeadline(context.Background(), deadline)
	defer stop()
	// An error means that the server can't be told; then the deadline ends the statement. pgx gives none where the
	// acknowledgement doesn't come.
	if err := g.pg.CancelRequest(ctx); err != nil || !time.Now().Before(deadline) {
		g.late.Store(true)
	}
}

// lastLook is how long a caller gets to read what is there who comes back to its rows after they were cut short.
const lastLook = 100 * time.Millisecond

// cameLate is asked when a read has run into a deadline, and reports whether to read again, once for each statement. The
// caller may have come only now, and find in the socket what the server had said in time.
func (g *guard) cameLate() bool {
	if g.again || g.deadline.Load() != expired {
		return false
	}
	g.again = true
	_ = g.pg.Conn().SetReadDeadline(time.Now().Add(lastLook))
	return true
}

// settle is called after interrupt. The server acknowledges a cancel request when it has signalled the backend, not when
// the backend has seen the signal, so the connection must be proven before its next statement (see conn.ready).
func (g *guard) settle(how manner) {
	_ = g.pg.Conn().SetDeadline(time.Time{})
	if how == cancelling {
		g.stale = true
	}
}
