// Package guard ends the statements of one connection in time: after command_timeout, and when the caller's context ends.
//
// As a rule it asks the server to cancel the statement, so that the connection survives, and sets a deadline on the
// socket for a server that doesn't answer. A Manner says where that is different.
package guard

import (
	"context"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/pgprod/pgprod/internal/clock"
)

const (
	// CancelGrace is how long the server has to confirm that it has cancelled a statement. Then the connection is closed.
	CancelGrace = 500 * time.Millisecond
	// LastLook is how long a caller has to read what had arrived in time, if it comes back to its rows only after they were
	// cut short.
	LastLook = 100 * time.Millisecond
)

// Conn is what a guard needs of a connection.
type Conn interface {
	Conn() net.Conn
	CancelRequest(context.Context) error
	IsClosed() bool
}

var _ Conn = (*pgconn.PgConn)(nil)

// A Cut says what cut a statement short, if anything did.
type Cut struct {
	TimedOut bool  // command_timeout
	Caller   error // the error of the caller's context, nil if that has not ended
}

// Happened reports whether the statement was cut short.
func (c Cut) Happened() bool { return c.TimedOut || c.Caller != nil }

// Err is the error of the context that ended the statement, context.DeadlineExceeded for command_timeout, or nil.
func (c Cut) Err() error {
	if c.Caller == nil && c.TimedOut {
		return context.DeadlineExceeded
	}
	return c.Caller
}

// Manner is how a statement is ended before its time.
type Manner uint8

const (
	// Cancelling asks the server to cancel it. This is how statements are ended, unless another manner is given.
	Cancelling Manner = iota
	// HangingUp gives the connection up at once. It is for our own pings, of which there is nothing to cancel.
	HangingUp
	// Waiting is for COMMIT. A cancel request that hits a COMMIT makes the server report a transaction as committed that
	// no synchronous standby has confirmed, so none is sent, by us or by pgx. The caller's context doesn't end a COMMIT
	// either; after command_timeout the connection is given up.
	Waiting
)

// A Guard belongs to one connection, on which one statement runs at a time: Begin, End and whatever isn't said to be safe
// for concurrent use are called by the goroutine that uses the connection.
//
// Three goroutines meet here: that one, the timer's, and pgx's watcher of the caller's context. The timer's writes nothing
// that the others read without an atomic, but for the connection's deadlines; End waits for it if the time was up in that
// very moment. pgx ends its watcher, and waits for it, before it calls End's caller.
//
// pgx is given the caller's context unchanged: a context with a timeout of our own, which pgx would then watch, would
// cost each statement several allocations. Nor is a timer started and stopped for each: Begin only notes the deadline. The
// timer, once running, looks at the deadline when it fires and goes on for what is left, so that a busy connection touches
// it once per command_timeout. Only a deadline before the one that the timer runs for has Begin touch it.
type Guard struct {
	conn  Conn
	cut   Cut
	how   Manner
	did   Manner // what HandleCancel did when the context ended; Waiting: nothing
	again bool   // ReadAgain has been granted for the statement
	stale bool   // a cancel request was sent: it may still be on its way to the server

	interrupted    atomic.Bool // the timer or HandleCancel has interrupted the statement, whoever was first
	unacknowledged atomic.Bool // the server has not acknowledged a cancel request: it may hit whatever runs at any time
	sparing        atomic.Bool // a COMMIT is under way, or was when the connection was lost

	idle func() bool // the server owes no answer

	deadline atomic.Int64  // of the statement under way, by package clock; or one of the constants below
	fired    chan struct{} // gets one value when the timer has ended a statement

	mu    sync.Mutex   // guards timer and writes to due: whoever changes one changes the other
	due   atomic.Int64 // the timer fires no later, by package clock; 0: it need not fire
	timer *time.Timer
}

// What a deadline may be besides a time.
const (
	none      = 0  // there is no statement
	expired   = -1 // the timer is ending the statement, or has
	unlimited = math.MaxInt64
)

var _ ctxwatch.Handler = (*Guard)(nil)

// New returns a guard for a connection that is about to be made. idle reports whether the server owes no answer; it must be
// safe for concurrent use.
func New(idle func() bool) *Guard {
	g := &Guard{idle: idle, fired: make(chan struct{}, 1)}
	g.timer = time.AfterFunc(time.Hour, g.fire)
	g.timer.Stop()
	return g
}

// Watch tells the guard its connection, before the first statement.
func (g *Guard) Watch(c Conn) { g.conn = c }

// Begin starts the time of a statement at now; zero is no limit. End must follow.
func (g *Guard) Begin(now int64, limit time.Duration, how Manner) {
	g.cut, g.again, g.how = Cut{}, false, how
	if g.interrupted.Load() { // to store is dearer than to look
		g.interrupted.Store(false)
	}
	if how == Waiting {
		g.sparing.Store(true)
	}
	if limit <= 0 {
		g.deadline.Store(unlimited)
		return
	}
	deadline := now + int64(limit)
	g.deadline.Store(deadline)
	if due := g.due.Load(); due == 0 || deadline < due {
		g.hasten(deadline)
	}
}

// hasten makes the timer fire at deadline, unless it fires before.
func (g *Guard) hasten(deadline int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if due := g.due.Load(); due == 0 || deadline < due {
		g.setTimerLocked(deadline)
	}
}

