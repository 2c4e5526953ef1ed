package lease

import (
	"context"
	"time"
)

const (
	minBackoffAhead = 100 * time.Millisecond // the first pause after an attempt that failed, while nobody waits
	maxBackoffAhead = 10 * time.Second       // the longest: a server that is down for a night isn't asked all the time
)

// An ahead keeps a minimum of connections, though nobody waits for them, from the first caller on. Queue.mu guards it.
//
// While fewer exist, as many dials as are missing begin at once, ahead of the ramp: whoever sets a minimum says that the server
// copes with it. They serve whoever waits. When an attempt fails, the dials that the ramp would not have allowed are over; and
// if nobody waits all are, and a timer begins the next one, a single one, after a pause that may be much longer than the ramp's.
// So it goes on until an attempt succeeds. A caller that comes meanwhile doesn't wait for that pause, but for the ramp's.
type ahead struct {
	min    int         // how many connections to keep; not changed
	begun  bool        // a caller has been in the queue
	pauses pauses      // after attempts that failed, whoever they were for
	timer  *time.Timer // calls Queue.resume when the pause is over; nil before the first pause
}

// pausing reports whether no dial may begin for the sake of the minimum.
func (a *ahead) pausing() bool { return time.Now().Before(a.pauses.notBefore) }

// failing reports whether the latest attempt has failed.
func (a *ahead) failing() bool { return a.pauses.length > 0 }

// belowMinLocked reports whether fewer connections exist, and are promised by so many dials, than the minimum.
func (q *Queue) belowMinLocked(promised int) bool {
	return q.ahead.begun && q.open+promised < q.ahead.min
}

// allowsLocked reports whether one more dial may begin.
func (q *Queue) allowsLocked() bool {
	return q.ramp.allows(q.open) || q.belowMinLocked(q.ramp.dialing) && !q.ahead.failing()
}

// tooManyLocked reports whether more dials are under way than the ramp allows, though the latest attempt has failed.
func (q *Queue) tooManyLocked() bool {
	return q.ahead.begun && q.ahead.min > 0 && q.ahead.failing() && q.ramp.exceeds(q.open)
}

// dialsAheadLocked reports whether a dial is to begin though no caller needs it. If one will have to begin after a pause, it
// sets the timer.
func (q *Queue) dialsAheadLocked() bool {
	a := &q.ahead
	switch {
	case !q.belowMinLocked(q.ramp.promising()), a.failing() && q.ramp.dialing > 0:
		return false
	case !a.pausing():
		return true
	case a.timer == nil:
		a.timer = time.AfterFunc(time.Until(a.pauses.notBefore), q.resume) // Close stops it
	default:
		a.timer.Reset(time.Until(a.pauses.notBefore))
	}
	return false
}

// resume is called by the timer.
func (q *Queue) resume() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.startDialsLocked()
}

// requesterLocked returns the context whose values the next dial is to have: that of the caller that came last, if there is
// one that no dial and no reserved place promises a connection to. If ok is false, no dial is to begin.
func (q *Queue) requesterLocked() (ctx context.Context, ok bool) {
	if q.ramp.promising()+q.reserved < q.waiters.Len() {
		return q.waiters.Back().Value.(*waiter).ctx, true
	}
	return context.Background(), q.ahead.min > 0 && q.dialsAheadLocked()
}
