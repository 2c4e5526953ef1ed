package main

import (
	"context"
	"sync"
	"time"

	"github.com/pgprod/pgprod/internal/histogram"
)

// shortestSlot is the shortest time for which a timeline has a point.
const shortestSlot = 50 * time.Millisecond

// timeline is what happened during a load, in slots of equal length. It is safe for concurrent use.
type timeline struct {
	slot time.Duration

	mu     sync.Mutex // guards points
	points []*point   // of the slots that are over; a point isn't changed any more
}

// newTimeline returns a timeline with as many slots as a chart has columns.
func newTimeline(duration time.Duration, columns int) *timeline {
	return &timeline{slot: max(shortestSlot, duration/time.Duration(columns))}
}

// point is what happened in a slot, or in several.
type point struct {
	lasted time.Duration
	took   *histogram.Histogram // of requests
	waits  *histogram.Histogram // for a connection, of the callers that had to wait
	failed int                  // requests
	lent   int64                // how often a connection was lent and given back
	held   time.Duration        // how long callers had these connections, in all

	samples   int // how often the pool's status was read
	inUse     int // connections in use, the sum of all samples
	mostInUse int // the most of a sample
	full      int // samples in which all connections that the pool may have were in use
}

// sample adds a sample of the pool's status.
func (p *point) sample(inUse int, full bool) {
	p.samples++
	if full {
		p.full++
	}
	p.inUse += inUse
	p.mostInUse = max(p.mostInUse, inUse)
}

// meanInUse is how many connections were in use on average.
func (p *point) meanInUse() float64 { return float64(p.inUse) / float64(max(1, p.samples)) }

// merge returns several points as one.
func merge(points []*point) *point {
	sum := &point{took: newLatencies(), waits: newLatencies()}
	for _, p := range points {
		sum.took.Add(p.took)
		sum.waits.Add(p.waits)
		sum.lasted += p.lasted
		sum.failed += p.failed
		sum.lent += p.lent
		sum.held += p.held
		sum.samples += p.samples
		sum.inUse += p.inUse
		sum.full += p.full
		sum.mostInUse = max(sum.mostInUse, p.mostInUse)
	}
	return sum
}

// all returns the points so far.
func (t *timeline) all() []*point {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]*point(nil), t.points...)
}

func (t *timeline) add(p *point) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.points = append(t.points, p)
}

// reading has all counters of a load at one moment.
type reading struct {
	at          time.Time
	took, waits *histogram.Histogram
	failed      int
	lent        int64
	held        time.Duration
}

// reading returns the counters of this moment.
func (l *load) reading() reading {
	waits := newLatencies()
	waits.Add(l.pool.meters.waits)
	return reading{
		at: time.Now(), took: l.all(), waits: waits, failed: l.failures.count(),
		lent: l.pool.meters.lent.Load(), held: time.Duration(l.pool.meters.held.Load()),
	}
}

// since sets in p what has happened since an earlier reading, and returns p.
func (r reading) since(earlier reading, p *point) *point {
	p.lasted = r.at.Sub(earlier.at)
	p.took, p.waits = r.took.Since(earlier.took), r.waits.Since(earlier.waits)
	p.failed = r.failed - earlier.failed
	p.lent, p.held = r.lent-earlier.lent, r.held-earlier.held
	return p
}

// watch adds points to the timeline until the context until ends.
func (l *load) watch(until context.Context) {
	ticker := time.NewTicker(min(l.timeline.slot/10, 100*time.Millisecond))
	defer ticker.Stop()
	last, p := l.reading(), new(point)
	for until.Err() == nil {
		select {
		case <-ticker.C:
			if s, err := l.pool.status(); err == nil {
				p.sample(s.CheckedOut, s.MaxOverflow >= 0 && s.CheckedOut >= s.PoolSize+s.MaxOverflow)
			}
		case <-until.Done():
		}
		if time.Since(last.at) < l.timeline.slot && until.Err() == nil {
			continue
		}
		next := l.reading()
		l.timeline.add(next.since(last, p))
		last, p = next, new(point)
	}
}
