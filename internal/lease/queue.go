// Package lease hands out the right to use a connection: first come, first served, within a time limit, each place
// given and given back exactly once. It also decides when another connection is dialled, and how many at once.
//
// The queue does not know the connections, it counts them. A caller that Acquire lets through takes one from wherever
// they are parked; there is always one, or (when it was closed at that very moment) Retry puts the caller back at the
// head of the queue.
package lease

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// ErrTimeout: no connection became free within the limit.
var ErrTimeout = errors.New("no connection became free in time")

// ErrClosed: the queue has been closed.
var ErrClosed = errors.New("closed")

// A Queue is safe for concurrent use.
type Queue struct {
	max    int
	dialer Dialer

	ctx    context.Context // ends with Close; dials run under it, not under their requester's context
	cancel context.CancelFunc
	dials  sync.WaitGroup // the dial goroutines; Close waits for them

	// pool is the queue's own: a timer that was made in a synctest bubble must not turn up outside it.
	pool sync.Pool // of *waiter

	mu      sync.Mutex // guards all below
	waiters list.List  // of *waiter: those that came back with Retry, then the others, the longest waiting first
	open    int        // connections that exist, lent or parked
	lent    int        // places given to callers
	aside   int        // of those, given by TryAcquire: they come back in a moment
	closed  bool
	ramp    ramp
	stats   Stats
}

// Stats is a snapshot of a Queue.
type Stats struct {
	Open      int           // connections that exist
	Lent      int           // of those, in callers' hands
	Waiting   int           // callers in the queue
	Longest   time.Duration // how long one of them has waited at most
	Dialing   int           // connections being made
	PeakLent  int           // the most that were ever lent at once
	Waits     int64         // callers that had to wait, however often one came back with Retry
	WaitTime  time.Duration // the sum of their waits
	Timeouts  int64         // waits that ended with ErrTimeout
	Cancelled int64         // waits that ended with their context
	Deadlines int64         // of those, because its deadline had come
	Failures  int64         // dials that failed
	LastError error         // of the latest dial; nil once one succeeds, and when somebody begins to wait while none is under way
}

// NewQueue returns a queue for at most max connections, made by dialer.
func NewQueue(max int, dialer Dialer) *Queue {
	q := &Queue{max: max, dialer: dialer}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	q.pool.New = newWaiter
	q.ramp = ramp{burst: firstBurst, slow: map[*attempt]struct{}{}}
	return q
}

type waiter struct {
	ready chan error // gets nil with the place, or why there will be none; room for one, so that no sender blocks
	timer *time.Timer
	ctx   context.Context // the caller's
	again bool            // came back with Retry
	since time.Time
}

func newWaiter() any {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &waiter{ready: make(chan error, 1), timer: t}
}

// Acquire waits for a connection, at most for limit (0: as long as ctx lets it), and returns how long it waited. On
// success the caller owns a place until it calls Release. The error is ErrTimeout, ErrClosed, the context's, or that of
// a dial which there is no use in repeating.
func (q *Queue) Acquire(ctx context.Context, limit time.Duration) (waited time.Duration, err error) {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return 0, ErrClosed
	}
	if q.waiters.Len() == 0 && q.lent < q.open {
		q.lendLocked()
		q.mu.Unlock()
		return 0, nil
	}
	q.stats.Waits++
	return q.wait(ctx, limit, false)
}

// TryAcquire takes a connection that lies idle, if there is one, for a moment: without a trace in the statistics, and
// who comes meanwhile waits for it rather than having another dialled. Who gets one calls ReleaseAside.
func (q *Queue) TryAcquire() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.waiters.Len() > 0 || q.lent >= q.open {
		return false
	}
	q.lent++
	q.aside++
	return true
}

// ReleaseAside gives back what TryAcquire took.
func (q *Queue) ReleaseAside() {
	q.mu.Lock()
	q.aside--
	q.lent--
	q.settleLocked()
	q.mu.Unlock()
}

// Retry is for a caller that owns a place but found no usable connection: it gives the place back and waits for
// another, ahead of everybody who has had no place yet. On success it owns a place again, on error it owns none. hasWaited
// says that the caller has been in the queue before, so that Stats counts it once.
func (q *Queue) Retry(ctx context.Context, limit time.Duration, hasWaited bool) (waited time.Duration, err error) {
	q.mu.Lock()
	q.lent--
	if q.closed {
		q.mu.Unlock()
		return 0, ErrClosed
	}
	if q.lent < q.open {
		q.lendLocked()
		q.mu.Unlock()
		return 0, nil
	}
	if !hasWaited {
		q.stats.Waits++
	}
	return q.wait(ctx, limit, true)
}

