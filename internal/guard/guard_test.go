package guard_test

import (
	"context"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/guard"
)

// forever is longer than any limit here.
const forever = 1000 * time.Hour

var timedOut = guard.Cut{TimedOut: true}

func TestAStatementInTimeIsLeftAlone(t *testing.T) {
	withSession(t, func(t *testing.T, s *session) {
		cut, err := s.do(t.Context(), time.Second, 999*time.Millisecond, guard.Cancelling)
		require.NoError(t, err)
		assert.False(t, cut.Happened())
		assert.NoError(t, cut.Err())
		assert.False(t, s.Stale())

		time.Sleep(time.Hour) // the timer has fired, and found no statement
		assert.False(t, s.TimerRuns())
		assert.Zero(t, s.conn.requests.Load())
		assert.Zero(t, s.conn.socket.timesBounded())
	})
}

func TestAStatementBeyondItsLimitIsCancelledOnce(t *testing.T) {
	withSession(t, func(t *testing.T, s *session) {
		took := stopwatch()
		cut, err := s.do(t.Context(), time.Second, forever, guard.Cancelling)
		assert.ErrorIs(t, err, errCanceled)
		assert.Equal(t, time.Second, took())
		assert.Equal(t, timedOut, cut)
		assert.ErrorIs(t, cut.Err(), context.DeadlineExceeded)
		assert.True(t, s.unbounded())

		time.Sleep(time.Hour)
		assert.EqualValues(t, 1, s.conn.requests.Load())
		assert.False(t, s.Unacknowledged())
		s.Forget()
		assert.False(t, s.Cut().Happened())
	})
}

func TestAConnectionIsStaleFromACancelRequestToAnAnswer(t *testing.T) {
	withSession(t, func(t *testing.T, s *session) {
		_, _ = s.do(t.Context(), time.Second, forever, guard.Cancelling)
		require.True(t, s.Stale())
		_, _ = s.do(t.Context(), time.Second, 0, guard.Cancelling)
		require.True(t, s.Stale(), "only the caller knows which statement is an answer to a ping")

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s.conn.cancel = ignored
		cut, err := s.do(ctx, 0, time.Second+time.Millisecond, guard.Cancelling)
		require.NoError(t, err)
		require.True(t, cut.Happened())
		s.Answered()
		require.True(t, s.Stale(), "the cancel request of the ping itself may come yet")

		_, _ = s.do(t.Context(), 0, 0, guard.HangingUp)
		s.Answered()
		assert.False(t, s.Stale())
	})
}

func TestStateTellsAStatementFromOneThatWasEndedForItsTime(t *testing.T) {
	withSession(t, func(t *testing.T, s *session) {
		for _, limit := range []time.Duration{0, time.Second} {
			state(t, s, false, false)
			s.begin(t.Context(), limit, guard.Cancelling)
			state(t, s, true, false)
			time.Sleep(time.Minute)
			state(t, s, limit == 0, limit != 0)
			s.end()
		}
		state(t, s, false, false)
	})
}

func state(t *testing.T, s *session, running, timedOut bool) {
	t.Helper()
	r, o := s.State()
	assert.Equal(t, running, r, "running")
	assert.Equal(t, timedOut, o, "timed out")
}

func TestTheTimerThatRunsForEarlierStatementsCutsALaterOneNeitherEarlyNorLate(t *testing.T) {
	withSession(t, func(t *testing.T, s *session) {
		for gap := range 20 {
			for range 7 {
				cut, err := s.do(t.Context(), time.Second, 150*time.Millisecond, guard.Cancelling)
				require.NoError(t, err)
				require.False(t, cut.Happened())
			}
			time.Sleep(time.Duration(gap) * 100 * time.Millisecond)
			took := stopwatch()
			cut, err := s.do(t.Context(), time.Second, forever, guard.Cancelling)
			require.ErrorIs(t, err, errCanceled)
			require.Equal(t, timedOut, cut)
			require.Equal(t, time.Second, took())
		}
		assert.EqualValues(t, 20, s.conn.requests.Load())
	})
}

func TestALongerLimitIsNotCutShortByTheTimerOfAShorterOne(t *testing.T) {
	withSession(t, func(t *testing.T, s *session) {
		_, err := s.do(t.Context(), time.Second, time.Millisecond, guard.Cancelling)
		require.NoError(t, err)
		took := stopwatch()
		cut, _ := s.do(t.Context(), time.Minute, forever, guard.Cancelling)
		assert.Equal(t, timedOut, cut)
		assert.Equal(t, time.Minute, took())
	})
}