// setTimerLocked makes the timer fire at deadline. g.mu is held.
func (g *Guard) setTimerLocked(deadline int64) {
	g.due.Store(deadline)
	g.timer.Reset(time.Duration(deadline - clock.Now()))
}

// End stops the time of the statement. If it was up in this very moment, End waits until the cancel request is out of the
// way: until then the timer's goroutine reads how. End may be called when there is no statement.
func (g *Guard) End() {
	how := g.how
	if g.deadline.Swap(none) == expired {
		<-g.fired
		g.cut.TimedOut = true
		g.settle(how)
	}
	g.how = Cancelling
	if how == Waiting && !g.conn.IsClosed() {
		g.sparing.Store(false)
	}
}

// Stop is called when the connection is closed, perhaps in the midst of a statement of which nobody will see the end.
func (g *Guard) Stop() {
	g.deadline.Store(none)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.due.Store(0)
	g.timer.Stop()
}

// Cut says what cut the last statement short, or has cut the present one.
func (g *Guard) Cut() Cut { return g.cut }

// Forget forgets what cut the last statement short.
func (g *Guard) Forget() { g.cut = Cut{} }

// Stale reports whether the connection must answer a ping before its next statement, which a cancel request that is
// still on its way would hit otherwise.
func (g *Guard) Stale() bool { return g.stale }

// Answered is called when a ping was answered, before or after its End: it is no longer stale, unless the ping itself was
// cut short, whose cancel request may come yet.
func (g *Guard) Answered() { g.stale = g.cut.Happened() }

// Unacknowledged reports whether a cancel request got lost: the connection must not be used again.
func (g *Guard) Unacknowledged() bool { return g.unacknowledged.Load() }

// Sparing reports whether a COMMIT is under way, or was when the connection was lost: nobody must send a cancel request.
// It is safe for concurrent use.
func (g *Guard) Sparing() bool { return g.sparing.Load() }

// State reports whether a statement is under way, or was ended by command_timeout while its rows are not closed. It is
// safe for concurrent use.
func (g *Guard) State() (running, timedOut bool) {
	deadline := g.deadline.Load()
	return deadline > 0, deadline == expired
}

// fire is the timer's function. It may come early, for a deadline of the past, or twice at once, if Begin has hastened it
// in the moment in which it fired: it goes by the present deadline only.
func (g *Guard) fire() {
	deadline := g.deadline.Load()
	if limits(deadline) && deadline <= clock.Now() && g.deadline.CompareAndSwap(deadline, expired) {
		if g.interrupted.CompareAndSwap(false, true) {
			g.interrupt(g.how)
		}
		g.fired <- struct{}{}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	// A statement that begins after this line sets the timer itself; one that began before it may have relied on this one.
	g.due.Store(0)
	if next := g.deadline.Load(); limits(next) {
		g.setTimerLocked(next)
	}
}

// limits reports whether there is a statement, and a time at which it has to end.
func limits(deadline int64) bool { return deadline > 0 && deadline != unlimited }

// HandleCancel implements ctxwatch.Handler: the caller's context has ended. Where the server owes no answer (during a
// wait for notifications, or a health check's question on a connection of its own) there is nothing to cancel. If the timer
// has interrupted the statement, HandleCancel only notes the end of the context: a second cancel request would do no more
// than the first, and would give a server that doesn't answer CancelGrace once more.
func (g *Guard) HandleCancel(ctx context.Context) {
	g.did = g.how
	begun := g.deadline.Load() != none
	switch {
	case !begun && g.idle():
		g.did = HangingUp
	case g.how != Waiting:
		g.cut.Caller = ctx.Err()
	default:
		return
	}
	if begun && !g.interrupted.CompareAndSwap(false, true) {
		g.did = Waiting
		return
	}
	g.interrupt(g.did)
}

// HandleUnwatchAfterCancel implements ctxwatch.Handler. It is called when the statement is over, after HandleCancel has
// returned.
func (g *Guard) HandleUnwatchAfterCancel() {
	if g.did != Waiting {
		g.settle(g.did)
	}
}

// interrupt ends what is under way: at the server, or by a deadline that has passed.
func (g *Guard) interrupt(how Manner) {
	if how == Cancelling {
		g.cancel()
		return
	}
	_ = g.conn.Conn().SetDeadline(time.Now())
}

func (g *Guard) cancel() {
	deadline := time.Now().Add(CancelGrace)
	_ = g.conn.Conn().SetDeadline(deadline)
	ctx, stop := context.WithDeadline(context.Background(), deadline)
	defer stop()
	// An error means that the server can't be told; then the deadline ends the statement. pgx gives none where the
	// acknowledgement doesn't come.
	if err := g.conn.CancelRequest(ctx); err != nil || !time.Now().Before(deadline) {
		g.unacknowledged.Store(true)
	}
}

// ReadAgain is asked when a read has run into a deadline, and reports whether to read again, once for each statement. The
// caller may have come only now, and find in the socket what the server had said in time.
func (g *Guard) ReadAgain() bool {
	if g.again || g.deadline.Load() != expired {
		return false
	}
	g.again = true
	_ = g.conn.Conn().SetReadDeadline(time.Now().Add(LastLook))
	return true
}

// settle is called after interrupt. The server acknowledges a cancel request when it has signalled the backend, not when
// the backend has seen the signal, so that the connection is stale.
func (g *Guard) settle(how Manner) {
	_ = g.conn.Conn().SetDeadline(time.Time{})
	if how == Cancelling {
		g.stale = true
	}
}
