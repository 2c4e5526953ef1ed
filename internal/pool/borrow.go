package pool

import (
	"context"
	"errors"
	"fmt"
	"runtime/trace"
	"time"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/lease"
	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/settings"
	"github.com/pgprod/pgprod/internal/wire"
)

const (
	// provenFor applies to pool_pre_ping=auto: a connection on which the server answered less than this ago is lent without
	// a ping.
	provenFor = time.Second
	// hotFor is how long after an answer a connection is lent without even a look at its socket. Hardly any connection dies
	// in so short a time, and a busy pool saves a system call for most statements.
	hotFor = 50 * time.Microsecond
	// minPing is the least time that a ping gets, even if that exceeds pool_timeout: with less, healthy connections would
	// fail it and be closed.
	minPing = 50 * time.Millisecond
)

// borrow gets a connection for a session that has none. It waits for a place in the queue, for pool_timeout at most, counted
// from since or, if that is 0, from now. Then it takes idle connections until one of them is alive. If the error is nil, s.m may
// be used at once, and the session owns the place until giveBack.
//
// A connection out of the inner *sql.DB is reached by (*sql.Conn).Raw (see fromInner), and is used after Raw has returned,
// which database/sql forbids so that no connection gets two users. Here it has one: the session owns the *sql.Conn, nobody
// else knows it, and only the session's giveBack closes it or hands it on.
func (s *session) borrow(ctx context.Context, since int64) error {
	p := s.pool
	start := clock.Now()
	limit := p.cfg.PoolTimeout
	if since == 0 {
		since = start
	} else {
		limit = p.timeLeft(since)
	}
	waited, err := p.acquire(ctx, limit)
	hasWaited := waited > 0 // so that a caller that comes back to the queue is counted as one wait
	for err == nil {        // the caller owns a place
		now := start + int64(waited)
		if err = s.take(ctx, since, now); err == nil {
			s.m.checkOut(now)
			p.watchSlowFrom(now)
			p.watchSilence()
			s.m.conn.BeginVisit(now, waited)
			p.in.Waited(ctx, waited.Seconds())
			if waited > 0 {
				p.in.WaitedSpan(ctx, waited, nil)
			}
			p.diary.CheckedOut(ctx, s.m.conn.PID(), waited)
			return nil
		}
		waited = time.Duration(clock.Now() - start)
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			break // the caller's context has ended; take sees to the place
		}
		if !errors.Is(err, errNoneIdle) {
			return err // the pool is closed; take has given the place back
		}
		if limit > 0 && waited >= limit {
			err = p.queue.GiveUp() // which gives the place back
			break
		}
		// The connection was dead. The caller waits for another one, ahead of all who have had no place yet.
		waited, err = p.queue.Retry(ctx, p.timeLeft(since), hasWaited)
		hasWaited = hasWaited || waited > 0
		waited = time.Duration(clock.Now() - start)
	}
	err = p.waitError(err, waited)
	p.in.WaitedSpan(ctx, waited, err)
	p.noteUnserved(ctx, err, waited)
	return err
}

// acquire waits for a place in the queue, see lease.Queue.Acquire. In an execution trace that is a region.
func (p *Pool) acquire(ctx context.Context, limit time.Duration) (waited time.Duration, err error) {
	if trace.IsEnabled() {
		defer trace.StartRegion(ctx, "pgprod.wait").End()
	}
	return p.queue.Acquire(ctx, limit)
}

// timeLeft returns how much longer a caller may wait that began to wait at start. It is at least a nanosecond if pool_timeout is
// set, and 0, which stands for no limit, if it isn't.
func (p *Pool) timeLeft(start int64) time.Duration {
	if p.cfg.PoolTimeout <= 0 {
		return 0
	}
	return max(p.cfg.PoolTimeout-time.Duration(clock.Now()-start), time.Nanosecond)
}

// take sets s.m to an idle connection that is alive. It is called at now by a session that owns a place in the queue, and for
// which pool_timeout counts from start on. The session still owns the place if the error is nil, or errNoneIdle, which means
// that there was no connection or that it was dead. With any other error the place has been given back, or will be, see prove.
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
		return err // prove gives back the place and the connection
	}
	p.discard(m, m.condemned)
	return errNoneIdle
}