func TestAShorterLimitIsNoticedThoughTheTimerRunsForALongerOne(t *testing.T) {
	withSession(t, func(t *testing.T, s *session) {
		for range 3 {
			for _, limit := range []time.Duration{time.Hour, time.Minute} {
				_, err := s.do(t.Context(), limit, time.Millisecond, guard.Cancelling)
				require.NoError(t, err)
			}
			took := stopwatch()
			cut, err := s.do(t.Context(), time.Second, forever, guard.Cancelling)
			assert.ErrorIs(t, err, errCanceled)
			assert.Equal(t, timedOut, cut)
			assert.Equal(t, time.Second, took())

			took = stopwatch()
			cut, _ = s.do(t.Context(), time.Hour, forever, guard.Cancelling)
			assert.Equal(t, timedOut, cut)
			assert.Equal(t, time.Hour, took())
		}
	})
}

func TestWithoutALimitNothingEndsAStatement(t *testing.T) {
	withSession(t, func(t *testing.T, s *session) {
		for range 3 { // the second time the timer still runs for a statement that has a limit
			cut, err := s.do(t.Context(), 0, forever, guard.Cancelling)
			require.NoError(t, err)
			require.False(t, cut.Happened())
			require.Zero(t, s.conn.socket.timesBounded())

			cut, err = s.do(t.Context(), time.Second, time.Millisecond, guard.Cancelling)
			require.NoError(t, err)
			require.False(t, cut.Happened())
		}
		_, _ = s.do(t.Context(), 0, 10*time.Millisecond, guard.Cancelling)
		took := stopwatch()
		cut, _ := s.do(t.Context(), time.Second, forever, guard.Cancelling)
		assert.Equal(t, timedOut, cut)
		assert.Equal(t, time.Second, took())
		assert.EqualValues(t, 1, s.conn.requests.Load())
	})
}

func TestTheTimeOfAStatementCountsFromWhenItsCallerSays(t *testing.T) {
	withSession(t, func(t *testing.T, s *session) {
		_, _ = s.do(t.Context(), time.Second, 0, guard.Cancelling) // the timer fires a second from here
		for _, ago := range []time.Duration{0, 300 * time.Millisecond, time.Second, time.Minute} {
			took := stopwatch()
			s.Begin(clock.Now()-int64(ago), time.Second, guard.Cancelling)
			s.watcher.Watch(t.Context())
			require.ErrorIs(t, s.conn.run(forever), errCanceled)
			require.Equal(t, timedOut, s.end())
			require.Equal(t, max(0, time.Second-ago), took())
		}
	})
}

func TestTheEndOfTheCallersContextCancelsAStatement(t *testing.T) {
	withSession(t, func(t *testing.T, s *session) {
		deadline, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		cut, err := s.do(deadline, time.Minute, forever, guard.Cancelling)
		assert.ErrorIs(t, err, errCanceled)
		assert.Equal(t, guard.Cut{Caller: context.DeadlineExceeded}, cut)
		assert.True(t, s.unbounded())
		assert.True(t, s.Stale())

		cancelled, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		cut, err = s.do(cancelled, time.Minute, forever, guard.Cancelling)
		assert.ErrorIs(t, err, errCanceled)
		assert.Equal(t, guard.Cut{Caller: context.Canceled}, cut)
		assert.ErrorIs(t, cut.Err(), context.Canceled)
		assert.True(t, s.unbounded())

		time.Sleep(time.Hour)
		assert.EqualValues(t, 2, s.conn.requests.Load())
	})
}

func TestAStatementIsCancelledOnceThoughItsLimitAndItsContextEndIt(t *testing.T) {
	for name, apart := range map[string]time.Duration{
		"limit first": time.Millisecond, "context first": -time.Millisecond, "at once": 0,
	} {
		t.Run(name, func(t *testing.T) {
			withSession(t, func(t *testing.T, s *session) {
				s.conn.cancel = func(context.Context) error {
					time.Sleep(guard.CancelGrace / 2) // the other comes while the cancel request is under way
					return nil                        // which the server acknowledges, and goes on
				}
				for range 2 {
					requests := s.conn.requests.Load()
					took := stopwatch()
					ctx, cancel := context.WithTimeout(t.Context(), time.Second+apart)
					defer cancel()
					cut, err := s.do(ctx, time.Second, forever, guard.Cancelling)
					assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
					assert.Equal(t, guard.Cut{TimedOut: true, Caller: context.DeadlineExceeded}, cut)
					assert.Equal(t, time.Second+min(0, apart)+guard.CancelGrace, took())
					assert.EqualValues(t, 1, s.conn.requests.Load()-requests)
					assert.Zero(t, s.conn.underWay.Load())
					assert.True(t, s.unbounded())
					assert.True(t, s.Stale())
				}
			})
		})
	}
}

