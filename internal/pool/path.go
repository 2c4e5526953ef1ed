package pool

import (
	"errors"
	"time"

	"github.com/pgprod/pgprod/internal/hosts"
	"github.com/pgprod/pgprod/internal/link"
)

// A host may be alive and yet get nothing of what is sent on one of its connections, because something between has forgotten that
// connection: a firewall, or what translates addresses. The system would go on sending for a quarter of an hour. Such a connection is
// cut alone, since the host and its other connections are sound.
//
// The system knows when the other end's system has last acknowledged something. It does so by itself, whatever its server does or
// doesn't do, also where there is no room for more: so a server that is merely busy is never taken for one that can't be
// reached. TCP_USER_TIMEOUT would be simpler, but ends the connections of a server, too, that has no room. Such a one is asked for room
// less and less often, after a while once in two minutes, so that it is not enough that nothing was acknowledged for long: it
// must have been asked in vain, too, and more than once.

const (
	// soonestPathEnd is how long nothing may be acknowledged at least, and pathEnd the same in times of dead_after.
	soonestPathEnd = 10 * time.Second
	pathEnd        = 3
	// leastTries is how often the system must have tried in vain at least: one packet may be lost by chance, and the next try may come
	// late.
	leastTries = 3
)

// pathLimit returns how long nothing may be acknowledged on a connection whose host answers.
func (p *Pool) pathLimit() time.Duration { return max(soonestPathEnd, pathEnd*p.cfg.DeadAfter) }

// judgePaths looks at those connections to a place on which something has waited for dead_after and longer, a few times in
// dead_after, and returns what is to be done without a lock. It is called with silenceWatch.mu held.
func (p *Pool) judgePaths(at *silentPlace, now int64) (todo []func()) {
	if now-at.pathsSeen < int64(p.cfg.DeadAfter/restsPerDeath) {
		return nil
	}
	at.pathsSeen = now
	for _, m := range at.waiting {
		if err := p.judgePath(at, m, now); err != nil {
			todo = append(todo, func() { p.cut(m, err) })
		}
	}
	return todo
}

// judgePath returns why a connection is to be cut; nil: it isn't. It is called with silenceWatch.mu held.
func (p *Pool) judgePath(at *silentPlace, m *member, now int64) *hosts.PathError {
	if now-m.quietSince < int64(p.cfg.DeadAfter) {
		m.stuckSince = 0
		return nil
	}
	path, ok := m.conn.Path()
	limit := p.pathLimit()
	switch {
	case !ok, path.Tries == 0:
		m.stuckSince = 0
	case m.stuckSince == 0: // before that nothing was sent, so that nothing had to be acknowledged
		m.stuckSince = now
	case path.Tries >= leastTries && path.Silent >= limit && now-m.stuckSince >= int64(limit-p.cfg.DeadAfter) &&
		at.answered > now-int64(path.Silent) && !hasNews(m):
		m.stuckSince = 0
		quiet := time.Duration(now - m.quietSince) // less, if nothing was sent at first
		return &hosts.PathError{Host: m.conn.Host().Name(), Address: m.conn.Address(), For: min(path.Silent, quiet)}
	}
	return nil
}

// cut ends what waits on a connection whose path is dead.
func (p *Pool) cut(m *member, err *hosts.PathError) {
	if p.closed.Load() {
		return
	}
	m.conn.Sever(err)
	p.diary.Cut(failure(err))
}

// hasDeadPath reports whether a connection was cut because its path is dead, which says nothing of others.
func hasDeadPath(c *link.Conn) bool {
	_, dead := errors.AsType[*hosts.PathError](c.Severed())
	return dead
}