// prove reports whether a connection that its caller has just taken is alive. If it is not, m.condemned says why, and the
// caller discards it. If the caller's context ends before the server has answered a ping, the error is the context's. Then
// the caller owns neither the connection nor its place any more: a task gives back both when the ping is over.
func (p *Pool) prove(ctx context.Context, m *member, start, now int64) (alive bool, err error) {
	if m.condemn(now) { // because of what is known of it without asking, such as its age
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
	if ctx.Done() == nil { // the context can't end, so no second goroutine is needed
		return p.pinged(m, limit), nil
	}
	done := make(chan bool, 1)                         // has room for the result, so that the task ends in any case
	p.tasks.run(func() { done <- p.pinged(m, limit) }) // ends within limit
	select {
	case alive := <-done:
		return alive, nil
	case <-ctx.Done():
		p.tasks.run(func() { // ends when the ping does
			<-done
			p.putBack(m)
		})
		p.queue.CountCancelled(ctx.Err())
		return false, askingError{ctx.Err()}
	}
}

// needsPing reports whether a connection has to answer a ping before it is lent. It is called by prove. If a look at the
// socket shows that the other end has closed the connection, it is condemned, and no ping is needed.
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
	if age < hotFor && !neverLent { // the server may have ended a new session while its login was being read
		return false
	}
	switch m.conn.Look() {
	case wire.Dead:
		m.condemned = "invalid"
		return false
	case wire.Pending: // the server has sent something that nobody has read; it may be why it ends the session
		return true
	}
	return age > provenFor || m.conn.Heard() < p.trust.suspicion.Load()
}

// foundDead is called by prove for a connection that the other end has closed while it was idle. The ping reads the server's
// last message, which is still in the socket, and which says whether the server has ended only this session (as
// idle_session_timeout does) or shuts down. If there is no message, the cause may concern all connections to the same place:
// then, as when the server shuts down, all of that age are replaced.
func (p *Pool) foundDead(m *member) {
	err := m.conn.Ping(p.life, guard.LateRead, guard.HangingUp)
	if !pgerror.ServerLeaves(err) {
		return
	}
	cause := errFoundDead
	if pgerror.ServerAnswered(err) {
		cause = fmt.Errorf("%w: %w", errFoundDead, err)
	}
	p.invalidate(m.conn, m.epoch, cause)
}

// fairPing is how long a server must have had to answer a ping, before a ping that failed is a reason to replace the other
// connections to the same place as well. A ping may get less, if little is left of pool_timeout.
const fairPing = time.Second

// pinged pings a connection that is not lent, and reports whether the server has answered within limit. If it has not, the
// connection is condemned, and those to the same place are replaced if the failure says something of them too.
func (p *Pool) pinged(m *member, limit time.Duration) bool {
	p.watchSilence()
	began := clock.Now()
	err := m.conn.Ping(p.life, limit, guard.HangingUp)
	if err == nil {
		return true
	}
	m.condemned = "invalid"
	unanswered := clock.Now()-began >= int64(limit)
	switch {
	case limit < min(fairPing, p.dialer.PingTimeout()), !pgerror.ServerLeaves(err), p.closed.Load():
	case unanswered && p.books.placeHeard(m.place, fairPing): // it is this session that is stopped, and not its server
	default:
		p.invalidate(m.conn, m.epoch, err)
	}
	return false
}

// giveBack gives the session's connection and its place in the queue back to the pool. It is called when database/sql puts
// the session away, before a statement is tried again on another connection, and after a panic. Afterwards s.m is nil, and
// the connection is idle or closed. If the session has no connection, nothing happens.
func (s *session) giveBack() {
	p, m := s.pool, s.m
	if m == nil {
		return
	}
	s.m = nil
	m.conn.EndVisit()
	now := clock.Now()
	m.condemn(now)
	m.checkedIn = now
	p.noteRole(m, now)
	used := p.checkIn(m, now)
	p.in.Used(context.Background(), clock.Seconds(used))
	p.diary.CheckedIn(m.conn.PID(), time.Duration(used))
	p.putBack(m)
}

// putBack puts a connection on the shelf, unless it is condemned or pool_size connections are idle without it: then it is
// closed. Its place in the queue is released.
func (p *Pool) putBack(m *member) {
	within := p.books.size.Load() <= int64(p.cfg.PoolSize) // as a rule: there is no overflow, and no lock is needed to see it
	switch {
	case m.condemned != "":
		p.discard(m, m.condemned)
	case within:
		p.keepOrClose(m)
	case p.keepWithinSize(m):
		return // it has released the place
	default:
		p.discard(m, "overflow")
	}
	p.queue.Release()
	if within {
		p.closeOverflow() // a connection may have been dialled since, when this one was not idle yet
	}
}

// keepWithinSize is called by putBack when there are more than pool_size connections. If fewer than pool_size are idle, it
// puts the connection on the shelf, releases its place and returns true. Otherwise it does nothing, and its caller closes
// the connection. The overflow lock is held meanwhile: two callers that counted at the same time would both keep theirs.
func (p *Pool) keepWithinSize(m *member) bool {
	p.overflow.Lock()
	defer p.overflow.Unlock()
	if p.queue.Idle() >= p.cfg.PoolSize || !p.shelf.push(m) {
		return false
	}
	p.queue.Release()
	return true
}