func TestWhatWasSaidInTimeIsReadThoughTheContextHasEnded(t *testing.T) {
	withSession(t, func(t *testing.T, s *session) {
		s.conn.cancel = ignored
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		cut, err := s.do(ctx, time.Minute, time.Second+guard.CancelGrace-1, guard.Cancelling)
		assert.NoError(t, err)
		assert.Equal(t, guard.Cut{Caller: context.DeadlineExceeded}, cut)
	})
}

func TestAPingOfOurOwnIsHungUpAndNotCancelled(t *testing.T) {
	withSession(t, func(t *testing.T, s *session) {
		took := stopwatch()
		cut, err := s.do(t.Context(), time.Second, forever, guard.HangingUp)
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.Equal(t, timedOut, cut)
		assert.Equal(t, time.Second, took())
		assert.True(t, s.unbounded())

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		cut, err = s.do(ctx, 0, forever, guard.HangingUp)
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.Equal(t, guard.Cut{Caller: context.DeadlineExceeded}, cut)
		assert.Equal(t, 2*time.Second, took())
		assert.True(t, s.unbounded())

		assert.Zero(t, s.conn.requests.Load())
		assert.False(t, s.Stale())
	})
}

func TestTheCallersContextDoesNotEndACommit(t *testing.T) {
	withSession(t, func(t *testing.T, s *session) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		cut, err := s.do(ctx, time.Minute, 59*time.Second, guard.Waiting)
		assert.NoError(t, err)
		assert.False(t, cut.Happened())
		assert.Zero(t, s.conn.requests.Load())
		assert.Zero(t, s.conn.socket.timesBounded())
	})
}

func TestACommitBeyondItsLimitIsGivenUpAndNotCancelled(t *testing.T) {
	withSession(t, func(t *testing.T, s *session) {
		took := stopwatch()
		cut, err := s.do(t.Context(), time.Second, forever, guard.Waiting)
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.Equal(t, timedOut, cut)
		assert.Equal(t, time.Second, took())
		assert.Zero(t, s.conn.requests.Load())
		assert.False(t, s.Stale())
	})
}

func TestACommitIsSparedUntilItsEndAndForEverIfItsConnectionWasLost(t *testing.T) {
	withSession(t, func(t *testing.T, s *session) {
		s.begin(t.Context(), time.Second, guard.Cancelling)
		assert.False(t, s.Sparing())
		s.end()

		s.begin(t.Context(), time.Second, guard.Waiting)
		assert.True(t, s.Sparing())
		s.end()
		assert.False(t, s.Sparing())

		s.begin(t.Context(), time.Second, guard.Waiting)
		_ = s.conn.run(forever)
		s.conn.closed = true
		s.end()
		assert.True(t, s.Sparing(), "pgx sends a cancel request when it closes a connection")
		s.End()
		assert.True(t, s.Sparing())
	})
}

func TestAWaitForNotificationsIsHungUpAndIsNoStatement(t *testing.T) {
	withSession(t, func(t *testing.T, s *session) {
		s.quiet.Store(true)
		_, _ = s.do(t.Context(), time.Minute, time.Millisecond, guard.Cancelling)
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			took := stopwatch()
			assert.ErrorIs(t, s.wait(ctx, forever), os.ErrDeadlineExceeded)
			assert.Equal(t, time.Second, took())
			assert.True(t, s.unbounded())
			assert.False(t, s.Cut().Happened())
		}
		assert.False(t, s.Stale())
		assert.Zero(t, s.conn.requests.Load())
	})
}

func TestWhatTheServerWorksOnIsCancelledThoughNobodyBeganIt(t *testing.T) {
	withSession(t, func(t *testing.T, s *session) {
		for _, before := range []guard.Manner{guard.Cancelling, guard.HangingUp, guard.Waiting} {
			_, _ = s.do(t.Context(), 0, 0, before)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			assert.ErrorIs(t, s.wait(ctx, forever), errCanceled)
			assert.Equal(t, guard.Cut{Caller: context.DeadlineExceeded}, s.Cut())
			assert.True(t, s.Stale())
			assert.True(t, s.unbounded())
		}
		assert.EqualValues(t, 3, s.conn.requests.Load())
	})
}

