package lease

import (
	"context"
	"math/rand/v2"
	"time"
)

// A Dialer makes connections for a Queue. The Queue calls it without holding a lock, from several goroutines at once.
type Dialer interface {
	// Dial makes one attempt to connect. When it returns nil the connection exists, and is where a caller with a place
	// finds it. It must limit its own time, and end early when ctx ends.
	Dial(ctx context.Context) error
	// DialEnded is called when a dial is over: it has made a connection, which the Queue has counted and perhaps given to a
	// waiter, or nobody waited for one any more.
	DialEnded()
	// Hopeless reports whether it is of no use to repeat an attempt that failed with err.
	Hopeless(err error) bool
}

const (
	firstBurst = 2                      // how many dials may be under way at once while nothing is known about the server
	slowAfter  = 250 * time.Millisecond // an attempt that takes longer is slow, and doesn't keep others from beginning
	minBackoff = 10 * time.Millisecond  // the first pause after attempts that failed; each further one is twice as long
	maxBackoff = 400 * time.Millisecond // the longest; short enough for full speed within a second of the server's return
)

// A ramp decides how many connections are dialled at once, and when. Queue.mu guards it.
//
// A dial is what one goroutine does: attempts to connect, one after the other and with pauses, until one succeeds or its
// connection isn't needed any more.
//
// Two dials may be under way at first, and later as many as there are connections. A caller that waits gets the first
// connection that is dialled or given back, whoever asked for the dial. So fifty callers with short statements need a
// handful of connections and not fifty; where they need more, the number of connections doubles with every round of dials.
//
// If attempts are slow (the network is far away, or one host of several is dead) the number of dials doubles every quarter
// of a second as well, since slow ones are not counted. If attempts fail, all dials pause together, however many callers
// come and go meanwhile. An attempt that takes twice as long as a later one hangs: another is dialled in its place.
type ramp struct {
	dialing  int                   // dials under way, those that pause included
	attempts int                   // attempts ever begun; the last one's serial number
	slow     map[*attempt]struct{} // the attempts under way that have taken longer than slowAfter
	hung     int                   // how many of the slow attempts hang
	latest   int                   // the serial number of the latest attempt that succeeded
	took     time.Duration         // how long that attempt took
	burst    int                   // how many dials may be under way at once, slow ones not counted
	pauses   pauses                // after attempts that failed
}

// pauses are those that follow attempts that failed. Each is twice as long as the one before, up to a limit.
type pauses struct {
	length    time.Duration // of the latest pause, before jitter; 0: the latest attempt succeeded
	notBefore time.Time     // when it is over
	cut       chan struct{} // closed when it is over before that, see Queue.Hasten; nil: nobody pauses
}

// begin begins a pause, unless one has begun already, for another attempt: then that one counts for both.
func (p *pauses) begin(shortest, longest time.Duration) {
	now := time.Now()
	if now.Before(p.notBefore) {
		return
	}
	p.length = min(max(2*p.length, shortest), longest)
	p.notBefore = now.Add(p.length/2 + rand.N(p.length/2+1))
	if p.cut == nil {
		p.cut = make(chan struct{})
	}
}

// reset makes the next pause as short as the first, and lets those go on that have begun.
func (p *pauses) reset() { p.length, p.notBefore = 0, time.Time{} }

// end ends the pause as well.
func (p *pauses) end() {
	p.reset()
	if p.cut != nil {
		close(p.cut)
		p.cut = nil
	}
}

// An attempt is one try to make a connection. Queue.mu guards it.
type attempt struct {
	serial int
	began  time.Time
	hangs  bool // it is slow, and has taken twice as long as one that was begun later; no waiter counts on it
	over   bool // Dialer.Dial has returned
}

// allows reports whether one more dial may begin where open connections exist.
func (r *ramp) allows(open int) bool { return r.dialing-len(r.slow) < max(r.burst, open) }

// exceeds reports whether more dials are under way than may begin where open connections exist.
func (r *ramp) exceeds(open int) bool { return r.dialing-len(r.slow) > max(r.burst, open) }

// promising is the number of dials that waiters may count on: all but those that hang.
func (r *ramp) promising() int { return r.dialing - r.hung }

// beginAttempt returns a new attempt with the next serial number.
func (r *ramp) beginAttempt() *attempt {
	r.attempts++
	return &attempt{serial: r.attempts, began: time.Now()}
}

// markSlow is called for an attempt that has taken longer than slowAfter, and again at intervals while it goes on. A slow
// attempt isn't counted any more, and the burst grows by one: so two more dials may begin.
func (r *ramp) markSlow(a *attempt, places int) {
	if _, again := r.slow[a]; !again {
		r.slow[a] = struct{}{}
		r.burst = min(r.burst+1, places)
	}
	r.checkHung(a)
}

