package pool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/lease"
	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/settings"
	"github.com/pgprod/pgprod/internal/wire"
)

const (
	// provenFor is how long a connection that answered needs no ping in pre-ping mode auto.
	provenFor = time.Second
	// hotFor is how long it needs no look at the socket either: next to nothing dies and is seen to be dead in so short a
	// time, and a busy pool saves a system call with most statements.
	hotFor = 50 * time.Microsecond
	// minPing is the least time that a ping gets, even beyond pool_timeout: less would condemn healthy connections.
	minPing = 50 * time.Millisecond
)

// borrow gets the session a connection that may be used at once.
//
// The session keeps what Raw shows it for as long as it holds the *sql.Conn, which database/sql tells its users not to
// do. What it guards against, two users of one connection, can't happen: nobody else reaches that connection before
// the *sql.Conn is closed, and the session is the only one to close it.
func (s *session) borrow(ctx context.Context) error {
	p := s.pool
	start := clock.Now()
	waited, err := p.queue.Acquire(ctx, p.cfg.PoolTimeout)
	hasWaited := waited > 0
	for err == nil {
		now := start + int64(waited)
		if err = s.take(ctx, start, now); err == nil {
			s.m.lend(now)
			s.m.conn.Lent(now, waited)
			p.in.Waited(ctx, waited.Seconds())
			if waited > 0 {
				p.in.WaitedSpan(ctx, waited, nil)
			}
			p.diary.CheckedOut(ctx, s.m.conn.PID(), waited)
			return nil
		}
		waited = time.Duration(clock.Now() - start)
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			break
		}
		if !errors.Is(err, errNoneIdle) {
			return err
		}
		if p.cfg.PoolTimeout > 0 && waited >= p.cfg.PoolTimeout {
			err = p.queue.GiveUp()
			break
		}
		waited, err = p.queue.Retry(ctx, p.timeLeft(start), hasWaited)
		hasWaited = hasWaited || waited > 0
		waited = time.Duration(clock.Now() - start)
	}
	err = p.waitError(err, waited)
	p.in.WaitedSpan(ctx, waited, err)
	p.unserved(ctx, err, waited)
	return err
}

// timeLeft is how much longer a caller may wait who began at start; zero is without limit.
func (p *Pool) timeLeft(start int64) time.Duration {
	if p.cfg.PoolTimeout <= 0 {
		return 0
	}
	return max(p.cfg.PoolTimeout-time.Duration(clock.Now()-start), time.Nanosecond)
}

// take gets the session an idle connection that is alive. The caller has a place in the queue, and keeps it if the error
// is nil, or errNoneIdle, which means that the connection was no good. With any other error the place is given back.
func (s *session) take(ctx context.Context, start, now int64) error {
	p := s.pool
	m, err := p.takeIdle(ctx)
	if err != nil {
		if !errors.Is(err, errNoneIdle) {
			p.queue.Release()
			if p.closed.Load() {
				err = p.waitError(lease.ErrClosed, 0)
			}
		}
		return err
	}
	alive, err := p.prove(ctx, m, start, now)
	switch {
	case alive:
		s.m = m
		return nil
	case err != nil:
		return err // the place and the connection go back by themselves
	}
	p.discard(m, m.condemned)
	return errNoneIdle
}

// prove reports whether a connection that was just taken is alive; if not, it is condemned. If the caller's context ends
// first the error is the context's, and the connection and the caller's place go back by themselves once the server has
// answered.
func (p *Pool) prove(ctx context.Context, m *member, start, now int64) (alive bool, err error) {
	if m.condemn(now) {
		return false, nil
	}
	if !p.needsPing(m, now) {
		if m.condemned != "" {
			p.foundDead(m)
			return false, nil
		}
		return true, nil
	}
	limit := p.dialer.PingTimeout()
	if left := p.timeLeft(start); left > 0 {
		limit = min(limit, max(left, minPing))
	}
	if ctx.Done() == nil {
		return p.pinged(m, limit), nil
	}
	done := make(chan bool, 1)
	p.tasks.run(func() { done <- p.pinged(m, limit) }) // bounded by the ping's own limit
	select {
	case alive := <-done:
		return alive, nil
	case <-ctx.Done():
		p.tasks.run(func() {
			if <-done {
				p.keepOrClose(m)
			} else {
				p.discard(m, m.condemned)
			}
			p.queue.Release()
		})
		p.queue.CountCancelled(ctx.Err())
		return false, askingError{ctx.Err()}
	}
}

// needsPing reports whether a connection has to answer before it is lent. It condemns it if a look at the socket is enough.
func (p *Pool) needsPing(m *member, now int64) bool {
	neverLent := m.neverLent
	m.neverLent = false
	switch {
	case m.conn.MustProve():
		return true
	case p.cfg.PrePing == settings.PrePingOff:
		return false
	case p.cfg.PrePing == settings.PrePingAlways && !neverLent:
		return true
	}
	age := time.Duration(now - m.conn.Heard())
	if age < hotFor {
		return false
	}
	switch m.conn.Look() {
	case wire.Dead:
		m.condemned = "invalid"
		return false
	case wire.Pending:
		return true
	}
	return age > provenFor || m.conn.Heard() < p.trust.suspicion.Load()
}

// foundDead is called for a connection that the other end has closed while it lay idle. What the server said last still
// lies in the socket, and tells whether it ended this session only (idle_session_timeout) or leaves altogether. Without a
// word of its the others are not to be trusted either.
func (p *Pool) foundDead(m *member) {
	err := m.conn.Ping(p.life, guard.LastLook, guard.HangingUp)
	if !pgerror.ServerLeaves(err) {
		return
	}
	cause := errFoundDead
	if pgerror.ServerAnswered(err) {
		cause = fmt.Errorf("%w: %w", errFoundDead, err)
	}
	p.invalidate(m.generation, cause)
}

// fairPing is the time that a server must have had for a ping before its silence counts against its other connections.
const fairPing = time.Second

// pinged pings a connection, and condemns it if there is no answer within limit.
func (p *Pool) pinged(m *member, limit time.Duration) bool {
	err := m.conn.Ping(p.life, limit, guard.HangingUp)
	if err == nil {
		return true
	}
	m.condemned = "invalid"
	if limit >= min(fairPing, p.dialer.PingTimeout()) && pgerror.ServerLeaves(err) && !p.closed.Load() {
		p.invalidate(m.generation, err)
	}
	return false
}

// giveBack returns the session's connection. It may be called when there is none.
func (s *session) giveBack() {
	p, m := s.pool, s.m
	if m == nil {
		return
	}
	s.m = nil
	m.conn.Returned()
	now := clock.Now()
	m.condemn(now)
	m.checkedIn = now
	held := p.returned(m, now)
	p.in.Used(context.Background(), clock.Seconds(held))
	p.diary.CheckedIn(m.conn.PID(), time.Duration(held))
	switch {
	case m.condemned != "":
		p.discard(m, m.condemned)
	case p.books.size.Load() <= int64(p.cfg.PoolSize):
		p.keepOrClose(m)
	case p.keepWithinSize(m):
		return
	default:
		p.discard(m, "overflow")
	}
	p.queue.Release()
}

// keepWithinSize keeps a connection that was given back and releases its place, unless pool_size connections are idle
// without it. Connections are counted and kept one at a time, so that exactly those beyond pool_size are closed; the caller
// closes this one if the result is false.
func (p *Pool) keepWithinSize(m *member) bool {
	p.overflow.Lock()
	defer p.overflow.Unlock()
	if p.queue.Idle() >= p.cfg.PoolSize || !p.keep(m) {
		return false
	}
	p.queue.Release()
	return true
}
