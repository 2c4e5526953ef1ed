package pool

import (
	"context"
	"errors"
	"time"

	"github.com/pgprod/pgprod/internal/clock"
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

// heed is called by hostChanged. If a host was found that will do, the dials that pause go on.
func (p *Pool) heed(c hosts.Change) {
	if p.scout == nil {
		return
	}
	if wanted := p.dialer.Hosts().Wanted(); c.Is.Serves(wanted) && !c.Was.Serves(wanted) {
		p.queue.Hasten()
	}
	p.scout.Changed()
}

// askHost asks a host how it is, and notes that. It is one of the scout's tasks, and ends within a ping's time.
func (p *Pool) askHost(h *hosts.Host) {
	ctx, cancel := context.WithTimeout(p.life, p.dialer.PingTimeout())
	defer cancel()
	began := time.Now()
	c, err := p.dialer.Dial(ctx, p.newObserver(), &link.Check{Anywhere: true, At: link.Place{Host: h}})
	if err != nil {
		if _, nothing := errors.AsType[*link.LoginError](err); !nothing && p.life.Err() == nil {
			h.Fails(err)
		}
		return
	}
	defer c.HangUp()
	took := time.Since(began)
	h.Serves(p.roleOf(ctx, c), took)
}

// roleOf returns the role of the server that a connection leads to. If the server doesn't report it by itself, and it matters,
// it is asked.
func (p *Pool) roleOf(ctx context.Context, c *link.Conn) hosts.Role {
	const question = "select pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on'"
	if role := c.Role(); role != hosts.NoRole || p.dialer.Hosts().Wanted() == "any" {
		return role
	}
	answer, err := c.Ask(ctx, question, guard.HangingUp)
	if err != nil || len(answer) != 1 || len(answer[0].Rows) != 1 {
		return hosts.NoRole
	}
	row := answer[0].Rows[0]
	return hosts.RoleOf(string(row[0]) == "t", string(row[1]) == "t")
}

// heardOf reports whether a host has answered on one of the connections within that time.
func (b *books) heardOf(h *hosts.Host, within time.Duration) bool {
	since := clock.Now() - int64(within)
	b.mu.Lock()
	defer b.mu.Unlock()
	for m := range b.members {
		if m.conn.Host() == h && m.conn.Heard() >= since {
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
