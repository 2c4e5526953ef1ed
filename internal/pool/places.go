package pool

import (
	"sync"
	"sync/atomic"

	"github.com/pgprod/pgprod/internal/hosts"
	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/pgerror"
)

// A place is where connections lead to: an address, as link.Conn.Address returns it. A name in the DSN may stand for several
// servers, each at an address of its own, and the loss of one says nothing of the connections to the others.
type place struct {
	pace   atomic.Int64  // how long it has taken lately to say that it is alive, see question.go
	lostAt atomic.Uint64 // the epoch of its latest loss: connections of that epoch and of earlier ones are closed; 0: none
}

// places are those that the pool's connections lead to. Time is counted in epochs, one from each loss to the next: a connection
// that was about to be made in the epoch of a loss may lead to what was there before.
type places struct {
	epoch atomic.Uint64 // the present one; the first is 1

	mu  sync.Mutex        // guards all, and the change of a place's lostAt; nothing else is locked under it
	all map[string]*place // by address; those without connections are dropped when there are too many
}

// mostPlaces is how many places are remembered at least: a name may lead to other addresses again and again.
const mostPlaces = 64

// at returns the place at an address.
func (p *places) at(address string) *place {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.all[address]
	if at == nil {
		at = &place{}
		p.all[address] = at
	}
	return at
}

// lose notes that a connection to a place was lost that was made in an epoch. It reports false if it belongs to those that
// the latest loss was about.
func (p *places) lose(at *place, epoch uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if epoch <= at.lostAt.Load() {
		return false
	}
	at.lostAt.Store(p.epoch.Add(1) - 1)
	return true
}

// prune drops the places that aren't in use, if there are too many. A connection that is being made to one of them, in an
// epoch of its losses, counts as sound then, until somebody looks at it.
func (p *places) prune(inUse map[*place]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for address, at := range p.all {
		if !inUse[at] {
			delete(p.all, address)
		}
	}
}

// tooMany reports whether prune is to be called.
func (p *places) tooMany() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.all) > mostPlaces
}

// settle is called by Dial with a connection that was made: from now on it goes with the others at its place.
func (p *Pool) settle(m *member) {
	if p.places.tooMany() {
		p.places.prune(p.books.places())
	}
	m.place = p.places.at(m.conn.Address())
}

// places returns the places that the pool has connections to.
func (b *books) places() map[*place]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	used := map[*place]bool{}
	for m := range b.members {
		used[m.place] = true
	}
	return used
}

// lost reports whether the connection was made in an epoch in which another one to the same place was lost.
func (m *member) lost() bool { return m.epoch <= m.place.lostAt.Load() }

// invalidate is called when a connection was lost that was made in an epoch, so that the others at its place that are as old
// can't be trusted: from now on none of them is lent, and a task closes those that are idle. Connections to other places stay.
// A further error from one of them changes nothing. If it is only the path of that connection that is dead, they stay.
func (p *Pool) invalidate(c *link.Conn, epoch uint64, cause error) {
	if hasDeadPath(c) {
		return
	}
	at := p.places.at(c.Address())
	if !p.places.lose(at, epoch) {
		return
	}
	p.noteLoss(cause)
	switch {
	case cause == hosts.ErrDeposed: // which is known already
	case pgerror.IsReadOnly(cause): // the server has been demoted
		c.Host().HasRole(c.Role())
	default:
		c.Host().Lost()
	}
	p.askHosts()
	p.tasks.run(func() { p.sweep("invalid", func(m *member) bool { return m.place == at && m.lost() }) })
}
