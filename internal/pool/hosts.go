package pool

import (
	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/diary"
	"github.com/pgprod/pgprod/internal/hosts"
	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/link"
)

// hosts returns what is known of each host, in the DSN's order.
func (p *Pool) hosts() (all []activity.HostStatus) {
	connections := p.books.byHost()
	for _, h := range p.dialer.Hosts().Hosts() {
		s := h.Status()
		all = append(all, activity.HostStatus{
			Host: h.Name(), Role: s.Role.String(), State: s.State.String(), Since: s.Since.UTC().Round(0), Latency: s.Latency,
			Connections: connections[h], Error: hostError(s.Err),
		})
	}
	return all
}

// hostStates returns the same for metrics, if there are several hosts: the figures of a single one are the pool's.
func (p *Pool) hostStates() (all []instruments.HostState) {
	board := p.dialer.Hosts().Hosts()
	if len(board) == 1 {
		return nil
	}
	connections := p.books.byHost()
	for _, h := range board {
		s := h.Status()
		all = append(all, instruments.HostState{
			Name: h.Name(), State: s.State, Role: s.Role, Latency: s.Latency, Connections: int64(connections[h]),
		})
	}
	return all
}

// hostChanged does what follows when a host has gone, come back or changed its role, and tells the diary. It is the Board's
// Changed hook. Of a single host nothing is told, since the lines about dials and lost connections say all of it.
func (p *Pool) hostChanged(h *hosts.Host, c hosts.Change) {
	if len(p.dialer.Hosts().Hosts()) == 1 || p.closed.Load() {
		return
	}
	p.heed(h, c)
	is := diary.Host{Name: h.Name(), Role: c.Is.Role.String()}
	if c.Is.State != c.Was.State {
		p.tellState(h, is, c)
	}
	if c.Is.Role != c.Was.Role && c.Was.Role != hosts.NoRole {
		p.diary.HostHasRole(is, c.Was.Role.String(), c.Is.Role == hosts.Deposed)
	}
}

// tellState tells the diary that a host has gone or come back. Of a host that is neither, since it has only lost connections,
// nothing is told. Changes that follow each other at once may come here in any order, so that it looks what holds now.
func (p *Pool) tellState(h *hosts.Host, is diary.Host, c hosts.Change) {
	switch {
	case h.Status().State != c.Is.State:
	case c.Is.State == hosts.Down:
		is.Connections = p.books.byHost()[h]
		p.diary.HostDown(is, diary.Failure{Type: instruments.ErrorType(c.Is.Err), Text: hostError(c.Is.Err)})
		if now := h.Status(); now.State == hosts.Up {
			p.diary.HostUp(diary.Host{Name: h.Name(), Role: now.Role.String()})
		}
	case c.Is.State == hosts.Up && c.Was.State == hosts.Down:
		p.diary.HostUp(is)
	}
}

// byHost returns how many connections there are to each host.
func (b *books) byHost() map[*hosts.Host]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := map[*hosts.Host]int{}
	for m := range b.members {
		n[m.conn.Host()]++
	}
	return n
}

// hostError puts the reason why a host is down into words that may be shown; "" if it isn't down.
func hostError(err error) string {
	if err == nil {
		return ""
	}
	if text, ok := link.HostText(err); ok {
		return text
	}
	return lossText(err)
}

// lossText is why a connection was lost, without values: the server's text may come from a function that raises such errors.
func lossText(cause error) string {
	if cause == errFoundDead || cause == hosts.ErrDeposed || cause == link.ErrLost {
		return cause.Error()
	}
	return instruments.Describe(cause, "")
}
