// Package guard ends the statements of one connection in time: after command_timeout, and when the caller's context ends.
//
// As a rule it sends the server a cancel request, so that the connection stays usable, and sets a deadline on the socket in
// case the server doesn't react. A Manner says where it is done in another way.
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
	// CancelGrace is how long the server may take to react to a cancel request. After that the connection is closed.
	CancelGrace = 500 * time.Millisecond
	// LateRead is how long a read may take that begins only after command_timeout has ended the statement. In this time a
	// caller can still read what had arrived before.
	LateRead = 100 * time.Millisecond
)

// Conn is what a guard needs of a connection: pgx's methods, which may be called by any goroutine.
type Conn interface {
	Conn() net.Conn
	CancelRequest(context.Context) error
	IsClosed() bool
}

var _ Conn = (*pgconn.PgConn)(nil)

// A Cut says what cut a statement short. The zero value says that nothing did.
type Cut struct {
	TimedOut bool  // command_timeout has passed
	Caller   error // the error of the caller's context if that has ended, else nil
}

// Happened reports whether the statement was cut short.
func (c Cut) Happened() bool { return c.TimedOut || c.Caller != nil }

// Err returns the error of the caller's context if that has ended, context.DeadlineExceeded if only command_timeout has
// passed, and nil if nothing cut the statement short.
func (c Cut) Err() error {
	if c.Caller == nil && c.TimedOut {
		return context.DeadlineExceeded
	}
	return c.Caller
}

// A Manner is a way to end a statement early.
type Manner uint8

const (
	// Cancelling sends a cancel request to the server. It is the manner of all statements for which no other is given.
	Cancelling Manner = iota
	// HangingUp makes reads and writes fail at once, so that pgx closes the connection. It is for pings of our own: there is
	// nothing to cancel.
	HangingUp
	// Waiting is for COMMIT. If a cancel request hits a COMMIT that waits for a synchronous standby, the server reports the
	// transaction as committed though no standby has confirmed it. So neither we nor pgx send one, and the end of the caller's
	// context is ignored. After command_timeout the connection is given up, as in HangingUp.
	Waiting
)

// A Guard belongs to one connection, on which one statement runs at a time. Begin, End and the other methods are called by
// the goroutine that uses the connection, unless they say that they are safe for concurrent use.
//
// Three goroutines use a Guard: that one, the timer's (fire), and pgx's watcher of the caller's context (HandleCancel). The
// fields up to stale need no lock:
//
//   - The timer's goroutine only reads how, and only between setting deadline to expired and sending to fired. End waits for
//     the latter before it changes how. All that it writes is atomic, or a deadline of the connection.
//   - pgx's watcher runs only during a call of pgx's: pgx stops it, and waits for it, before it reports the end of the call.
//
// pgx gets the caller's context unchanged. A context with a timeout of our own would cost each statement several
// allocations. Nor is the timer set for each statement: Begin only notes the deadline. When the timer fires it looks at the
// deadline, and is set again for what is left, so that on a busy connection it is set once in command_timeout. Begin sets it
// only if it doesn't run, or would fire after the new deadline.
type Guard struct {
	conn      Conn
	cut       Cut    // what cut the last statement short, or has cut the present one
	how       Manner // the manner in which the statement under way is ended
	did       Manner // what HandleCancel did when the caller's context ended; Waiting: nothing
	readAgain bool   // ReadAgain has reported true during the statement
	stale     bool   // a cancel request was sent that may still be on its way

	interrupted    atomic.Bool // the statement was interrupted, by the timer or by HandleCancel: only the first of them does it
	unacknowledged atomic.Bool // the server has not acknowledged a cancel request, so that it may hit any later statement
	sparing        atomic.Bool // a COMMIT is under way, or was when the connection was lost

	idle func() bool // reports whether the server has answered all that was sent; not changed

	deadline atomic.Int64  // when the statement under way must be over, by package clock; or one of the constants below
	fired    chan struct{} // gets a value each time when the timer has ended a statement; End receives it

	mu    sync.Mutex   // guards timer, and writes of due: both are changed together; nothing else is locked under it
	due   atomic.Int64 // by package clock: the timer fires then or earlier; 0: it may not be running
	timer *time.Timer  // calls fire
}