func TestAStatementThatTheServerGoesOnWithEndsAfterTheGrace(t *testing.T) {
	for name, cancel := range map[string]func(context.Context) error{
		"ignored": ignored, "unheard": unheard, "refused": refused,
	} {
		t.Run(name, func(t *testing.T) {
			withSession(t, func(t *testing.T, s *session) {
				s.conn.cancel = cancel
				took := stopwatch()
				cut, err := s.do(t.Context(), time.Second, forever, guard.Cancelling)
				assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
				assert.Equal(t, time.Second+guard.CancelGrace, took())
				assert.Equal(t, timedOut, cut)
				assert.Equal(t, name != "ignored", s.Unacknowledged())
				assert.True(t, s.unbounded())
				assert.True(t, s.Stale())
			})
		})
	}
}

func TestTheCallersCancelRequestThatGetsLostCondemnsTheConnection(t *testing.T) {
	withSession(t, func(t *testing.T, s *session) {
		s.conn.cancel = unheard
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.do(ctx, time.Minute, time.Second+time.Millisecond, guard.Cancelling)
		assert.NoError(t, err)
		assert.True(t, s.Unacknowledged())
	})
}

func TestEndWaitsForTheTimerThatIsInTheMidstOfCancelling(t *testing.T) {
	withSession(t, func(t *testing.T, s *session) {
		s.conn.cancel = s.conn.delayed(300 * time.Millisecond)
		took := stopwatch()
		cut, err := s.do(t.Context(), time.Second, time.Second+time.Millisecond, guard.Cancelling)
		assert.NoError(t, err)
		assert.Equal(t, timedOut, cut)
		assert.Equal(t, 1300*time.Millisecond, took())
		assert.Zero(t, s.conn.underWay.Load())
		assert.True(t, s.unbounded())
		assert.True(t, s.Stale(), "the cancel request was acknowledged, and may yet hit the next statement")
	})
}

func TestTheEndOfAWatchWaitsForTheCallersCancelRequest(t *testing.T) {
	withSession(t, func(t *testing.T, s *session) {
		s.conn.cancel = s.conn.delayed(300 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		took := stopwatch()
		_, err := s.do(ctx, time.Minute, time.Second+time.Millisecond, guard.Cancelling)
		assert.NoError(t, err)
		assert.Equal(t, 1300*time.Millisecond, took())
		assert.Zero(t, s.conn.underWay.Load())
		assert.True(t, s.unbounded())
	})
}

func TestAReadIsTriedAgainOnceForEachStatementWhoseTimeIsUp(t *testing.T) {
	withSession(t, func(t *testing.T, s *session) {
		assert.False(t, s.ReadAgain(), "there is no statement")
		for range 2 {
			s.begin(t.Context(), time.Second, guard.Cancelling)
			assert.False(t, s.ReadAgain(), "its time is not up")
			time.Sleep(time.Minute)
			assert.True(t, s.ReadAgain())
			deadline, _ := s.conn.socket.look()
			assert.Equal(t, time.Now().Add(guard.LateRead), deadline)
			assert.False(t, s.ReadAgain())
			s.end()
			assert.False(t, s.ReadAgain(), "it is over")
			assert.True(t, s.unbounded())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s.begin(ctx, time.Hour, guard.Cancelling)
		time.Sleep(time.Minute)
		assert.False(t, s.ReadAgain(), "who ended the context doesn't want to know")
		s.end()
	})
}

func TestStopLeavesNoTimer(t *testing.T) {
	withSession(t, func(t *testing.T, s *session) {
		s.begin(t.Context(), time.Second, guard.Cancelling)
		s.Stop()
		s.watcher.Unwatch()
		state(t, s, false, false)
		assert.False(t, s.TimerRuns())
		time.Sleep(time.Hour)
		assert.Zero(t, s.conn.requests.Load())
		assert.Zero(t, s.conn.socket.timesBounded())
	})
}

func TestStopLeavesNoGoroutineThoughTheTimerIsInTheMidstOfCancelling(t *testing.T) {
	withSession(t, func(t *testing.T, s *session) { // which fails if a goroutine is left
		s.conn.cancel = unheard
		s.begin(t.Context(), time.Second, guard.Cancelling)
		time.Sleep(time.Second)
		synctest.Wait()
		require.EqualValues(t, 1, s.conn.underWay.Load())
		s.Stop()
		s.watcher.Unwatch()
		time.Sleep(guard.CancelGrace)
		synctest.Wait()
		assert.Zero(t, s.conn.underWay.Load())
		assert.False(t, s.TimerRuns())
	})
}

func TestAStoppedGuardLeavesTheEndOfTheContextAlone(t *testing.T) {
	withSession(t, func(t *testing.T, s *session) {
		ctx, cancel := context.WithCancel(t.Context())
		s.begin(ctx, time.Second, guard.Cancelling)
		s.watcher.Unwatch() // as pgx does when it closes the connection
		s.Stop()
		cancel()
		synctest.Wait()
		assert.Zero(t, s.conn.requests.Load())
	})
}
