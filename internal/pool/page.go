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

// watch is what is collected only for a live page.
type watch struct {
	once    sync.Once
	samples *activity.Recent[activity.Sample] // how full the pool was lately; nil until Watch
}

// Watch begins to collect what Snapshot shows besides the figures: durations of statements, and samples of how full the pool
// is. It is called when a live page is made, and may be called more than once. Collecting ends with the pool.
func (p *Pool) Watch() {
	p.watch.once.Do(func() {
		p.watch.samples = activity.NewRecent[activity.Sample](activity.Samples)
		p.diary.Watch()
		if p.cfg.SlowQueryPlan && p.cfg.SlowQuery > 0 {
			p.plans.Begin()
		}
		if !p.closed.Load() {
			p.tasks.run(p.sample)
		}
	})
}

// sample notes how full the pool is, again and again. It is a task that ends with the pool's life.
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

// Snapshot returns all that the live page shows of the pool. Watch must have been called before.
func (p *Pool) Snapshot() activity.Snapshot {
	s := activity.Snapshot{
		At: time.Now(), Status: p.Status(), BegunAgain: p.begunAgain(), History: p.watch.samples.List(), Holders: p.holders(),
		Repeated: p.repeats.List(), Slow: p.diary.Slow(), Saved: p.dialer.Saved(), Statements: p.diary.Statements(),
		Errors: p.diary.Errors(), Events: p.diary.Events(), Warnings: p.Warnings(),
	}
	for i := range s.Statements {
		s.Statements[i].Plan = p.plans.Of(s.Statements[i].Summary)
	}
	s.Blocking = activity.TreeOf(s.Holders)
	for _, setting := range append(p.cfg.Destination(), p.cfg.Shown()...) {
		s.Settings = append(s.Settings, activity.Setting{Key: setting.Key, Value: setting.Value, Source: string(setting.Source)})
	}
	return s
}

// holders lists who has borrowed a connection and what for, the longest checkout first.
func (p *Pool) holders() (all []activity.Holder) {
	for _, h := range p.openCheckouts() {
		running, rowsOpen := h.m.conn.State()
		kind, sql := h.m.conn.Doing()
		holder := activity.Holder{
			Held: h.age, Leak: p.isLeak(int64(h.age)), Running: running, RowsOpen: rowsOpen,
			Statement: link.SummaryOf(h.m.conn.Target(), kind, sql), PID: h.m.conn.PID(), Stack: h.stack.Frames(),
			Server: h.m.conn.Address(),
		}
		if s, ok := h.m.conn.UnderWay(); ok {
			holder.Runs, holder.Cause = time.Duration(clock.Now()-s.Began), s.Cause
			if s.Cause != nil {
				holder.Found = s.Cause.String()
			}
			if s.Trace.IsValid() {
				holder.TraceID = s.Trace.String()
			}
		}
		all = append(all, holder)
	}
	slices.SortFunc(all, func(a, b activity.Holder) int { return cmp.Compare(b.Held, a.Held) })
	return all
}

// openCheckouts returns a copy of each checkout that goes on. Only the copying is done with books.mu held, which every dial
// and every close of a connection needs; names of statements and stacks are looked up afterwards.
func (p *Pool) openCheckouts() (all []openCheckout) {
	now := clock.Now()
	p.books.mu.Lock()
	defer p.books.mu.Unlock()
	for m := range p.books.members {
		m.mu.Lock()
		copied := m.checkout
		m.mu.Unlock()
		if copied.since != 0 {
			all = append(all, openCheckout{checkout: copied, m: m, age: time.Duration(now - copied.since)})
		}
	}
	return all
}
