package pool

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/wire"
)

// A question is whether a silent host is alive. It is asked knocks times within dead_after, each time over another network
// connection, and whatever comes on one of them is the answer.
type question struct {
	began  int64            // by package clock
	unread map[*member]bool // connections with something to read that nobody has read for dead_after: their caller doesn't read

	limit time.Duration                             // dead_after
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
	unanswered                // nobody has answered within dead_after
	unclear                   // nobody has answered, but this process was held up meanwhile
)

// knocks is how often a question is asked.
const knocks = 4

// newQuestion returns a question that begins now. It is called with silenceWatch.mu held.
func (p *Pool) newQuestion(at *silentPlace, now int64) *question {
	q := &question{began: now, unread: map[*member]bool{}, limit: p.cfg.DeadAfter}
	q.ctx, q.stop = context.WithCancel(p.life)
	door := at.waiting[0].conn.Door()
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
	heard := make(chan struct{}, knocks) // has room for each answer
	next := time.NewTimer(0)
	defer q.stop()
	defer all.Wait()
	defer cancel()
	defer next.Stop()
	var late time.Duration
	pause := q.limit / knocks
	for n := 0; ; {
		select {
		case <-heard:
			q.came.Store(answered)
			return
		case <-next.C:
			late = max(late, time.Duration(clock.Now()-q.began)-time.Duration(n)*pause)
			first := n == 0
			all.Go(func() { // ends with ctx
				if q.knock(ctx, first) == nil {
					heard <- struct{}{}
				}
			})
			if n++; n < knocks {
				next.Reset(time.Duration(q.began + int64(time.Duration(n)*pause) - clock.Now()))
			}
		case <-ctx.Done():
			late = max(late, time.Duration(clock.Now()-q.began)-q.limit)
			all.Wait()
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
	case q.ctx.Err() != nil, late > q.limit/4: // it was given up, or this process was held up
		return unclear
	}
	return unanswered
}
