package pool

import (
	"context"
	"database/sql"
	"database/sql/driver"
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
	idle    []*conn    // the one that was used last at the end
	timer   *time.Timer
	ticking bool // the timer will fire
	closed  bool
}

// push puts an idle connection on top, and has cool called after a while. It refuses if the pool is closed.
func (s *shelf) push(c *conn, after time.Duration, cool func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.idle = append(s.idle, c)
	if s.ticking {
		return true
	}
	s.ticking = true
	if s.timer == nil {
		s.timer = time.AfterFunc(after, cool)
	} else {
		s.timer.Reset(after)
	}
	return true
}

// pop takes the connection that was used last, nil if there is none.
func (s *shelf) pop() *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.idle) - 1
	if last < 0 {
		return nil
	}
	c := s.idle[last]
	s.idle[last] = nil
	s.idle = s.idle[:last]
	return c
}

// shift takes the connection that was used first, if that was before a time; nil otherwise.
func (s *shelf) shift(before int64) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.idle) == 0 || s.idle[0].returned > before {
		return nil
	}
	c := s.idle[0]
	s.idle[0] = nil
	s.idle = s.idle[1:]
	return c
}

// again restarts the timer if something is left.
func (s *shelf) again(after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ticking = len(s.idle) > 0 && !s.closed; s.ticking {
		s.timer.Reset(after)
	}
}

// close empties the shelf for good.
func (s *shelf) close() []*conn {
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
func (p *Pool) keep(c *conn) bool { return p.shelf.push(c, p.shelfTime, p.cool) }

// keepOrClose is keep for who has no other use for the connection.
func (p *Pool) keepOrClose(c *conn) {
	if !p.keep(c) {
		p.discard(c, "closed")
	}
}

// takeIdle takes an idle connection: from the shelf, else from the inner *sql.DB. The caller has a place in the queue, so
// that as a rule there is one; it is errNoneIdle if that was closed at this very moment.
func (p *Pool) takeIdle(ctx context.Context) (*conn, error) {
	if c := p.shelf.pop(); c != nil {
		return c, nil
	}
	return p.fromInner(ctx)
}

// fromInner takes a connection from the inner *sql.DB: one that is idle there, else the one that is being entered.
func (p *Pool) fromInner(ctx context.Context) (c *conn, err error) {
	handle, err := p.inner.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if err := handle.Raw(func(driverConn any) error {
		c = driverConn.(*conn)
		return nil
	}); err != nil {
		panic("pgprod: " + err.Error()) // a *sql.Conn that nobody else knows can't be closed
	}
	c.handle = handle
	return c, nil
}

// cool hands to the inner *sql.DB what wasn't used for a while. The shelf's timer calls it.
//
// A place is held meanwhile, so that nobody is sent for a connection that is on its way. Without a free place everything is
// lent, and nothing is on the shelf for long.
func (p *Pool) cool() {
	before := clock.Now() - int64(p.shelfTime)
	for p.queue.TryAcquire() {
		c := p.shelf.shift(before)
		if c != nil {
			_ = c.handle.Close()
		}
		p.queue.ReleaseAside()
		if c == nil {
			break
		}
	}
	p.shelf.again(p.shelfTime)
}

// An entrance is where a connection that was dialled waits for the inner *sql.DB to ask for one.
type entrance struct {
	one sync.Mutex // is held while a connection enters: they enter one at a time

	mu   sync.Mutex // guards next; nothing else is locked under it
	next *conn      // nil: none, or it was taken
}

func (e *entrance) offer(c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.next = c
}

func (e *entrance) take() (c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, e.next = e.next, nil
	return c
}

// enter has the inner *sql.DB take a connection that was dialled, which then lies on the shelf.
//
// The inner *sql.DB asks for a new one only if none is idle there. As a rule none is, or nobody would have dialled; those
// that are come out to the shelf on the way.
func (p *Pool) enter(c *conn) {
	p.entrance.one.Lock()
	defer p.entrance.one.Unlock()
	p.entrance.offer(c)
	for {
		entered, err := p.fromInner(context.Background()) // which waits for nothing but a connection that is being closed
		switch {
		case err == nil:
			p.keepOrClose(entered)
			if entered == c {
				return
			}
		case p.entrance.take() == nil:
			return // somebody who was looking for an idle one has it
		default: // the pool is closed
			p.writeOff(c, "closed")
			_ = c.Close()
			return
		}
	}
}

// connector is the inner *sql.DB's. It dials nothing: it lets in what was dialled.
type connector struct{ pool *Pool }

var _ driver.Connector = connector{}

// Connect implements driver.Connector.
func (k connector) Connect(context.Context) (driver.Conn, error) {
	c := k.pool.entrance.take()
	if c == nil {
		return nil, errNoneIdle
	}
	return c, nil
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
