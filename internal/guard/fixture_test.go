package guard_test

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/guard"
)

// A socket knows its deadline and nothing else.
type socket struct {
	net.Conn // nil: neither the guard nor a test reads or writes

	mu       sync.Mutex // guards what follows
	deadline time.Time
	changed  chan struct{} // closed when the deadline changes
	bounded  int           // how often a deadline was set; clearing it doesn't count
}

var _ net.Conn = (*socket)(nil)

func (s *socket) SetDeadline(deadline time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !deadline.IsZero() {
		s.bounded++
	}
	s.deadline = deadline
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

func (s *socket) SetReadDeadline(deadline time.Time) error { return s.SetDeadline(deadline) }

func (s *socket) look() (deadline time.Time, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deadline, s.changed
}

// timesBounded is how often a deadline has been set so far.
func (s *socket) timesBounded() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bounded
}

// A conn is a connection to a server that is told what becomes of cancel requests.
type conn struct {
	socket *socket
	closed bool

	// cancel is what happens to a cancel request. The guard's caller sets it while no statement is under way.
	cancel   func(context.Context) error
	hit      chan struct{} // gets a value when the server has signalled its backend; the next statement to run is hit
	requests atomic.Int64  // cancel requests so far
	underWay atomic.Int64  // cancel requests that have not returned
}

var _ guard.Conn = (*conn)(nil)

func newConn() *conn {
	c := &conn{socket: &socket{changed: make(chan struct{})}, hit: make(chan struct{}, 1)}
	c.cancel = func(context.Context) error { return c.signal() }
	return c
}

func (c *conn) Conn() net.Conn { return c.socket }
func (c *conn) IsClosed() bool { return c.closed }

func (c *conn) CancelRequest(ctx context.Context) error {
	c.requests.Add(1)
	c.underWay.Add(1)
	defer c.underWay.Add(-1)
	return c.cancel(ctx)
}

// signal is what the server does with a cancel request before it acknowledges it.
func (c *conn) signal() error {
	select {
	case c.hit <- struct{}{}:
	default:
	}
	return nil
}

// What may become of a cancel request, besides being obeyed at once.

// delayed is obeyed and acknowledged after some time.
func (c *conn) delayed(d time.Duration) func(context.Context) error {
	return func(context.Context) error {
		time.Sleep(d)
		return c.signal()
	}
}

// ignored is acknowledged, but the statement goes on.
func ignored(context.Context) error { return nil }

// unheard is never acknowledged, of which pgx gives no error.
func unheard(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

var errRefused = errors.New("connection refused")

func refused(context.Context) error { return errRefused }

var errCanceled = errors.New("canceling statement due to user request")

// run waits for a statement that takes d, as pgx would: until it is done, until the server has cancelled it or until the
// socket's deadline has passed.
func (c *conn) run(d time.Duration) error {
	done := time.NewTimer(d)
	defer done.Stop()
	for {
		over, err := c.wait(done.C)
		if over {
			return err
		}
	}
}

// wait is run's loop, which returns without an end when the socket's deadline has changed.
func (c *conn) wait(done <-chan time.Time) (over bool, err error) {
	deadline, changed := c.socket.look()
	var passed <-chan time.Time
	if !deadline.IsZero() {
		t := time.NewTimer(time.Until(deadline))
		defer t.Stop()
		passed = t.C
	}
	select {
	case <-done:
		return true, nil
	case <-c.hit:
		return true, errCanceled
	case <-passed:
		return true, os.ErrDeadlineExceeded
	case <-changed:
		return false, nil
	}
}

// A session uses a guard as package link and pgx do.
type session struct {
	*guard.Guard
	conn    *conn
	watcher *ctxwatch.ContextWatcher
	quiet   atomic.Bool // the server owes no answer
}

func newSession() *session {
	s := &session{conn: newConn()}
	s.Guard = guard.New(s.quiet.Load)
	s.Attach(s.conn)
	s.watcher = ctxwatch.NewContextWatcher(s.Guard)
	return s
}

// begin and end frame a statement.
func (s *session) begin(ctx context.Context, limit time.Duration, how guard.Manner) {
	s.Begin(clock.Now(), limit, how)
	s.watcher.Watch(ctx)
}

func (s *session) end() guard.Cut {
	s.watcher.Unwatch()
	s.End()
	return s.Cut()
}

// do runs a statement that takes d.
func (s *session) do(ctx context.Context, limit, d time.Duration, how guard.Manner) (guard.Cut, error) {
	s.begin(ctx, limit, how)
	err := s.conn.run(d)
	return s.end(), err
}

// wait is a wait of d for something that the server may send by itself, which is no statement.
func (s *session) wait(ctx context.Context, d time.Duration) error {
	s.watcher.Watch(ctx)
	defer s.watcher.Unwatch()
	return s.conn.run(d)
}

// unbounded reports whether the socket has no deadline.
func (s *session) unbounded() bool {
	deadline, _ := s.conn.socket.look()
	return deadline.IsZero()
}

// withSession runs a test on a clock of its own, on which nothing takes time but what waits for it.
func withSession(t *testing.T, test func(*testing.T, *session)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Hour - time.Duration(clock.Now())) // the bubble begins in 2000, package clock when the process does
		test(t, newSession())
	})
}

// stopwatch returns a function that tells how long ago stopwatch was called.
func stopwatch() func() time.Duration {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}
