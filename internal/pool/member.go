package pool

import (
	"database/sql"
	"database/sql/driver"
	"sync"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/link"
)

// A member is a connection of the pool, with what the pool has to know of it. Whoever has taken it from the shelf may use
// it, one goroutine at a time.
type member struct {
	*observer
	conn   *link.Conn
	handle *sql.Conn // what holds it in the inner *sql.DB while it is not idle there

	dialled   int64  // by package clock: when it was made
	expires   int64  // by package clock; 0: never
	checkedIn int64  // by package clock: when it was last given back, or made
	neverLent bool   // since it was made
	condemned string // why it must not be lent again, "" while it may
	closing   string // why it is being closed, "" while it is not

	mu   sync.Mutex // guards held
	held holding    // who has the connection, for other goroutines to look at
}

var (
	_ driver.Conn      = (*member)(nil)
	_ driver.Validator = (*member)(nil)
)

// Prepare and Begin complete driver.Conn; the inner *sql.DB is never asked for a statement.
func (m *member) Prepare(string) (driver.Stmt, error) { return nil, driver.ErrSkip }

// Begin is not used, see Prepare.
func (m *member) Begin() (driver.Tx, error) { return nil, driver.ErrSkip }

// IsValid is asked by the inner *sql.DB when it gets the connection back.
func (m *member) IsValid() bool { return m.closing == "" }

// Close implements driver.Conn. It is called once for each connection: by discard, or by the inner *sql.DB when an idle
// connection's time is up. It doesn't wait for the network: whoever gives a connection back, or waits for a place, has no
// part in how long the server takes to say goodbye.
func (m *member) Close() error {
	p := m.pool
	if m.closing == "" {
		p.writeOff(m, m.timeIsUp())
	}
	p.diary.Closed(m.conn.PID(), m.closing)
	p.tasks.run(m.conn.HangUp)
	return nil
}

// timeIsUp is why the inner *sql.DB has closed an idle connection.
func (m *member) timeIsUp() (reason string) {
	p, now := m.pool, clock.Now()
	switch {
	case p.closed.Load():
		return "closed"
	case m.expired(now):
		return "lifetime"
	case p.cfg.PoolIdleTimeout > 0 && now-m.checkedIn >= int64(p.cfg.PoolIdleTimeout):
		return "idle"
	default:
		return "overflow"
	}
}

// discard closes a connection that its caller has taken from the shelf, was lent, or has dialled. The reason is one of
// those that metrics know. No lock must be held, since the application's log is written to.
func (p *Pool) discard(m *member, reason string) {
	p.writeOff(m, reason)
	if m.handle == nil { // it has not entered the inner *sql.DB
		_ = m.Close()
		return
	}
	_ = m.handle.Close() // which calls (*member).Close, since the connection isn't valid any more
}

// writeOff takes a connection out of the pool's books. Its caller closes it. The pool's locks may be held.
func (p *Pool) writeOff(m *member, reason string) {
	m.closing = reason
	m.conn.Stop()
	p.forget(m, reason)
	p.queue.Closed()
}

// condemn notes why the connection must not be lent again, and reports whether there is a reason.
func (m *member) condemn(now int64) bool {
	m.condemned = m.verdict(now)
	return m.condemned != ""
}

// verdict says why the connection must not be lent again, or "".
func (m *member) verdict(now int64) string {
	switch {
	case m.condemned != "":
		return m.condemned
	case m.conn.Dirty():
		return "dirty"
	case m.conn.Broken() || m.generation != m.pool.trust.generation.Load():
		return "invalid"
	case m.conn.Unfinished():
		return "dirty"
	case m.expired(now):
		return "lifetime"
	}
	return ""
}

func (m *member) expired(now int64) bool { return m.expires > 0 && now > m.expires }
