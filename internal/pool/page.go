package pool

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/link"
)

// watch is what is collected only while a live page shows the pool.
type watch struct {
	once    sync.Once
	samples *activity.Recent[activity.Sample]
}

// Watch begins to collect durations of statements and samples of how full the pool is, which Snapshot shows. It is
// called when a live page is made, and ends with the pool.
func (p *Pool) Watch() {
	p.watch.once.Do(func() {
		p.watch.samples = activity.NewRecent[activity.Sample](activity.Samples)
		p.diary.Watch()
		if !p.closed.Load() {
			p.tasks.run(p.sample)
		}
	})
}

// sample ends with the pool's life.
func (p *Pool) sample() {
	tick := time.NewTicker(activity.Interval)
	defer tick.Stop()
	for {
		s := p.queue.Stats()
		p.watch.samples.Add(activity.Sample{
			At: time.Now(), CheckedOut: s.Lent, CheckedIn: max(0, s.Open-s.Lent), Waiting: s.Waiting, Timeouts: s.Timeouts,
		})
		select {
		case <-tick.C:
		case <-p.life.Done():
			return
		}
	}
}

// Snapshot returns all that is known of the pool. Watch must have been called.
func (p *Pool) Snapshot() activity.Snapshot {
	s := activity.Snapshot{
		At: time.Now(), Status: p.Status(), History: p.watch.samples.List(), Holders: p.holders(),
		Statements: p.diary.Statements(), Errors: p.diary.Errors(), Events: p.diary.Events(), Warnings: p.Warnings(),
	}
	for _, one := range append(p.cfg.Destination(), p.cfg.Shown()...) {
		s.Settings = append(s.Settings, activity.Setting{Key: one.Key, Value: one.Value, Source: string(one.Source)})
	}
	return s
}

// holders lists who has a connection, the longest first.
func (p *Pool) holders() (all []activity.Holder) {
	for _, h := range p.held() {
		running, rowsOpen := h.m.conn.State()
		kind, sql := h.m.conn.Doing()
		all = append(all, activity.Holder{
			Held: h.age, Leak: p.isLeak(int64(h.age)), Running: running, RowsOpen: rowsOpen,
			Statement: link.SummaryOf(h.m.conn.Target(), kind, sql), PID: h.m.conn.PID(), Stack: h.held.stack.Frames(),
		})
	}
	slices.SortFunc(all, func(a, b activity.Holder) int { return cmp.Compare(b.Held, a.Held) })
	return all
}

// held copies who has a connection. Dials and closes need the books, so that nothing that takes long is done under it.
func (p *Pool) held() (all []checkout) {
	now := clock.Now()
	p.books.mu.Lock()
	defer p.books.mu.Unlock()
	for m := range p.books.members {
		m.mu.Lock()
		held := m.held
		m.mu.Unlock()
		if held.since != 0 {
			all = append(all, checkout{m, held, time.Duration(now - held.since)})
		}
	}
	return all
}
