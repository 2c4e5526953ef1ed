package pool

import (
	"context"
	"strconv"
	"time"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/diagnose"
	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/hosts"
	"github.com/pgprod/pgprod/internal/link"
)

// newScout returns what asks the hosts in the background, or nil if there is only one: nothing depends on what is known of it.
func (p *Pool) newScout() *hosts.Scout {
	board := p.dialer.Hosts()
	if len(board.Hosts()) < 2 {
		return nil
	}
	return hosts.NewScout(hosts.ScoutOptions{
		Board: board, Ask: p.askHost, Run: p.tasks.run, Heard: p.books.heardOf,
		Needed: func() bool { return !p.closed.Load() && (p.books.size.Load() > 0 || p.queue.Awaited()) },
	})
}

// askHosts has all hosts asked at once, in the background: one of them has gone, and another may have taken its place.
func (p *Pool) askHosts() {
	if p.scout != nil && !p.closed.Load() {
		p.scout.Now()
	}
}

// heed is called by hostChanged. If a host was found that will do, the dials that pause go on. If two claim to be the primary, it
// is found out which of them is.
func (p *Pool) heed(h *hosts.Host, c hosts.Change) {
	if p.scout == nil {
		return
	}
	switch changed := c.Is.Role != c.Was.Role; {
	case changed && c.Is.Role == hosts.Primary && p.dialer.Hosts().Contested():
		p.askHosts()
	case changed && c.Is.Role == hosts.Deposed:
		p.depose(h)
	}
	if wanted := p.dialer.Hosts().Wanted(); c.Is.Serves(wanted) && !c.Was.Serves(wanted) {
		p.queue.Hasten()
	}
	p.scout.Changed()
}

// depose replaces all connections to a host: what is written there is lost.
func (p *Pool) depose(h *hosts.Host) {
	newest := map[string]*member{}
	p.books.mu.Lock()
	for m := range p.books.members {
		if at := newest[m.conn.Address()]; m.conn.Host() == h && (at == nil || m.epoch > at.epoch) {
			newest[m.conn.Address()] = m
		}
	}
	p.books.mu.Unlock()
	for _, m := range newest {
		p.invalidate(m.conn, m.epoch, hosts.ErrDeposed)
	}
}

// askHost asks a host how it is, which its dialer notes. It is one of the scout's tasks, and ends within a ping's time.
func (p *Pool) askHost(h *hosts.Host) {
	ctx, cancel := context.WithTimeout(p.life, p.dialer.PingTimeout())
	defer cancel()
	c, err := p.dialer.Dial(ctx, p.newObserver(), &link.Check{Anywhere: true, At: link.Place{Host: h}})
	if err != nil {
		return
	}
	defer c.HangUp()
	if c.Role() == hosts.NoRole && p.dialer.Hosts().Wanted() != "any" {
		if kind, err := diagnose.AskKind(ctx, c); err == nil {
			h.HasRole(kind.Role())
		}
	}
	if role := h.Status().Role; (role == hosts.Primary || role == hosts.Deposed) && p.dialer.Hosts().Contested() {
		p.askClaim(ctx, c)
	}
}

// askClaim asks a server that takes itself for the primary, as another one does, for its timeline. Where a server can't say it,
// as in some clouds, nothing is known.
func (p *Pool) askClaim(ctx context.Context, c *link.Conn) {
	const question = "select system_identifier, ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint " +
		"from pg_control_system()"
	answer, err := c.Ask(ctx, question, guard.HangingUp)
	if err != nil || len(answer) != 1 || len(answer[0].Rows) != 1 {
		return
	}
	row := answer[0].Rows[0]
	if timeline, err := strconv.ParseUint(string(row[1]), 10, 32); err == nil {
		c.Host().Claims(hosts.Claim{Cluster: string(row[0]), Timeline: uint32(timeline)})
	}
}

// heardOf reports whether a host has answered on one of the connections within that time.
func (b *books) heardOf(h *hosts.Host, within time.Duration) bool {
	return b.heard(within, func(m *member) bool { return m.conn.Host() == h })
}

// placeHeard reports whether something has come from a place within that time, on any of the connections.
func (b *books) placeHeard(at *place, within time.Duration) bool {
	return b.heard(within, func(m *member) bool { return m.place == at })
}

// heard reports whether something has come within that time on one of these connections.
func (b *books) heard(within time.Duration, which func(*member) bool) bool {
	since := clock.Now() - int64(within)
	b.mu.Lock()
	defer b.mu.Unlock()
	for m := range b.members {
		if which(m) && m.conn.Heard() >= since {
			return true
		}
	}
	return false
}

// lookAtRole is how often a connection is looked at for another role of its server.
const lookAtRole = 100 * time.Millisecond

// noteRole is called when a connection is given back. If its server has said on it that its role has changed, as servers do from
// version 14 on, this becomes known for all.
func (p *Pool) noteRole(m *member, now int64) {
	if p.scout == nil || now-m.roleSeen < int64(lookAtRole) {
		return
	}
	m.roleSeen = now
	if role := m.conn.Role(); role != m.role {
		m.role = role
		m.conn.Host().HasRole(role)
	}
}