// GiveUp is for a caller that owns a place but found no usable connection within its time limit: it gives the place
// back, and its wait has timed out.
func (q *Queue) GiveUp() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lent--
	q.settleLocked()
	if q.closed {
		return ErrClosed
	}
	q.leftLocked(ErrTimeout)
	return ErrTimeout
}

// Left tells that a caller that owns a place has gone without a connection because of why, the end of its context. The
// place is given back by itself.
func (q *Queue) Left(why error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.leftLocked(why)
}

// wait is called with q.mu held and releases it.
func (q *Queue) wait(ctx context.Context, limit time.Duration, again bool) (time.Duration, error) {
	start := time.Now()
	w := q.pool.Get().(*waiter)
	w.again, w.ctx, w.since = again, ctx, start
	place := q.enqueueLocked(w)
	if q.ramp.dialing == 0 {
		q.stats.LastError = nil // what failed for those who waited before is no reason for this wait
	}
	q.dialLocked()
	q.mu.Unlock()

	var expired <-chan time.Time
	if limit > 0 {
		w.timer.Reset(limit)
		expired = w.timer.C
	}
	var err error
	select {
	case err = <-w.ready:
	case <-ctx.Done():
		err = q.leave(w, place, ctx.Err())
	case <-expired:
		err = q.leave(w, place, ErrTimeout)
	}
	w.timer.Stop()
	w.ctx = nil
	q.pool.Put(w)

	waited := time.Since(start)
	q.mu.Lock()
	q.stats.WaitTime += waited
	q.mu.Unlock()
	return waited, err
}

// enqueueLocked puts w at the end of its kind.
func (q *Queue) enqueueLocked(w *waiter) *list.Element {
	if !w.again {
		return q.waiters.PushBack(w)
	}
	for e := q.waiters.Front(); e != nil; e = e.Next() {
		if !e.Value.(*waiter).again {
			return q.waiters.InsertBefore(w, e)
		}
	}
	return q.waiters.PushBack(w)
}

// leave takes w out of the queue because of why. A place that was given in that very moment is kept if the time was
// up (nobody shall hear of a timeout who has a connection), and passed on if the context ended.
func (q *Queue) leave(w *waiter, place *list.Element, why error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case err := <-w.ready:
		if err != nil || why == ErrTimeout {
			return err
		}
		q.lent--
		q.settleLocked()
	default:
		q.waiters.Remove(place)
	}
	q.leftLocked(why)
	return why
}

func (q *Queue) leftLocked(why error) {
	switch {
	case why == ErrTimeout:
		q.stats.Timeouts++
	case errors.Is(why, context.DeadlineExceeded):
		q.stats.Deadlines++
		fallthrough
	default:
		q.stats.Cancelled++
	}
}

// Release gives a place back. The connection stays where it can be lent again, unless Closed was called for it.
func (q *Queue) Release() {
	q.mu.Lock()
	q.lent--
	q.settleLocked()
	q.mu.Unlock()
}

// Closed tells that a connection is gone.
func (q *Queue) Closed() {
	q.mu.Lock()
	q.open--
	q.settleLocked()
	q.mu.Unlock()
}

// settleLocked brings waiters and connections together after either changed.
func (q *Queue) settleLocked() {
	for q.lent < q.open && q.waiters.Len() > 0 {
		q.lendLocked()
		q.waiters.Remove(q.waiters.Front()).(*waiter).ready <- nil
	}
	q.dialLocked()
}

func (q *Queue) lendLocked() {
	q.lent++
	q.stats.PeakLent = max(q.stats.PeakLent, q.lent-q.aside)
}

// failLocked sends everybody away.
func (q *Queue) failLocked(err error) {
	for q.waiters.Len() > 0 {
		q.waiters.Remove(q.waiters.Front()).(*waiter).ready <- err
	}
}

// Stats returns a snapshot.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.stats
	s.Open, s.Lent, s.Waiting, s.Dialing = q.open, q.lent-q.aside, q.waiters.Len(), q.ramp.dialing
	for e := q.waiters.Front(); e != nil; e = e.Next() {
		w := e.Value.(*waiter)
		s.Longest = max(s.Longest, time.Since(w.since))
		if !w.again {
			break // the others came later
		}
	}
	return s
}

// Idle is how many connections are neither lent nor spoken for; one that is borrowed aside is back in a moment, and counts.
func (q *Queue) Idle() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return max(0, q.open-q.lent+q.aside-q.waiters.Len())
}

// Close sends the waiters away with ErrClosed, ends dials under way and waits for their goroutines. Places that are
// lent stay so until they are released. It may be called more than once.
func (q *Queue) Close() {
	q.mu.Lock()
	q.closed = true
	q.failLocked(ErrClosed)
	q.mu.Unlock()
	q.cancel()
	q.dials.Wait()
}
