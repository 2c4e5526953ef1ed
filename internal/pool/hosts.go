package pool

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/activity"
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
	_, login := errors.AsType[*pgconn.ConnectError](err)
	_, dial := errors.AsType[*link.DialError](err)
	if login || dial {
		return link.SafeText(err)
	}
	return lossText(err)
}

// lossText is why a connection was lost, without values: the server's text may come from a function that raises such errors.
func lossText(cause error) string {
	if cause == errFoundDead || cause == link.ErrLost {
		return cause.Error()
	}
	return instruments.Describe(cause, "")
}
