package pool

import (
	"database/sql"
	"database/sql/driver"
	"sync"
	"sync/atomic"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/credentials"
	"github.com/pgprod/pgprod/internal/hosts"
	"github.com/pgprod/pgprod/internal/link"
)

// A member is a connection of the pool, with what the pool knows of it. It belongs to whoever has taken it with takeIdle or
// has dialled it, one goroutine at a time, until it is kept or closed. Only conn's methods that say so and what mu guards
// may be used by others.
//
// It is the driver.Conn that the inner *sql.DB knows, and the observer of conn.
type member struct {
	*observer
	conn   *link.Conn
	place  *place    // where it leads to; not changed
	handle *sql.Conn // keeps it checked out of the inner *sql.DB while it is lent or on the shelf; nil before it has entered

	begun     int64              // by package clock: when its making began
	dialled   int64              // by package clock: when it was made
	expires   int64              // by package clock: from when on it is older than pool_recycle allows; 0: never
	checkedIn int64              // by package clock: when it was last given back, or made
	login     *credentials.Issue // what it was made with, if that may end before it; else nil. Not changed
	share     float64            // from 0 to 1, its own, see credentials.Issue.RetireAt. Not changed
	role      hosts.Role         // what its server was when its owner last looked
	roleSeen  int64              // by package clock: when that was
	neverLent bool               // it was made, and nobody has borrowed it yet
	leaving   atomic.Bool        // it leads to another place than a new one would, and is to be replaced; see moving
	condemned string             // the reason why it must not be lent again; "": it may be lent
	closing   string             // the reason why it is being closed, one of diary.Reasons; "": it is not being closed

	listens    bool  // something waits for a reply, and for a sign of life is listened since then; guarded by silenceWatch.mu
	quietSince int64 // by package clock: nothing has come since then, while something waits; guarded by silenceWatch.mu
	stuckSince int64 // by package clock: what was sent wasn't acknowledged since then; 0: it was; guarded by silenceWatch.mu

	mu       sync.Mutex // guards checkout; link.Conn.Doing, which takes a lock, may be called under it
	checkout checkout   // who has borrowed the connection; other goroutines look at it
}

var (
	_ driver.Conn      = (*member)(nil)
	_ driver.Validator = (*member)(nil)
)

// Prepare is there because driver.Conn has it. Nobody runs a statement on the inner *sql.DB, so it is never called.
func (m *member) Prepare(string) (driver.Stmt, error) { return nil, driver.ErrSkip }

// Begin is there because driver.Conn has it. It is never called, see Prepare.
func (m *member) Begin() (driver.Tx, error) { return nil, driver.ErrSkip }

// IsValid implements driver.Validator. The inner *sql.DB asks when m.handle is closed: it keeps the connection if it is
// valid, and closes it otherwise.
func (m *member) IsValid() bool { return m.closing == "" }

// Close implements driver.Conn. It is called once for each connection: by the inner *sql.DB, or by discard if the connection
// has not entered there. It doesn't wait for the network: a task says goodbye to the server, so that whoever gives the
// connection back, or waits for its place, is not held up.
func (m *member) Close() error {
	p := m.pool
	if m.closing == "" {
		p.writeOff(m, m.timeIsUp()) // closed by the inner *sql.DB, of its own accord
	}
	p.diary.Closed(m.conn.PID(), m.closing)
	p.tasks.run(m.conn.HangUp)
	return nil
}

// timeIsUp returns the reason for which the inner *sql.DB has closed an idle connection. The inner *sql.DB doesn't say, so
// it is found by the limits that the inner *sql.DB applies.
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

// discard takes a connection that belongs to its caller out of the books and closes it. The reason is one of diary.Reasons.
// The caller's place in the queue, if it has one, stays its own. No lock of ours must be held, since a line of log may be
// written.
func (p *Pool) discard(m *member, reason string) {
	p.writeOff(m, reason)
	if m.handle == nil { // the inner *sql.DB doesn't know it yet
		_ = m.Close()
		return
	}
	_ = m.handle.Close() // the inner *sql.DB asks IsValid and calls (*member).Close
}

// writeOff takes a connection out of the books and out of the queue's count, and notes the reason. Its caller closes it
// afterwards. Pool.overflow may be held.
func (p *Pool) writeOff(m *member, reason string) {
	m.closing = reason
	m.conn.Stop()
	p.forget(m, reason)
	p.queue.Closed()
}

// condemn looks whether there is a reason not to lend the connection again, notes it in m.condemned, and reports whether
// there is one. It is called when the connection is taken and when it is given back.
func (m *member) condemn(now int64) bool {
	m.condemned = m.verdict(now)
	return m.condemned != ""
}

// verdict returns the reason why the connection must not be lent again, one of diary.Reasons, or "" if there is none.
func (m *member) verdict(now int64) string {
	switch {
	case m.condemned != "":
		return m.condemned
	case m.conn.Dirty():
		return "dirty"
	case m.conn.Broken() || m.lost():
		return "invalid"
	case m.conn.Unfinished(): // asked only of a connection that is not broken
		return "dirty"
	case m.expired(now):
		return "lifetime"
	case m.retires(now):
		return "credentials"
	case m.leaving.Load():
		return "moved"
	}
	return ""
}

// expired reports whether the connection is older than pool_recycle allows, or than the last call of Recycle.
func (m *member) expired(now int64) bool {
	return m.expires > 0 && now > m.expires || m.begun < m.pool.trust.recycled.Load()
}
