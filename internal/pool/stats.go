package pool

import (
	"maps"
	"time"

	"github.com/pgprod/pgprod/internal/instruments"
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

// remember and forget keep track of the connections that exist.
func (p *Pool) remember(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = true
	if len(p.conns) > p.cfg.PoolSize {
		p.overflows.Add(1)
	}
}

func (p *Pool) forget(c *conn, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	p.closings[reason]++
}

// leaks is how many checkouts were, or are, held beyond leak_detection.
func (p *Pool) leaks() int64 {
	now := clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.leaked
	for c := range p.conns {
		if at := c.lentAt.Load(); at != 0 && p.isLeak(now-at) {
			n++
		}
	}
	return n
}

// returned books that c is not lent any more, and returns how long it was. A leak is counted once, before or after.
func (p *Pool) returned(c *conn, now int64) int64 {
	held := now - c.lentAt.Load()
	if p.isLeak(held) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.leaked++
	}
	c.lentAt.Store(0)
	return held
}

func (p *Pool) isLeak(held int64) bool {
	return p.cfg.LeakDetection > 0 && held > int64(p.cfg.LeakDetection)
}

// state is what a collection of metrics reads. It is called by the meter's goroutine.
func (p *Pool) state() instruments.PoolState {
	s := p.Stats()
	return instruments.PoolState{
		Idle:           int64(max(0, s.Open-s.Lent)),
		Used:           int64(s.Lent),
		Pending:        int64(s.Waiting),
		IdleMax:        int64(p.cfg.PoolSize),
		Max:            p.limit(),
		Timeouts:       s.Timeouts,
		FailedConnects: s.Failures,
		OverflowOpened: p.overflows.Load(),
		Closed:         s.Closings,
		Leaks:          p.leaks(),
	}
}

// target returns telemetry's view of a server. There are as many as the DSN has hosts, or as their names resolve to.
func (p *Pool) target(s instruments.Server) *instruments.Target {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.targets[s]
	if t == nil {
		t = p.in.Target(s)
		p.targets[s] = t
	}
	return t
}

func seconds(clocked int64) float64 { return time.Duration(clocked).Seconds() }

// limit is how many connections there may be, 0 where max_overflow says unlimited.
func (p *Pool) limit() int64 {
	if p.cfg.MaxOverflow < 0 {
		return 0
	}
	return int64(p.cfg.Capacity())
}
