package pool

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/pgprod/pgprod/internal/clock"
)

// maxOnShelf is how long an unused connection stays on the shelf at most, before it goes to the inner *sql.DB.
const maxOnShelf = time.Second

// cleanAfter is how long a connection stays on the shelf at most in whose session something was left, before that is undone
// without a borrower. A lock that was left must not wait for one.
const cleanAfter = 300 * time.Millisecond

// A shelf has the idle connections that were used within the last second. A busy pool lends them again and again, and saves
// each checkout the way through the inner *sql.DB and two allocations. A connection that is not used for longer goes to the
// inner *sql.DB, which closes connections that are idle for too long or too old. Those that pool_min has the pool keep stay
// here, since the inner *sql.DB knows no minimum.
type shelf struct {
	mu      sync.Mutex  // guards the fields up to closed; nothing else is locked under it
	idle    []*member   // the one that was used last is at the end
	timer   *time.Timer // calls unshelve; nil until the first push
	ticking bool        // the timer will fire, or unshelve is running and will set it again
	soon    bool        // the timer will fire within cleanAfter
	closed  bool        // close was called: nothing is put on the shelf any more

	keepFor  time.Duration // how long an unused connection stays; not changed
	unshelve func()        // is called when that is over; not changed
}

// push puts an idle connection on top, and sees to it that unshelve is called after keepFor, or after cleanAfter if something
// was left in its session. It reports false, and doesn't take the connection, if the shelf is closed.
func (s *shelf) push(m *member) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.idle = append(s.idle, m)
	if hurry := m.conn.Owes(); !s.ticking || hurry && !s.soon {
		s.armLocked(hurry)
	}
	return true
}

// armLocked sets the timer, in a hurry if something is to be undone in the session of a connection.
func (s *shelf) armLocked(hurry bool) {
	d := s.keepFor
	if hurry {
		d = min(d, cleanAfter)
	}
	s.ticking, s.soon = true, hurry
	if s.timer == nil {
		s.timer = time.AfterFunc(d, s.unshelve)
	} else {
		s.timer.Reset(d)
	}
}

// pop takes out the connection that was used last. It returns nil if the shelf is empty.
func (s *shelf) pop() *member {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.idle) - 1
	if last < 0 {
		return nil
	}
	m := s.idle[last]
	s.idle[last] = nil
	s.idle = s.idle[:last]
	return m
}

// takeOlder takes out the connection that has not been used for longest, if it was put here at or before a time by package
// clock. Otherwise it returns nil.
func (s *shelf) takeOlder(before int64) *member {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.idle) == 0 || s.idle[0].checkedIn > before {
		return nil
	}
	m := s.idle[0]
	s.idle[0] = nil
	s.idle = s.idle[1:]
	return m
}

// takeExpired takes out a connection that is older than pool_recycle allows at now. It returns nil if there is none.
func (s *shelf) takeExpired(now int64) *member {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.idle, func(m *member) bool { return m.expired(now) })
	if i < 0 {
		return nil
	}
	m := s.idle[i]
	s.idle = slices.Delete(s.idle, i, i+1)
	return m
}

// takeOwing takes out a connection in whose session something is to be undone, if it was put here at or before a time by
// package clock. Otherwise it returns nil.
func (s *shelf) takeOwing(before int64) *member {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.idle, func(m *member) bool { return m.conn.Owes() && m.checkedIn <= before })
	if i < 0 {
		return nil
	}
	m := s.idle[i]
	s.idle = slices.Delete(s.idle, i, i+1)
	return m
}

// rearm sets the timer again if something is left on the shelf. It is called at the end of unshelve.
func (s *shelf) rearm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ticking, s.soon = false, false
	if len(s.idle) > 0 && !s.closed {
		s.armLocked(slices.ContainsFunc(s.idle, func(m *member) bool { return m.conn.Owes() }))
	}
}

// close empties the shelf for good and returns what was on it, for the caller to close.
func (s *shelf) close() []*member {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.idle
	s.idle, s.closed = nil, true
	if s.timer != nil {
		s.timer.Stop()
	}
	return all
}

// shelfTime is how long a connection stays on the shelf: a second, or a tenth of pool_idle_timeout or pool_recycle if that
// is less, so that the inner *sql.DB, which applies these limits, isn't late by much.
func (p *Pool) shelfTime() time.Duration {
	d := maxOnShelf
	for _, limit := range []time.Duration{p.cfg.PoolIdleTimeout, p.cfg.PoolRecycle} {
		if limit > 0 {
			d = min(d, max(limit/10, time.Millisecond))
		}
	}
	return d
}

// keepOrClose puts an idle connection on the shelf, or closes it if the pool is closed.
func (p *Pool) keepOrClose(m *member) {
	if !p.shelf.push(m) {
		p.discard(m, "closed")
	}
}

// takeIdle takes an idle connection, from the shelf if there is one, else from the inner *sql.DB. The caller owns a place in
// the queue, which gives out as many places as there are connections, so that one is idle. The error is errNoneIdle if the
// inner *sql.DB has just closed it, or the context's, or says that the pool is closed.
func (p *Pool) takeIdle(ctx context.Context) (*member, error) {
	if m := p.shelf.pop(); m != nil {
		return m, nil
	}
	return p.fromInner(ctx)
}

