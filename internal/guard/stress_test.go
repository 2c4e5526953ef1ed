package guard_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/guard"
)

// hang is how long a statement runs that nothing ends: only if the guard has lost it does it end by itself.
const hang = 30 * time.Second

// A trial is one statement of the stress test. How it goes is a matter of chance, and what must hold afterwards is not.
type trial struct {
	how   guard.Manner
	limit time.Duration
	takes time.Duration

	ctx    context.Context
	cancel context.CancelFunc
}

// newTrial makes up a statement that is at its end, its limit and its context's end at much the same time.
func newTrial() trial {
	about := func() time.Duration { return time.Duration(rand.Int64N(int64(300 * time.Microsecond))) }
	tr := trial{how: guard.Manner(rand.N(3)), takes: about(), ctx: context.Background(), cancel: func() {}}
	switch rand.N(4) {
	case 0: // no limit
	case 1:
		tr.limit = time.Hour
	default:
		tr.limit = about()
	}
	switch rand.N(4) {
	case 0: // never ends
	case 1:
		tr.ctx, tr.cancel = context.WithTimeout(tr.ctx, about())
	case 2:
		tr.ctx, tr.cancel = context.WithCancel(tr.ctx)
		time.AfterFunc(about(), tr.cancel)
	default:
		tr.ctx, tr.cancel = context.WithCancel(tr.ctx)
	}
	if tr.mustBeCut() && rand.N(2) == 0 {
		tr.takes = hang
	}
	return tr
}

// mustBeCut reports whether the statement would be cut for certain if it took long enough.
func (tr *trial) mustBeCut() bool {
	if 0 < tr.limit && tr.limit < time.Hour {
		return true
	}
	_, ends := tr.ctx.Deadline()
	return ends && tr.how != guard.Waiting
}

func TestNoCancelRequestOutlivesItsStatementAndNoCutIsInvented(t *testing.T) {
	t.Parallel()
	statements := 1000
	if testing.Short() {
		statements /= 10
	}
	var sessions sync.WaitGroup
	for range 8 {
		sessions.Go(func() { // which ends with its last statement, or when one has failed
			s := newSession()
			for range statements {
				if tr := newTrial(); !s.try(t, &tr) || !s.tryWait(t) {
					return
				}
			}
			s.stopInTheMidst(t)
		})
	}
	sessions.Wait()
}

// TestAStatementThatEndsAsItsTimeIsUpIsEitherCutOrNot has the timer fire all the time, so that some statements end in that
// very moment.
func TestAStatementThatEndsAsItsTimeIsUpIsEitherCutOrNot(t *testing.T) {
	t.Parallel()
	s := newSession()
	s.conn.cancel = ignored
	var over atomic.Bool
	var timer sync.WaitGroup
	timer.Go(func() { // which ends with the statements
		for !over.Load() {
			s.Fire()
		}
	})
	defer s.Stop()
	defer timer.Wait()
	defer over.Store(true)

	statements, cuts := 200_000, int64(0)
	if testing.Short() {
		statements /= 10
	}
	for range statements {
		now := clock.Now()
		s.Begin(now, time.Microsecond, guard.Cancelling)
		for end := now + rand.Int64N(2000); clock.Now() < end; {
		}
		s.End()
		if s.Cut().TimedOut {
			cuts++
		}
		if s.conn.requests.Load() != cuts || !s.unbounded() || s.conn.underWay.Load() != 0 {
			require.Equal(t, cuts, s.conn.requests.Load(), "cancel requests")
			require.True(t, s.unused(t))
			require.Zero(t, s.conn.underWay.Load())
		}
	}
	t.Logf("%d of %d were cut", cuts, statements)
}

