package pool

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/pgprod/pgprod/internal/clock"
)

// onShelf is how long an unused connection stays on the shelf before it goes to the inner *sql.DB.
const onShelf = time.Second

// A shelf has the idle connections that were used within the last second, in front of the inner *sql.DB. A busy pool lends
// them again and again, which saves each checkout the way through the inner *sql.DB and two allocations. What is unused for
// longer goes back to the inner *sql.DB, which closes connections that are idle for too long, or too old.
type shelf struct {
	mu      sync.Mutex // guards what follows; nothing else is locked under it
	idle    []*member  // the one that was used last at the end
	timer   *time.Timer
	ticking bool // the timer will fire
	closed  bool

	unused time.Duration // how long an unused connection stays; not changed
	cool   func()        // is called when that is over; not changed
}

// push puts an idle connection on top, and has cool called after a while. It refuses if the pool is closed.
func (s *shelf) push(m *member) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.idle = append(s.idle, m)
	if s.ticking {
		return true
	}
	s.ticking = true
	if s.timer == nil {
		s.timer = time.AfterFunc(s.unused, s.cool)
	} else {
		s.timer.Reset(s.unused)
	}
	return true
}

// pop takes the connection that was used last, nil if there is none.
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

// shift takes the connection that was used first, if that was before a time; nil otherwise.
func (s *shelf) shift(before int64) *member {
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

// again restarts the timer if something is left.
func (s *shelf) again() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ticking = len(s.idle) > 0 && !s.closed; s.ticking {
		s.timer.Reset(s.unused)
	}
}

// close empties the shelf for good.
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

// onShelf is a second, but less where connections don't live as long.
func (p *Pool) onShelf() time.Duration {
	d := onShelf
	for _, limit := range []time.Duration{p.cfg.PoolIdleTimeout, p.cfg.PoolRecycle} {
		if limit > 0 {
			d = min(d, max(limit/10, time.Millisecond))
		}
	}
	return d
}

// keep puts an idle connection on the shelf. It refuses if the pool is closed.
func (p *Pool) keep(m *member) bool { return p.shelf.push(m) }

// keepOrClose is keep for who has no other use for the connection.
func (p *Pool) keepOrClose(m *member) {
	if !p.keep(m) {
		p.discard(m, "closed")
	}
}

// takeIdle takes an idle connection: from the shelf, else from the inner *sql.DB. The caller has a place in the queue, so
// that as a rule there is one; it is errNoneIdle if that was closed at this very moment.
func (p *Pool) takeIdle(ctx context.Context) (*member, error) {
	if m := p.shelf.pop(); m != nil {
		return m, nil
	}
	return p.fromInner(ctx)
}

// fromInner takes a connection from the inner *sql.DB: one that is idle there, else the one that is being entered.
func (p *Pool) fromInner(ctx context.Context) (m *member, err error) {
	handle, err := p.inner.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if err := handle.Raw(func(driverConn any) error {
		m = driverConn.(*member)
		return nil
	}); err != nil {
		panic("pgprod: " + err.Error()) // a *sql.Conn that nobody else knows can't be closed
	}
	m.handle = handle
	return m, nil
}

// cool hands to the inner *sql.DB what wasn't used for a while. The shelf's timer calls it.
//
// A place is held meanwhile, so that nobody is sent for a connection that is on its way. Without a free place everything is
// lent, and nothing is on the shelf for long.
func (p *Pool) cool() {
	before := clock.Now() - int64(p.shelf.unused)
	for p.queue.TryReserve() {
		m := p.shelf.shift(before)
		if m != nil {
			_ = m.handle.Close()
		}
		p.queue.Unreserve()
		if m == nil {
			break
		}
	}
	p.shelf.again()
}

// An entrance is where connections that were dialled wait, for a moment, until the inner *sql.DB asks for them.
type entrance struct {
	mu      sync.Mutex // guards waiting; nothing else is locked under it
	waiting []*member
}

func (e *entrance) offer(m *member) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waiting = append(e.waiting, m)
}

// take returns the one that came first, nil if there is none.
func (e *entrance) take() (m *member) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.waiting) > 0 {
		m, e.waiting = e.waiting[0], e.waiting[1:]
	}
	return m
}

func (e *entrance) waits(m *member) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Contains(e.waiting, m)
}

// withdraw takes one back, and reports whether it was still there.
func (e *entrance) withdraw(m *member) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := slices.Index(e.waiting, m)
	if i >= 0 {
		e.waiting = slices.Delete(e.waiting, i, i+1)
	}
	return i >= 0
}

// enter has the inner *sql.DB take a connection that was dialled, which then lies on the shelf.
//
// The inner *sql.DB asks for a new one only if none is idle there. As a rule none is, or nobody would have dialled; those
// that are come out to the shelf on the way. So may one that another dial has brought, or somebody who is looking for an
// idle one may take this one out: either way it has entered.
func (p *Pool) enter(m *member) {
	p.entrance.offer(m)
	for p.entrance.waits(m) {
		one, err := p.fromInner(context.Background()) // which waits for nothing but a connection that is being closed
		if err == nil {
			p.keepOrClose(one)
		} else if p.entrance.withdraw(m) { // the pool is closed
			p.discard(m, "closed")
		}
	}
}

// connector is the inner *sql.DB's. It dials nothing: it lets in what was dialled.
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

// newInner returns the inner *sql.DB with the limits of the settings.
func (p *Pool) newInner() *sql.DB {
	inner := sql.OpenDB(connector{p})
	inner.SetMaxOpenConns(p.cfg.Capacity())
	inner.SetMaxIdleConns(p.cfg.PoolSize)
	inner.SetConnMaxIdleTime(p.cfg.PoolIdleTimeout)
	inner.SetConnMaxLifetime(p.cfg.PoolRecycle)
	return inner
}
