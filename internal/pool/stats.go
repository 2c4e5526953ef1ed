package pool

import (
	"maps"

	"github.com/pgprod/pgprod/internal/lease"
)

// Stats is a snapshot of a Pool.
type Stats struct {
	lease.Stats
	Closings map[string]int64 // connections closed, by reason
}

// Stats returns a snapshot.
func (p *Pool) Stats() Stats {
	s := Stats{Stats: p.queue.Stats()}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Closings = maps.Clone(p.closings)
	return s
}

func (p *Pool) countClosed(reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closings[reason]++
}