// checkHung marks a slow attempt as hanging if it has taken twice as long as a later one that succeeded.
func (r *ramp) checkHung(a *attempt) {
	if !a.hangs && a.serial < r.latest && time.Since(a.began) >= 2*r.took {
		a.hangs = true
		r.hung++
	}
}

// endAttempt is called when an attempt is over. If it succeeded, slow attempts that began before it are compared with it.
func (r *ramp) endAttempt(a *attempt, err error) {
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
		r.checkHung(other)
	}
}

// endDial is called when a dial is over. When it was the last one the burst starts from the beginning.
func (r *ramp) endDial() {
	r.dialing--
	if r.dialing == 0 {
		r.burst = firstBurst
	}
}

// startDialsLocked starts as many dials as the callers in the queue and the minimum need, the limits allow, and the ramp
// allows. It is called whenever one of these may have changed.
func (q *Queue) startDialsLocked() {
	for !q.closed && q.open+q.ramp.dialing < q.max && q.allowsLocked() {
		requester, ok := q.requesterLocked()
		if !ok {
			return
		}
		q.ramp.dialing++
		q.dials.Add(1)
		go q.dial(requester) // ends when it has made a connection, when that isn't needed any more, or with Close
	}
}

// dial makes attempts until one succeeds or its connection isn't needed any more. An attempt that has begun is finished even
// if the requester has gone.
func (q *Queue) dial(requester context.Context) {
	defer q.dials.Done()
	ctx := dialContext{q.ctx, requester}
	for q.pause() && !q.count(q.attempt(ctx)) {
	}
	q.dialer.DialEnded()
}

// A dialContext ends with the queue and not with the requester, but has the requester's values, so that the span of the
// dial is in the requester's trace.
type dialContext struct {
	context.Context
	requester context.Context
}

var _ context.Context = dialContext{}

// Value implements context.Context.
func (c dialContext) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.requester.Value(key)
}

// pause waits until an attempt may be made. It reports whether to make it: if not, the dial is over.
func (q *Queue) pause() bool {
	q.mu.Lock()
	rest, hastened := time.Until(q.ramp.pauses.notBefore), q.ramp.pauses.cut
	q.mu.Unlock()
	if rest <= 0 {
		return true
	}
	t := time.NewTimer(rest)
	defer t.Stop()
	select {
	case <-t.C:
	case <-hastened:
	case <-q.ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.endUnneededDialLocked()
}

// Hasten ends the pause that follows attempts that have failed: it has become known that one would succeed now.
func (q *Queue) Hasten() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ramp.pauses.end()
	q.ahead.pauses.end()
	q.startDialsLocked()
}

// attempt calls Dialer.Dial once, and returns its error. While that is slow, other dials may begin.
func (q *Queue) attempt(ctx context.Context) error {
	q.mu.Lock()
	a := q.ramp.beginAttempt()
	var slow *time.Timer
	slow = time.AfterFunc(slowAfter, func() { // starts itself again until the attempt hangs or is over
		q.mu.Lock()
		defer q.mu.Unlock()
		if a.over {
			return
		}
		q.ramp.markSlow(a, q.max)
		q.startDialsLocked()
		if !a.hangs {
			slow.Reset(slowAfter)
		}
	})
	q.mu.Unlock()
	err := q.dialer.Dial(ctx)
	q.mu.Lock()
	defer q.mu.Unlock()
	slow.Stop()
	q.ramp.endAttempt(a, err)
	return err
}

// count counts the outcome of an attempt: the connection, which the first waiter gets, or the failure, which begins a pause.
// It reports whether the dial is over.
//
// If no connection exists and the Dialer says that the failure is hopeless, all waiters get the error.
func (q *Queue) count(err error) (over bool) {
	hopeless := err != nil && q.dialer.Hopeless(err)
	q.mu.Lock()
	defer q.mu.Unlock()
	if err == nil {
		q.stats.LastError = nil
		q.open++
		q.ramp.pauses.reset()
		q.ahead.pauses.reset()
		q.ramp.endDial()
		q.serveLocked()
		return true
	}
	if q.ctx.Err() == nil {
		q.stats.Failures++
		q.stats.LastError = err
		q.ramp.pauses.begin(minBackoff, maxBackoff)
		q.ahead.pauses.begin(minBackoffAhead, maxBackoffAhead)
		if q.open == 0 && hopeless {
			q.failLocked(err)
		}
	}
	return q.endUnneededDialLocked()
}

// endUnneededDialLocked ends the dial that calls it, and reports true, if the queue is closed, if there are too many, or if the
// dial is needed neither by a caller, because fewer wait than other dials promise connections, nor for the minimum.
func (q *Queue) endUnneededDialLocked() bool {
	others := q.ramp.promising() - 1
	needed := q.waiters.Len() > others || q.belowMinLocked(others) && !q.ahead.pausing()
	if needed && !q.closed && !q.tooManyLocked() {
		return false
	}
	q.ramp.endDial()
	q.startDialsLocked() // for the minimum, if it was for a caller that this dial has paused
	return true
}
