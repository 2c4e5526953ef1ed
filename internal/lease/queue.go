// Package lease decides which caller gets a connection next: first come, first served, within a time limit. It also decides
// when another connection is dialled, and how many at once.
//
// A Queue doesn't know the connections, it only counts them. What it gives to a caller is a place: the right to use one
// connection. With a place the caller takes an idle connection from where the pool keeps them. As a rule there is one; if it
// was closed in the meantime, Retry puts the caller back at the head of the queue. A place is given back exactly once, with
// Release, Retry or GiveUp.
package lease

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// ErrTimeout is the error of a caller that got no connection within its limit.
var ErrTimeout = errors.New("no connection became free in time")

// ErrClosed is the error of a caller whose queue is closed, or was closed while it waited.
var ErrClosed = errors.New("closed")

// A Queue gives places to callers, and has connections dialled for them. It is safe for concurrent use. Close ends it.
type Queue struct {
	max    int // the most connections that may exist
	dialer Dialer

	ctx    context.Context // ends with Close; dials run under it, not under their requester's context
	cancel context.CancelFunc
	dials  sync.WaitGroup // the goroutines that dial; Close waits for them

	// spare has *waiter values for reuse. It belongs to the queue and isn't global, since a timer that was made in a bubble
	// of testing/synctest must not be used outside of it.
	spare sync.Pool

	mu       sync.Mutex // guards what follows; nothing else is locked, and no Dialer called, while it is held
	waiters  list.List  // of *waiter: those that came back with Retry first, then the others; of each the oldest first
	open     int        // connections that exist, lent or idle
	lent     int        // places in use: those of callers and reserved ones
	reserved int        // the places in use that TryReserve gave to the pool itself, for a moment
	closed   bool
	ramp     ramp
	ahead    ahead
	stats    Stats // but for the fields that Stats computes
}

// Stats is a snapshot of a Queue, safe to keep. Counts are since NewQueue.
type Stats struct {
	Open      int           // connections that exist, lent or idle
	Lent      int           // places that callers have
	Waiting   int           // callers in the queue
	Longest   time.Duration // how long the caller that has waited longest has been in the queue
	Dialing   int           // dials under way, those that pause included
	PeakLent  int           // the most places that callers ever had at once
	Waits     int64         // callers that had to wait; one that comes back with Retry is counted once
	WaitTime  time.Duration // the sum of all waits, also of those that ended with an error
	Timeouts  int64         // waits that ended with ErrTimeout
	Cancelled int64         // waits that ended with the caller's context
	Deadlines int64         // the part of Cancelled whose contexts had a deadline that passed
	Failures  int64         // attempts to connect that failed
	LastError error         // of the latest attempt; nil if that succeeded, or if a caller began to wait while nothing was dialled
}

// NewQueue returns a queue for at most max connections, which dialer makes. From the first caller on it has min connections
// made ahead, and replaces them when they are closed.
func NewQueue(min, max int, dialer Dialer) *Queue {
	q := &Queue{max: max, dialer: dialer, ahead: ahead{min: min}}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	q.spare.New = newWaiter
	q.ramp = ramp{burst: firstBurst, slow: map[*attempt]struct{}{}}
	return q
}

// A waiter is a caller in the queue.
type waiter struct {
	ready chan error // receives nil with a place, or the error why there will be none; it has room for one, so no sender blocks
	timer *time.Timer
	ctx   context.Context // the caller's
	again bool            // it came back with Retry, and goes ahead of those that have had no place yet
	since time.Time       // when it began to wait
}

// newWaiter is the New function of Queue.spare.
func newWaiter() any {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &waiter{ready: make(chan error, 1), timer: t}
}

// Acquire waits for a place, at most for limit (0: until ctx ends), and returns how long it waited. If the error is nil the
// caller has a place, and must call Release, Retry or GiveUp. The error is ErrTimeout, ErrClosed, ctx.Err(), or the error of
// an attempt to connect that is hopeless.
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

// TryReserve takes a place for the pool itself, which moves, closes or counts idle connections, and reports whether it got
// one. It doesn't wait: it fails if no connection is idle or a caller waits. If it reports true call Unreserve, soon.
//
// A reserved place isn't in Stats, where connections in use are those of callers. No connection is dialled in its place: a
// caller that comes meanwhile waits until it is given back.
func (q *Queue) TryReserve() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.waiters.Len() > 0 || q.lent >= q.open {
		return false
	}
	q.lent++
	q.reserved++
	return true
}

// Unreserve gives back the place that TryReserve took.
func (q *Queue) Unreserve() {
	q.mu.Lock()
	q.reserved--
	q.lent--
	q.serveLocked()
	q.mu.Unlock()
}

