package pool

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/wire"
)

// A question is whether a silent host is alive. It is asked four times in dead_after, each time over another network connection,
// and whatever comes on one of them is the answer.
type question struct {
	began       int64 // by package clock
	silentSince time.Time
	unread      map[*member]bool // connections with something to read that nobody has read for dead_after: their caller doesn't read
	told        int64            // by package clock: when the other hosts were last asked what they are now; 0: not yet
	place       *place           // whose pace is noted

	limit time.Duration                             // how long it may be left unanswered
	pause time.Duration                             // from one knock to the next
	knock func(ctx context.Context, gss bool) error // link.Dialer.Knock
	ctx   context.Context
	stop  context.CancelFunc
	came  atomic.Int32 // an outcome
}

// An outcome is what has become of a question.
type outcome = int32

const (
	notYet     outcome = iota // it is not over
	answered                  // somebody has answered
	unanswered                // nobody has answered within its limit
	unclear                   // nobody has answered, but this process was held up meanwhile
)

const (
	// knocks is how often a question is asked in dead_after.
	knocks = 4
	// Who was slow lately has paces times as long as it took then, up to mostPatience times dead_after.
	paces        = 4
	mostPatience = 5
)

// newQuestion returns a question that begins now. It is called with silenceWatch.mu held.
func (p *Pool) newQuestion(at *silentPlace, now int64) *question {
	m := at.waiting[0]
	q := &question{
		began: now, silentSince: time.Now().Add(-at.silence(now)), unread: map[*member]bool{},
		place: m.place, limit: p.patience(m.place), pause: p.cfg.DeadAfter / knocks,
	}
	q.ctx, q.stop = context.WithCancel(p.life)
	door := m.conn.Door()
	q.knock = func(ctx context.Context, gss bool) error { return p.dialer.Knock(ctx, door, gss) }
	for _, m := range at.waiting {
		q.unread[m] = hasNews(m)
	}
	return q
}

// hasNews reports whether something has come on a connection that was not read yet, be it its end.
func hasNews(m *member) bool {
	state := m.conn.LookAside()
	return state == wire.Pending || state == wire.Dead
}

// outcome returns what has become of the question. nil has none.
func (q *question) outcome() outcome {
	if q == nil {
		return notYet
	}
	return q.came.Load()
}

// giveUp ends the question if it is still asked.
func (q *question) giveUp() {
	if q != nil {
		q.stop()
	}
}

// isLate reports whether a question has been asked for that long.
func (q *question) isLate(now int64, limit time.Duration) bool {
	return q != nil && now-q.began >= int64(limit)
}

// others returns ask, at now, if the other hosts are to be asked what they are now, and else a function that does nothing. It is
// called with silenceWatch.mu held.
func (q *question) others(now int64, ask func()) func() {
	if q.told != 0 && now-q.told < int64(q.pause) {
		return func() {}
	}
	q.told = now
	return ask
}

// patience returns how long a question may be left unanswered: dead_after, or more if it has taken long lately to answer, or to
// make a network connection by the application's function, since somebody has much to do.
func (p *Pool) patience(at *place) time.Duration {
	slow := max(time.Duration(at.pace.Load()), p.dialer.DialTook())
	return min(max(p.cfg.DeadAfter, paces*slow), mostPatience*p.cfg.DeadAfter)
}

// notePace notes how long an answer took. It is forgotten by and by.
func (p *place) notePace(took time.Duration) { p.pace.Store(max(int64(took), p.pace.Load()*7/8)) }

// wasAnsweredOtherwise reports whether something has come on one of the connections that wait since the question began, but was not
// read yet: then it is this process that is slow.
func (q *question) wasAnsweredOtherwise(at *silentPlace) bool {
	for _, m := range at.waiting {
		if !q.unread[m] && hasNews(m) {
			return true
		}
	}
	return false
}

// ask asks, and returns when nothing of the question is under way any more.
func (q *question) ask() {
	ctx, cancel := context.WithTimeout(q.ctx, q.limit)
	var all sync.WaitGroup
	heard := make(chan struct{}, mostPatience*knocks) // has room for each answer
	next := time.NewTimer(0)
	defer q.stop()
	defer all.Wait()
	defer cancel()
	defer next.Stop()
	var late time.Duration
	for n := 0; ; {
		select {
		case <-heard:
			q.place.notePace(time.Duration(clock.Now() - q.began))
			q.came.Store(answered)
			return
		case <-next.C:
			late = max(late, time.Duration(clock.Now()-q.began)-time.Duration(n)*q.pause)
			gss := n < knocks/2
			all.Go(func() { // ends with ctx
				if q.knock(ctx, gss) == nil {
					heard <- struct{}{}
				}
			})
			if n++; time.Duration(n)*q.pause < q.limit {
				next.Reset(time.Duration(q.began + int64(time.Duration(n)*q.pause) - clock.Now()))
			}
		case <-ctx.Done():
			late = max(late, time.Duration(clock.Now()-q.began)-q.limit)
			all.Wait()
			if len(heard) > 0 {
				q.place.notePace(time.Duration(clock.Now() - q.began))
			}
			q.came.Store(q.end(late, len(heard) > 0))
			return
		}
	}
}

// end returns the outcome of a question whose time is up, and for which a timer was that late at most. came says that it was
// answered in the last moment.
func (q *question) end(late time.Duration, came bool) outcome {
	switch {
	case came:
		return answered
	case q.ctx.Err() != nil, late > q.pause: // it was given up, or this process was held up
		return unclear
	}
	return unanswered
}