// fromInner takes a connection out of the inner *sql.DB: one that is idle there, or else one that waits in the entrance. The
// connection stays checked out of the inner *sql.DB, in m.handle, for as long as it is lent or on the shelf.
func (p *Pool) fromInner(ctx context.Context) (m *member, err error) {
	handle, err := p.inner.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if err := handle.Raw(func(driverConn any) error {
		m = driverConn.(*member)
		return nil
	}); err != nil {
		panic("pgprod: " + err.Error()) // can't happen: Raw fails only on a closed *sql.Conn, and nobody else knows this one
	}
	m.handle = handle
	return m, nil
}

// unshelve hands the connections that were not used for keepFor to the inner *sql.DB, but for those that pool_min has the pool
// keep. It closes those that are too old, which may be some that stay. Those in whose session something was left are cleaned
// before that, by a task each. The shelf's timer calls it.
//
// It holds a place in the queue meanwhile, so that no caller is let through for a connection that is on its way between the
// two. If no place is free, all connections are lent or about to be, and none stays on the shelf for long anyway.
func (p *Pool) unshelve() {
	now := clock.Now()
	for p.queue.TryReserve() {
		if m := p.shelf.takeOwing(now - int64(min(cleanAfter, p.shelf.keepFor))); m != nil {
			p.tasks.run(func() { p.clean(m) }) // ends within PingTimeout, and gives back the place
			continue
		}
		more := p.unshelveOne(now)
		p.queue.Unreserve()
		if !more {
			break
		}
	}
	p.shelf.rearm()
}

// unshelveOne is unshelve for one connection. It reports false if there was none.
func (p *Pool) unshelveOne(now int64) bool {
	if m := p.shelf.takeExpired(now); m != nil {
		p.discard(m, "lifetime")
		return true
	}
	if !p.mayIdle() {
		return false
	}
	m := p.shelf.takeOlder(now - int64(p.shelf.keepFor))
	if m != nil {
		_ = m.handle.Close()
	}
	return m != nil
}

// mayIdle reports whether one more connection may go to the inner *sql.DB, where pool_idle_timeout ends it. The pool keeps
// pool_min connections: those that are lent, and idle ones on the shelf.
func (p *Pool) mayIdle() bool {
	return p.cfg.PoolMin == 0 || p.books.size.Load()-int64(p.inner.Stats().Idle) > int64(p.cfg.PoolMin)
}

// clean undoes what was left in the session of a connection, for which a place is reserved, and puts the connection back on
// the shelf.
func (p *Pool) clean(m *member) {
	defer p.queue.Unreserve()
	ctx, cancel := context.WithTimeout(p.life, p.dialer.PingTimeout())
	defer cancel()
	if !m.condemn(clock.Now()) && m.conn.Clean(ctx) == nil {
		p.keepOrClose(m)
		return
	}
	p.discard(m, cmp.Or(m.condemned, "dirty"))
}

// An entrance is where connections that were dialled wait until the inner *sql.DB asks its connector for one, which is at
// once, see enter. It is safe for concurrent use.
type entrance struct {
	mu      sync.Mutex // guards waiting; nothing else is locked under it
	waiting []*member
}

// offer adds a connection that was dialled.
func (e *entrance) offer(m *member) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waiting = append(e.waiting, m)
}

// take takes out the connection that was offered first. It returns nil if none is waiting.
func (e *entrance) take() (m *member) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.waiting) > 0 {
		m, e.waiting = e.waiting[0], e.waiting[1:]
	}
	return m
}

// waits reports whether a connection that was offered is still here.
func (e *entrance) waits(m *member) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Contains(e.waiting, m)
}

// withdraw takes a connection out that was offered, and reports whether it was still here.
func (e *entrance) withdraw(m *member) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := slices.Index(e.waiting, m)
	if i >= 0 {
		e.waiting = slices.Delete(e.waiting, i, i+1)
	}
	return i >= 0
}

// enter is called by Dial with a connection that was made. It has the inner *sql.DB take the connection in, and puts it on
// the shelf.
//
// The inner *sql.DB calls its connector, and so takes in what waits in the entrance, only if it has no idle connection. As a
// rule it has none, or nobody would have dialled; if it has some, this loop takes them out and puts them on the shelf. What
// it gets may also be a connection of another dial, and another goroutine that looks for an idle connection may get this
// one. In any case it has entered when it isn't in the entrance any more.
func (p *Pool) enter(m *member) {
	p.entrance.offer(m)
	for p.entrance.waits(m) {
		idle, err := p.fromInner(context.Background()) // waits for nothing but a connection that is being closed
		if err == nil {
			p.keepOrClose(idle)
		} else if p.entrance.withdraw(m) { // the pool is closed
			p.discard(m, "closed")
		}
	}
}

// connector is the driver.Connector of the inner *sql.DB. It makes no connection: it hands out those that wait in the
// entrance.
type connector struct{ pool *Pool }

var _ driver.Connector = connector{}

// Connect implements driver.Connector.
func (k connector) Connect(context.Context) (driver.Conn, error) {
	m := k.pool.entrance.take()
	if m == nil {
		return nil, errNoneIdle
	}
	return m, nil
}

// Driver implements driver.Connector.
func (k connector) Driver() driver.Driver { return stdlib.GetDefaultDriver() }

// newInner returns the inner *sql.DB. It has the limits of the settings, and is what applies them to idle connections.
func (p *Pool) newInner() *sql.DB {
	inner := sql.OpenDB(connector{p})
	inner.SetMaxOpenConns(p.cfg.Capacity())
	inner.SetMaxIdleConns(p.cfg.PoolSize)
	inner.SetConnMaxIdleTime(p.cfg.PoolIdleTimeout)
	inner.SetConnMaxLifetime(p.cfg.PoolRecycle)
	return inner
}