// Retry is for a caller that has a place but found no usable connection. It gives the place back and waits for another,
// ahead of all callers that have had none yet. It returns how long it waited this time. If the error is nil the caller has a
// place again, else it has none; limit and errors are as for Acquire. hasWaited says that the caller has been in the queue
// before, so that Stats.Waits counts it once.
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

// GiveUp is for a caller that has a place but found no usable connection within its time limit. It gives the place back,
// counts the wait as timed out, and returns ErrTimeout, or ErrClosed if the queue is closed.
func (q *Queue) GiveUp() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lent--
	q.serveLocked()
	if q.closed {
		return ErrClosed
	}
	q.countUnservedLocked(ErrTimeout)
	return ErrTimeout
}

// CountCancelled counts a caller that has a place but whose context ended, with err, before it had a usable connection. Its
// place stays in use: whoever has its connection now calls Release.
func (q *Queue) CountCancelled(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.countUnservedLocked(err)
}

// wait puts the caller into the queue and waits there. It is called with q.mu held, and releases it.
func (q *Queue) wait(ctx context.Context, limit time.Duration, again bool) (time.Duration, error) {
	start := time.Now()
	w := q.spare.Get().(*waiter)
	w.again, w.ctx, w.since = again, ctx, start
	at := q.enqueueLocked(w)
	q.ahead.begun = true
	if q.ramp.dialing == 0 {
		q.stats.LastError = nil // an old error isn't why this caller waits
	}
	q.startDialsLocked()
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
		err = q.leave(w, at, ctx.Err())
	case <-expired:
		err = q.leave(w, at, ErrTimeout)
	}
	w.timer.Stop()
	w.ctx = nil
	q.spare.Put(w)

	waited := time.Since(start)
	q.mu.Lock()
	q.stats.WaitTime += waited
	q.mu.Unlock()
	return waited, err
}

// enqueueLocked puts w behind the others that came back with Retry, if it did so itself, else at the end of the queue.
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

// leave takes w, whose limit or context has ended with why, out of the queue, and returns the caller's error.
//
// At the same moment w may have been given a place. After a timeout the caller keeps it, and the error is nil. If its
// context has ended it can't use it: the next one in the queue gets the place.
func (q *Queue) leave(w *waiter, at *list.Element, why error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case err := <-w.ready:
		if err != nil || why == ErrTimeout {
			return err
		}
		q.lent--
		q.serveLocked()
	default:
		q.waiters.Remove(at)
	}
	q.countUnservedLocked(why)
	return why
}

// countUnservedLocked counts a caller that goes without a connection, by the reason.
func (q *Queue) countUnservedLocked(why error) {
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

// Release gives a place back. Before, the caller must have put the connection where the next one finds it, or have called
// Closed.
func (q *Queue) Release() {
	q.mu.Lock()
	q.lent--
	q.serveLocked()
	q.mu.Unlock()
}

// Closed is called when a connection doesn't exist any more. If a caller has a place for it, that is given back separately.
func (q *Queue) Closed() {
	q.mu.Lock()
	q.open--
	q.serveLocked()
	q.mu.Unlock()
}

// serveLocked gives places to the first waiters while connections are idle, and has connections dialled for the others. It
// is called whenever a place was given back, or the number of connections has changed.
func (q *Queue) serveLocked() {
	for q.lent < q.open && q.waiters.Len() > 0 {
		q.lendLocked()
		q.waiters.Remove(q.waiters.Front()).(*waiter).ready <- nil
	}
	q.startDialsLocked()
}

// lendLocked counts a place that is given to a caller.
func (q *Queue) lendLocked() {
	q.lent++
	q.stats.PeakLent = max(q.stats.PeakLent, q.lent-q.reserved)
}

// failLocked empties the queue: all waiters get err.
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
	s.Open, s.Lent, s.Waiting, s.Dialing = q.open, q.lent-q.reserved, q.waiters.Len(), q.ramp.dialing
	for e := q.waiters.Front(); e != nil; e = e.Next() {
		w := e.Value.(*waiter)
		s.Longest = max(s.Longest, time.Since(w.since))
		if !w.again {
			break // the others are behind it, and have waited less
		}
	}
	return s
}

// Awaited reports whether a caller is in the queue.
func (q *Queue) Awaited() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiters.Len() > 0
}

// Idle is the number of connections that no caller has or waits for. One whose place is reserved counts as idle.
func (q *Queue) Idle() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return max(0, q.open-q.lent+q.reserved-q.waiters.Len())
}

// Close gives ErrClosed to all waiters and to all later calls of Acquire and Retry. It ends the dials under way, and waits
// for their goroutines. Callers keep their places until they give them back. It may be called more than once.
func (q *Queue) Close() {
	q.mu.Lock()
	q.closed = true
	q.failLocked(ErrClosed)
	if q.ahead.timer != nil {
		q.ahead.timer.Stop()
	}
	q.mu.Unlock()
	q.cancel()
	q.dials.Wait()
}
