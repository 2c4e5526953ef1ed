//go:build linux

package lab

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgprod/pgprod/internal/lab/known"
	"github.com/pgprod/pgprod/internal/pgtest"
)

const (
	// crewSize is how many workers a client has.
	crewSize = 16
	// pace is what a worker does with its time between two calls. It leaves the machine room: this is about time, not load.
	pace = 10 * time.Millisecond
)

// A deed is one call of a worker, and what it was told.
type deed struct {
	id           int64
	worker       int
	began, ended time.Time
	told         known.Outcome
	err          error
}

// A crew is workers that make one call after the other by one client. Each call has a number of its own, and writes a row of
// that number.
type crew struct {
	client  client
	ready   func() bool        // of the pool; may be nil
	cancel  context.CancelFunc // of the calls: they have no deadline
	leaving atomic.Bool        // no call begins
	wg      sync.WaitGroup
	end     func()
	ids     atomic.Int64

	mu    sync.Mutex // guards deeds
	deeds []deed
	busy  [crewSize]time.Time // when the call under way of each worker has begun; zero: none is
}

// startCrew opens a client's pool, and lets workers begin. They end with the test, if not before.
func startCrew(t *testing.T, c client, dsn string) *crew {
	t.Helper()
	pool := c.open(t, dsn)
	w := &crew{client: c, ready: pool.ready}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	for worker := range crewSize {
		w.wg.Go(func() { w.work(ctx, worker, pool.call) }) // ends with leaving, at the latest with ctx
	}
	w.end = sync.OnceFunc(func() {
		w.leaving.Store(true)
		cancel()
		w.wg.Wait()
		pool.close()
	})
	t.Cleanup(w.end)
	return w
}

func (w *crew) work(ctx context.Context, worker int, call insert) {
	for !w.leaving.Load() {
		d := deed{id: w.ids.Add(1), worker: worker, began: time.Now()}
		w.note(worker, d.began)
		d.err = call(ctx, d.id)
		d.ended, d.told = time.Now(), w.client.told(d.err)
		if ctx.Err() != nil && d.err != nil {
			return // the call hasn't ended by itself: it counts as under way
		}
		w.add(d)
		time.Sleep(pace)
	}
}

func (w *crew) note(worker int, began time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy[worker] = began
}

func (w *crew) add(d deed) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deeds = append(w.deeds, d)
	w.busy[d.worker] = time.Time{}
}

// done returns the deeds that have ended after a time, in the order of their ends.
func (w *crew) done(after time.Time) []deed {
	w.mu.Lock()
	defer w.mu.Unlock()
	var some []deed
	for _, d := range w.deeds {
		if d.ended.After(after) {
			some = append(some, d)
		}
	}
	slices.SortFunc(some, func(a, b deed) int { return a.ended.Compare(b.ended) })
	return some
}

// stuck counts the calls that began before a time and are still under way.
func (w *crew) stuck(before time.Time) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, began := range w.busy {
		if !began.IsZero() && began.Before(before) {
			n++
		}
	}
	return n
}

// await waits until each worker has a deed that counts, for the limit at most, and returns whether that was so.
func (w *crew) await(limit time.Duration, after time.Time, counts func(deed) bool) bool {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		have := map[int]bool{}
		for _, d := range w.done(after) {
			if counts(d) {
				have[d.worker] = true
			}
		}
		if len(have) == crewSize {
			return true
		}
	}
	return false
}

// succeeded counts the deeds of calls that have begun after a time and succeeded.
func succeeded(begun time.Time) func(deed) bool {
	return func(d deed) bool { return d.told == known.Acknowledged && d.began.After(begun) }
}

func failed(d deed) bool { return d.told != known.Acknowledged }

// warm waits until all workers have had success, and the pool knows its hosts.
func (w *crew) warm(t *testing.T) {
	t.Helper()
	begin := time.Now()
	for range 3 {
		if !w.await(patience, begin, succeeded(begin)) {
			t.Fatalf("%s doesn't work", w.client.name)
		}
		begin = time.Now()
	}
	if w.ready != nil {
		pgtest.Eventually(t, patience, w.ready, "%s doesn't get to know its hosts", w.client.name)
	}
}

// leave lets the calls under way end, for a while, and returns how many don't.
func (w *crew) leave(limit time.Duration) (hung int) {
	w.leaving.Store(true)
	now := time.Now()
	for deadline := now.Add(limit); time.Now().Before(deadline) && w.stuck(now) > 0; time.Sleep(5 * time.Millisecond) {
	}
	hung = w.stuck(now)
	w.end()
	return hung
}

// errors returns each text of an error once.
func (w *crew) errors() (texts []string) {
	for _, d := range w.done(time.Time{}) {
		if d.err != nil && !slices.Contains(texts, d.err.Error()) {
			texts = append(texts, d.err.Error())
		}
	}
	return texts
}
