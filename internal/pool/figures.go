package pool

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

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
	p.books.mu.Lock()
	defer p.books.mu.Unlock()
	s.Closings = maps.Clone(p.books.closings)
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

// books are the connections that exist and have existed.
type books struct {
	size atomic.Int64 // connections that exist: len(members), for who doesn't want to wait for mu

	mu        sync.Mutex // guards what follows; (*member).mu and what link.Conn.Doing locks may be locked under it
	members   map[*member]bool
	closings  map[string]int64 // by reason
	overflows int64            // connections opened beyond pool_size
	leaked    int64            // checkouts that were held beyond leak_detection and came back
	leakTimer *time.Timer      // calls lookForLeaks; nil while there is no connection
}

// remember and forget keep the books.
func (p *Pool) remember(m *member) (overflow bool) {
	b := &p.books
	b.mu.Lock()
	defer b.mu.Unlock()
	b.members[m] = true
	b.size.Add(1)
	p.watchLeaksLocked()
	if overflow = len(b.members) > p.cfg.PoolSize; overflow {
		b.overflows++
	}
	return overflow
}

func (p *Pool) forget(m *member, reason string) {
	b := &p.books
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.members, m)
	b.size.Add(-1)
	b.closings[reason]++
}

func (b *books) opened() (overflows int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.overflows
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
		Max:            p.cfg.MaxConns(),
		Timeouts:       s.Timeouts + s.Deadlines, // whoever's deadline it was
		FailedConnects: s.Failures,
		OverflowOpened: p.books.opened(),
		Closed:         closed,
		Leaks:          p.leaks(),
	}
}
