package lease

import (
	"context"
	"math/rand/v2"
	"time"
)

// A Dialer makes connections for a Queue.
type Dialer interface {
	// Dial makes one connection and parks it where the next caller finds it. It must bound itself, and end early when
	// ctx does. It is called from several goroutines at once.
	Dial(ctx context.Context) error
	// Dialled is called after Dial, when what it made has been counted. There may be nobody who waits for it any more.
	Dialled()
	// Hopeless reports whether there is no use in repeating a dial that failed with err.
	Hopeless(err error) bool
}

const (
	firstBurst = 2                      // dials at once while nothing is known about the server
	stallAfter = 250 * time.Millisecond // a dial that takes longer holds nobody else up
	minBackoff = 10 * time.Millisecond
	maxBackoff = 400 * time.Millisecond // full speed within a second of the server's return asks for less
)

// A ramp decides how many connections are dialled at once, and when: two at first, then as many again as there are.
// Whoever waits gets the first connection that is dialled or returned, so that fifty callers with short statements need
// a handful of connections and not fifty, while the pool still doubles with every round of dials where they need more.
// Where dials are slow (a far network, one host of several dead) it doubles every quarter of a second as well. Where
// they fail, all of them pause together, however many callers come and go meanwhile. One that takes twice as long as a
// later one hangs, and nobody counts on it any more.
type ramp struct {
	dialing   int                   // dials under way, those that pause included
	attempts  int                   // ever begun, which gives each a serial number
	slow      map[*attempt]struct{} // those that take long
	hung      int                   // how many of them hang
	latest    int                   // the serial number of the latest that succeeded
	took      time.Duration         // how long that one took
	burst     int                   // dials that may be under way at once, slow ones not counted
	backoff   time.Duration         // zero while dials succeed
	notBefore time.Time             // when the next attempt may be made
}

// An attempt is one try to make a connection. What guards the ramp guards it.
type attempt struct {
	serial int
	began  time.Time
	hangs  bool // it takes long, and more than twice as long as one that was begun later
	over   bool
}

func (r *ramp) allows(open int) bool { return r.dialing-len(r.slow) < max(r.burst, open) }

// promising is how many dials a waiter may still hope for.
func (r *ramp) promising() int { return r.dialing - r.hung }

// begin is called for each attempt.
func (r *ramp) begin() *attempt {
	r.attempts++
	return &attempt{serial: r.attempts, began: time.Now()}
}

// stall is called for an attempt that takes long, and again while it goes on.
func (r *ramp) stall(a *attempt, places int) {
	if _, again := r.slow[a]; !again {
		r.slow[a] = struct{}{}
		r.burst = min(r.burst+1, places) // each makes room for two: it is not counted any more
	}
	r.compare(a)
}

// compare gives up an attempt that takes long while later ones don't.
func (r *ramp) compare(a *attempt) {
	if !a.hangs && a.serial < r.latest && time.Since(a.began) >= 2*r.took {
		a.hangs = true
		r.hung++
	}
}

// end is called when an attempt is over.
func (r *ramp) end(a *attempt, err error) {
	a.over = true
	delete(r.slow, a)
	if a.hangs {
		r.hung--
	}
	if err != nil || a.serial < r.latest {
		return
	}
	r.latest, r.took = a.serial, time.Since(a.began)
	for other := range r.slow {
		r.compare(other)
	}
}

// recovered ends the pauses.
func (r *ramp) recovered() { r.backoff, r.notBefore = 0, time.Time{} }

// failed is called for each attempt that failed. Those that were made together cost one pause.
func (r *ramp) failed() {
	now := time.Now()
	if now.Before(r.notBefore) {
		return
	}
	r.backoff = min(max(2*r.backoff, minBackoff), maxBackoff)
	r.notBefore = now.Add(r.backoff/2 + rand.N(r.backoff/2+1))
}

// ended is called with each dial that is over.
func (r *ramp) ended() {
	r.dialing--
	if r.dialing == 0 {
		r.burst = firstBurst
	}
}

// dialLocked starts dials while callers wait who could use them.
func (q *Queue) dialLocked() {
	for !q.closed && q.ramp.promising()+q.aside < q.waiters.Len() && q.open+q.ramp.dialing < q.max && q.ramp.allows(q.open) {
		q.ramp.dialing++
		q.dials.Add(1)
		go q.dial(q.waiters.Back().Value.(*waiter).ctx) // ends when it has a connection, when nobody waits for one any more, or with Close
	}
}

// dial repeats until a connection is made. An attempt that was begun is finished whatever becomes of who asked for it.
func (q *Queue) dial(requester context.Context) {
	defer q.dials.Done()
	ctx := dialContext{q.ctx, requester}
	for q.pause() && !q.settleDial(q.attempt(ctx)) {
	}
	q.dialer.Dialled()
}

// A dialContext ends with the queue and not with the requester, but has the requester's values: the dial belongs into
// its trace.
type dialContext struct {
	context.Context
	requester context.Context
}

// Value implements context.Context.
func (c dialContext) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.requester.Value(key)
}

// pause waits until an attempt may be made and reports whether one should be.
func (q *Queue) pause() bool {
	q.mu.Lock()
	rest := time.Until(q.ramp.notBefore)
	q.mu.Unlock()
	if rest <= 0 {
		return true
	}
	t := time.NewTimer(rest)
	defer t.Stop()
	select {
	case <-t.C:
	case <-q.ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.giveUpLocked()
}

// attempt dials once. If that takes long it lets others start in the meantime.
func (q *Queue) attempt(ctx context.Context) error {
	q.mu.Lock()
	a := q.ramp.begin()
	var stall *time.Timer
	stall = time.AfterFunc(stallAfter, func() { // until the attempt is over
		q.mu.Lock()
		defer q.mu.Unlock()
		if a.over {
			return
		}
		q.ramp.stall(a, q.max)
		q.dialLocked()
		if !a.hangs {
			stall.Reset(stallAfter)
		}
	})
	q.mu.Unlock()
	err := q.dialer.Dial(ctx)
	q.mu.Lock()
	defer q.mu.Unlock()
	stall.Stop()
	q.ramp.end(a, err)
	return err
}

// settleDial books an attempt and reports whether the dial is over.
func (q *Queue) settleDial(err error) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err == nil {
		q.stats.LastError = nil
		q.open++
		q.ramp.recovered()
		q.ramp.ended()
		q.settleLocked()
		return true
	}
	if q.ctx.Err() == nil {
		q.stats.Failures++
		q.stats.LastError = err
		q.ramp.failed()
		if q.open == 0 && q.dialer.Hopeless(err) {
			q.failLocked(err)
		}
	}
	return q.giveUpLocked()
}

// giveUpLocked ends a dial that nobody waits for any more.
func (q *Queue) giveUpLocked() bool {
	if !q.closed && q.waiters.Len() >= q.ramp.promising() {
		return false
	}
	q.ramp.ended()
	return true
}