// try runs a statement and reports whether everything was as it must be.
func (s *session) try(t *testing.T, tr *trial) bool {
	defer tr.cancel()
	s.conn.cancel = s.anyAnswer()
	bounded, requests := s.conn.socket.timesBounded(), s.conn.requests.Load()

	begun := clock.Now()
	s.Begin(begun, tr.limit, tr.how)
	s.watcher.Watch(tr.ctx)
	spared := s.Sparing()
	start := time.Now()
	err := s.conn.run(tr.takes)
	took := time.Since(start)
	cut := s.end()
	ended := clock.Now()

	requests = s.conn.requests.Load() - requests
	interrupted := s.conn.socket.timesBounded() > bounded
	ok := assert.Zero(t, s.conn.underWay.Load(), "a cancel request is still under way") &&
		assert.LessOrEqual(t, requests, int64(1), "cancel requests") &&
		assert.Equal(t, tr.how == guard.Cancelling && cut.Happened(), requests > 0, "it was cancelled") &&
		assert.Equal(t, interrupted, cut.Happened(), "it was cut short: %+v", cut) &&
		assert.True(t, cut.Happened() || err == nil, "it ended with %v, and nobody says why", err) &&
		assert.True(t, !cut.TimedOut || 0 < tr.limit && int64(tr.limit) <= ended-begun, "its time was not up") &&
		assert.True(t, cut.Caller == nil || cut.Caller == tr.ctx.Err(), "its context ended otherwise: %v", cut.Caller) &&
		assert.True(t, tr.how != guard.Waiting || cut.Caller == nil, "its caller has ended a COMMIT") &&
		assert.Equal(t, tr.how == guard.Waiting, spared, "others must not cancel it") &&
		assert.Less(t, took, hang, "nothing has ended it") &&
		s.unused(t)
	return ok && s.answered(t, requests > 0)
}

// unused asserts what holds of a connection on which there is no statement.
func (s *session) unused(t *testing.T) bool {
	running, timedOut := s.State()
	return assert.True(t, s.unbounded(), "the socket still has a deadline") &&
		assert.False(t, running || timedOut, "there is no statement any more") &&
		assert.False(t, s.Sparing(), "there is no COMMIT any more") &&
		assert.False(t, s.Unacknowledged(), "each cancel request was acknowledged")
}

// answered pings a stale connection, as whoever uses it next does.
func (s *session) answered(t *testing.T, stale bool) bool {
	if !assert.Equal(t, stale, s.Stale(), "it is stale after a cancel request") || !stale {
		return !t.Failed()
	}
	cut, _ := s.do(context.Background(), 0, 0, guard.HangingUp)
	select {
	case <-s.conn.hit: // at the latest the ping was hit
	default:
	}
	s.Answered()
	return assert.False(t, cut.Happened()) && assert.False(t, s.Stale())
}

// anyAnswer is one of the things that a server may do with a cancel request, and acknowledges it in time.
func (s *session) anyAnswer() func(context.Context) error {
	switch rand.N(3) {
	case 0:
		return s.conn.delayed(time.Duration(rand.Int64N(int64(300 * time.Microsecond))))
	default:
		return func(context.Context) error { return s.conn.signal() }
	}
}

// tryWait now and then waits for something that is no statement, until the context ends.
func (s *session) tryWait(t *testing.T) bool {
	if rand.N(8) != 0 {
		return true
	}
	s.quiet.Store(true)
	defer s.quiet.Store(false)
	requests := s.conn.requests.Load()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Microsecond)
	defer cancel()
	s.Forget()
	return assert.Error(t, s.wait(ctx, hang)) &&
		assert.False(t, s.Cut().Happened(), "there was no statement") &&
		assert.Equal(t, requests, s.conn.requests.Load(), "cancel requests") &&
		s.unused(t)
}

// stopInTheMidst is the end of a session whose connection is closed while a statement runs.
func (s *session) stopInTheMidst(t *testing.T) {
	tr := newTrial()
	defer tr.cancel()
	s.begin(tr.ctx, tr.limit, tr.how)
	s.watcher.Unwatch()
	s.Stop()
	require.Eventually(t, func() bool { return s.conn.underWay.Load() == 0 }, hang, time.Millisecond)
	assert.False(t, s.TimerRuns(), "the timer will fire")
}
