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
			s.c.lend(now)
			s.lentAt = max(now, s.c.proven.Load()) // it may have been asked for a sign of life
			s.c.waited = waited
			p.in.Waited(ctx, waited.Seconds())
			if waited > 0 {
				p.in.WaitedSpan(ctx, waited, nil)
			}
			p.diary.CheckedOut(ctx, s.c.pg.PID(), waited)
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
	c, err := p.takeIdle(ctx)
	if err != nil {
		if !errors.Is(err, errNoneIdle) {
			p.queue.Release()
			if p.closed.Load() {
				err = p.waitError(lease.ErrClosed, 0)
			}
		}
		return err
	}
	ok, err := p.prove(ctx, c, start, now)
	switch {
	case ok:
		s.c = c
		return nil
	case err != nil:
		return err // the place and the connection go back by themselves
	}
	p.discard(c, c.condemned)
	return errNoneIdle
}

// prove reports whether the connection that was just taken is alive. If the caller's context ends first the error is
// the context's, and the connection goes back by itself once the server has answered.
func (p *Pool) prove(ctx context.Context, c *conn, start, now int64) (bool, error) {
	if c.condemned = c.verdict(now); c.condemned != "" {
		return false, nil
	}
	if !p.needsPing(c, now) {
		if c.condemned != "" {
			p.foundDead(c)
			return false, nil
		}
		return true, nil
	}
	limit := p.pingTimeout
	if left := p.timeLeft(start); left > 0 {
		limit = min(limit, max(left, minPing))
	}
	if ctx.Done() == nil {
		return p.pinged(c, limit), nil
	}
	done := make(chan bool, 1)
	p.tasks.run(func() { done <- p.pinged(c, limit) }) // bounded by the ping's own limit
	select {
	case ok := <-done:
		return ok, nil
	case <-ctx.Done():
		p.tasks.run(func() {
			if <-done {
				p.keepOrClose(c)
			} else {
				p.discard(c, c.condemned)
			}
			p.queue.Release()
		})
		p.queue.Left(ctx.Err())
		return false, askingError{ctx.Err()}
	}
}

// needsPing reports whether c has to answer before it is lent. It condemns c if looking at the socket is enough.
func (p *Pool) needsPing(c *conn, now int64) bool {
	fresh := c.fresh
	c.fresh = false
	switch {
	case c.guard.Stale():
		return true
	case p.cfg.PrePing == settings.PrePingOff:
		return false
	case p.cfg.PrePing == settings.PrePingAlways && !fresh:
		return true
	}
	age := time.Duration(now - c.proven.Load())
	if age < hotFor {
		return false
	}
	switch c.probe.Look() {
	case wire.Dead:
		c.condemned = "invalid"
		return false
	case wire.Pending:
		return true
	}
	return age > provenFor || c.proven.Load() < p.suspicion.Load()
}

// foundDead is called for a connection that the other end has closed while it lay idle. What the server said last still
// lies in the socket, and tells whether it ended this session only (idle_session_timeout) or leaves altogether. Without a
// word of its the others are not to be trusted either.
func (p *Pool) foundDead(c *conn) {
	err := c.ping(p.life, guard.LastLook, guard.HangingUp)
	if !pgerror.ServerLeaves(err) {
		return
	}
	cause := errFoundDead
	if pgerror.ServerAnswered(err) {
		cause = fmt.Errorf("%w: %w", errFoundDead, err)
	}
	p.invalidate(c.generation, cause)
}

// fairPing is how long a server has to have had for its silence to say something of the other connections.
const fairPing = time.Second

// pinged pings c and condemns it if there is no answer within limit.
func (p *Pool) pinged(c *conn, limit time.Duration) bool {
	if err := c.ping(p.life, limit, guard.HangingUp); err != nil {
		c.condemned = "invalid"
		if limit >= min(fairPing, p.pingTimeout) && pgerror.ServerLeaves(err) && !p.closed.Load() {
			p.invalidate(c.generation, err)
		}
		return false
	}
	return true
}

// giveBack returns the session's connection. It may be called when there is none.
func (s *session) giveBack() {
	p, c := s.pool, s.c
	if c == nil {
		return
	}
	s.c = nil
	s.endTx(c)
	c.abandon()
	now := clock.Now()
	c.condemned = c.verdict(now)
	c.plans.unsettled = settled
	c.returned = now
	held := p.returned(c, now)
	p.in.Used(context.Background(), clock.Seconds(held))
	p.diary.CheckedIn(c.pg.PID(), time.Duration(held))
	switch {
	case c.condemned != "":
		p.discard(c, c.condemned)
	case p.size.Load() <= int64(p.cfg.PoolSize):
		p.keepOrClose(c)
	case p.keepWithinSize(c):
		return
	default:
		p.discard(c, "overflow")
	}
	p.queue.Release()
}

// keepWithinSize keeps a connection that was given back and releases its place, unless pool_size connections are idle
// without it. Connections are counted and kept one at a time, so that exactly those beyond pool_size are closed; the caller
// closes this one if the result is false.
func (p *Pool) keepWithinSize(c *conn) bool {
	p.overflow.Lock()
	defer p.overflow.Unlock()
	if p.queue.Idle() >= p.cfg.PoolSize || !p.keep(c) {
		return false
	}
	p.queue.Release()
	return true
}