var _ ctxwatch.Handler = (*Guard)(nil)

// These are the values of Guard.deadline that are not a time.
const (
	none      = 0             // there is no statement
	expired   = -1            // the time was up: the timer's goroutine is ending the statement, or has ended it
	unlimited = math.MaxInt64 // there is a statement, without a limit
)

// New returns a guard for a connection that is about to be made. idle reports whether the server has answered all that was
// sent; it must be safe for concurrent use.
func New(idle func() bool) *Guard {
	g := &Guard{idle: idle, fired: make(chan struct{}, 1)}
	g.timer = time.AfterFunc(time.Hour, g.fire)
	g.timer.Stop()
	return g
}

// Attach gives the guard its connection. It is called once, before the first statement.
func (g *Guard) Attach(c Conn) { g.conn = c }

// Begin is called when a statement begins, at now by package clock. After limit the guard ends it in the given manner; 0 is
// no limit. The end of the caller's context ends it too, of which pgx informs the guard. End must be called when it is over.
func (g *Guard) Begin(now int64, limit time.Duration, how Manner) {
	g.cut, g.readAgain, g.how = Cut{}, false, how
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

// hasten sets the timer to deadline, unless it will fire earlier. It is called by Begin.
func (g *Guard) hasten(deadline int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if due := g.due.Load(); due == 0 || deadline < due {
		g.setTimerLocked(deadline)
	}
}

// setTimerLocked sets the timer to deadline. It is called with g.mu held.
func (g *Guard) setTimerLocked(deadline int64) {
	g.due.Store(deadline)
	g.timer.Reset(time.Duration(deadline - clock.Now()))
}

// End is called when the statement is over: from now on nothing interrupts it. If the timer's goroutine is just interrupting
// it, End waits until the cancel request was sent, for CancelGrace at most. Afterwards Cut says whether the statement was
// cut short. End may be called when there is no statement.
func (g *Guard) End() {
	how := g.how
	if g.deadline.Swap(none) == expired {
		<-g.fired // until then the timer's goroutine reads how
		g.cut.TimedOut = true
		g.afterInterrupt(how)
	}
	g.how = Cancelling
	if how == Waiting && !g.conn.IsClosed() {
		g.sparing.Store(false)
	}
}

// Stop is called when the connection is being closed, perhaps during a statement whose End is never called. The timer fires
// no more. It is safe for concurrent use.
func (g *Guard) Stop() {
	g.deadline.Store(none)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.due.Store(0)
	g.timer.Stop()
}

// Cut returns what cut the last statement short, or has cut the present one. During a statement it doesn't contain
// command_timeout, which End notes.
func (g *Guard) Cut() Cut { return g.cut }

// Forget forgets what cut the last statement short, so that later errors are not explained by it.
func (g *Guard) Forget() { g.cut = Cut{} }

// Stale reports whether a cancel request may still be on its way. Then the connection must answer a ping before its next
// statement, which the cancel request could hit otherwise.
func (g *Guard) Stale() bool { return g.stale }

// Answered is called when a ping was answered, before or after its End. The connection is no longer stale, unless the ping
// itself was cut short, because then its own cancel request may still come.
func (g *Guard) Answered() { g.stale = g.cut.Happened() }

// Unacknowledged reports whether the server has not acknowledged a cancel request. Then the connection must not be used
// again. It is safe for concurrent use.
func (g *Guard) Unacknowledged() bool { return g.unacknowledged.Load() }

// Sparing reports whether a COMMIT is under way, or was when the connection was lost. Then nobody must send a cancel
// request. It is safe for concurrent use.
func (g *Guard) Sparing() bool { return g.sparing.Load() }

// State reports whether a statement is under way, and whether command_timeout has ended one whose End was not called yet,
// since its rows are not closed. It is safe for concurrent use.
func (g *Guard) State() (running, timedOut bool) {
	deadline := g.deadline.Load()
	return deadline > 0, deadline == expired
}

// fire is called by the timer, in a goroutine of its own. If the deadline of the statement under way has passed, it
// interrupts the statement; otherwise it sets the timer for what is left. It may be called too early, for the deadline of an
// earlier statement, or by two goroutines at once, if Begin has set the timer at the moment when it fired. Only the present
// deadline counts.
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
	// A statement that begins after this line sees that due is 0 and sets the timer itself. One that began before may have
	// relied on due, so its deadline is looked at here.
	g.due.Store(0)
	if next := g.deadline.Load(); limits(next) {
		g.setTimerLocked(next)
	}
}

