package pool

import (
	"maps"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/diary"
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

// Status returns the numbers of a snapshot as people want them.
func (p *Pool) Status() activity.Status {
	cfg, s := p.cfg, p.Stats()
	capacity := float64(cfg.PoolSize)
	if cfg.MaxOverflow > 0 {
		capacity += float64(cfg.MaxOverflow)
	}
	return activity.Status{
		PoolName:        cfg.PoolName,
		PoolSize:        cfg.PoolSize,
		MaxOverflow:     cfg.MaxOverflow,
		CheckedOut:      s.Lent,
		CheckedIn:       max(0, s.Open-s.Lent),
		Overflow:        max(0, s.Open-cfg.PoolSize),
		Waiting:         s.Waiting,
		Connecting:      s.Dialing,
		Utilisation:     float64(s.Lent) / capacity,
		PeakCheckedOut:  s.PeakLent,
		PeakUtilisation: float64(s.PeakLent) / capacity,
		Waits:           s.Waits,
		WaitTime:        s.WaitTime,
		Timeouts:        s.Timeouts,
		FailedConnects:  s.Failures,
		Closed:          s.Closings,
	}
}

// remember and forget keep track of the connections that exist.
func (p *Pool) remember(c *conn) (overflow bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = true
	p.size.Add(1)
	p.watchLeaksLocked()
	if len(p.conns) > p.cfg.PoolSize {
		p.overflows.Add(1)
		return true
	}
	return false
}

func (p *Pool) forget(c *conn, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	p.size.Add(-1)
	p.closings[reason]++
}

// state is what a collection of metrics reads. It is called by the meter's goroutine.
func (p *Pool) state() instruments.PoolState {
	s := p.Stats()
	closed := map[string]int64{}
	for reason := range diary.Reasons() { // from zero on: a rate doesn't see a series begin
		closed[reason] = s.Closings[reason]
	}
	return instruments.PoolState{
		Idle:           int64(max(0, s.Open-s.Lent)),
		Used:           int64(s.Lent),
		Pending:        int64(s.Waiting),
		IdleMax:        int64(p.cfg.PoolSize),
		Max:            p.limit(),
		Timeouts:       s.Timeouts + s.Deadlines, // whoever's deadline it was
		FailedConnects: s.Failures,
		OverflowOpened: p.overflows.Load(),
		Closed:         closed,
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

// limit is how many connections there may be, 0 where max_overflow says unlimited.
func (p *Pool) limit() int64 {
	if p.cfg.MaxOverflow < 0 {
		return 0
	}
	return int64(p.cfg.Capacity())
}
