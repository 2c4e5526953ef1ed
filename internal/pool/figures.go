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
	"github.com/pgprod/pgprod/internal/link"
)

// stats is a snapshot of the figures of a Pool.
type stats struct {
	lease.Stats
	Closings map[string]int64 // how many connections were closed, by reason
	Unknown  int64            // COMMITs whose outcome is unknown
}

// stats returns a snapshot.
func (p *Pool) stats() stats {
	s := stats{Stats: p.queue.Stats()}
	p.books.mu.Lock()
	defer p.books.mu.Unlock()
	s.Closings = maps.Clone(p.books.closings)
	for _, n := range p.books.unknown {
		s.Unknown += n
	}
	return s
}

// Status returns a snapshot of the figures under the names that the root package documents, utilisation included. A pool
// with unlimited overflow is measured by pool_size alone.
func (p *Pool) Status() activity.Status {
	cfg, s := p.cfg, p.stats()
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
		CommitsUnknown:  s.Unknown,
		Closed:          s.Closings,
		Hosts:           p.hosts(),
	}
}

// books are all connections that exist, and counters of those that have existed.
type books struct {
	size atomic.Int64 // len(members), to be read without waiting for mu

	mu        sync.Mutex // guards what follows; member.mu, and the lock that link.Conn.Doing takes, may be taken under it
	members   map[*member]bool
	closings  map[string]int64       // connections that were closed, by reason
	unknown   map[link.Unknown]int64 // COMMITs whose outcome is unknown, by reason
	begun     map[string]int64       // transactions that InTx has begun again, by the error.type of why
	overflows int64                  // connections that were made beyond pool_size
	leaked    int64                  // leaks that are over: checkouts that lasted longer than leak_detection
	leakTimer *time.Timer            // calls checkForLeaks; nil while leaks aren't watched, since there is no connection
}

// remember enters a connection that was made into the books, and reports whether it is one beyond pool_size.
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

// forget takes a connection that is about to be closed out of the books.
func (p *Pool) forget(m *member, reason string) {
	b := &p.books
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.members, m)
	b.size.Add(-1)
	b.closings[reason]++
}

// commits returns how many COMMITs there were whose outcome is unknown, by each of the reasons, and how many transactions InTx
// has begun again, by why.
func (p *Pool) commits() (unknown, again map[string]int64) {
	p.books.mu.Lock()
	defer p.books.mu.Unlock()
	unknown = map[string]int64{}
	for _, why := range link.Unknowns() { // zeros as well, see state
		unknown[string(why)] = p.books.unknown[why]
	}
	again = map[string]int64{}
	for _, why := range usually {
		again[why] = 0
	}
	maps.Copy(again, p.books.begun)
	return unknown, again
}

// begunAgain returns how many transactions InTx has begun again, by why.
func (p *Pool) begunAgain() map[string]int64 {
	p.books.mu.Lock()
	defer p.books.mu.Unlock()
	return maps.Clone(p.books.begun)
}

// overflowsOpened returns how many connections were made beyond pool_size.
func (b *books) overflowsOpened() (overflows int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.overflows
}

// state returns what a collection of metrics reads. Instruments call it, in a goroutine of the application's metrics SDK.
func (p *Pool) state() instruments.PoolState {
	s := p.stats()
	unknown, again := p.commits()
	closed := map[string]int64{}
	for reason := range diary.Reasons() { // zeros as well: a rate misses the first increment of a series that begins with it
		closed[reason] = s.Closings[reason]
	}
	return instruments.PoolState{
		Idle:           int64(max(0, s.Open-s.Lent)),
		Used:           int64(s.Lent),
		Pending:        int64(s.Waiting),
		IdleMin:        int64(p.cfg.PoolMin),
		IdleMax:        int64(p.cfg.PoolSize),
		Max:            p.cfg.MaxConns(),
		Timeouts:       s.Timeouts + s.Deadlines, // of pool_timeout and of callers' contexts
		FailedConnects: s.Failures,
		OverflowOpened: p.books.overflowsOpened(),
		Closed:         closed,
		Leaks:          p.leaks(),
		Unknown:        unknown,
		BegunAgain:     again,
		ServerLimit:    p.preflight.Limit(),
		Health:         p.prober.State(),
		Hosts:          p.hostStates(),
	}
}