// limits reports whether a value of Guard.deadline is a time: there is a statement that must be over by then.
func limits(deadline int64) bool { return deadline > 0 && deadline != unlimited }

// HandleCancel implements ctxwatch.Handler. pgx's watcher calls it, in its goroutine, when the caller's context has ended
// during a call of pgx.
//
//   - If no statement is under way and the server has answered everything (during a wait for notifications, or while a health
//     check connects), there is nothing to cancel, and the call is made to fail.
//   - A COMMIT goes on.
//   - If the timer has interrupted the statement already, only the end of the context is noted. A second cancel request would
//     do no more than the first, and a server that doesn't react would be given CancelGrace once more.
//   - Otherwise the statement is interrupted in its Manner.
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

// HandleUnwatchAfterCancel implements ctxwatch.Handler. pgx calls it when the call is over that HandleCancel was called in,
// after that has returned.
func (g *Guard) HandleUnwatchAfterCancel() {
	if g.did != Waiting {
		g.afterInterrupt(g.did)
	}
}

// interrupt ends what is under way: by a cancel request, or by a deadline on the socket that has passed. The timer's
// goroutine calls it, or pgx's watcher, but only one of them for each statement.
func (g *Guard) interrupt(how Manner) {
	if how == Cancelling {
		g.cancel()
		return
	}
	_ = g.conn.Conn().SetDeadline(time.Now())
}

// cancel sends a cancel request, over a connection of its own, and gives the server CancelGrace to acknowledge it and to end
// the statement.
func (g *Guard) cancel() {
	deadline := time.Now().Add(CancelGrace)
	_ = g.conn.Conn().SetDeadline(deadline)
	ctx, stop := context.WithDeadline(context.Background(), deadline)
	defer stop()
	// After an error the deadline ends the statement. If the acknowledgement doesn't come in time, pgx returns no error, so the
	// time is looked at as well.
	if err := g.conn.CancelRequest(ctx); err != nil || !time.Now().Before(deadline) {
		g.unacknowledged.Store(true)
	}
}

// ReadAgain is called by wire.Tap when a read has failed because of a deadline, in the goroutine that uses the connection.
// It reports whether the Tap should read once more, which it does once for each statement that command_timeout has ended: a
// caller that comes back to its rows only after that gets LateRead to read what the server had sent in time.
func (g *Guard) ReadAgain() bool {
	if g.readAgain || g.deadline.Load() != expired {
		return false
	}
	g.readAgain = true
	_ = g.conn.Conn().SetReadDeadline(time.Now().Add(LateRead))
	return true
}

// afterInterrupt is called when a statement is over that was interrupted. It takes the deadline off the socket. After a
// cancel request the connection is stale: the server acknowledges the request when it has sent a signal to the process that
// serves the connection, and the process may see the signal later.
func (g *Guard) afterInterrupt(how Manner) {
	_ = g.conn.Conn().SetDeadline(time.Time{})
	if how == Cancelling {
		g.stale = true
	}
}
