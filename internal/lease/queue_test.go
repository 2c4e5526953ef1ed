package lease

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAFreeConnectionIsLentAtOnce(t *testing.T) {
	onBench(t, 1, func(t *testing.T, b *bench) {
		b.open(t, 1)
		waits := b.q.Stats().Waits
		c := b.acquire(time.Second)
		require.True(t, c.owns())
		require.Zero(t, c.waited)
		require.Equal(t, waits, b.q.Stats().Waits, "that was no wait")
	})
}

func TestTheTimeoutLastsExactlyAsLongAsSet(t *testing.T) {
	for _, limit := range []time.Duration{time.Nanosecond, time.Millisecond, 250 * time.Millisecond, time.Second, 1500 * time.Millisecond, time.Minute} {
		t.Run(limit.String(), func(t *testing.T) {
			onBench(t, 1, func(t *testing.T, b *bench) {
				b.lend(t, 1)
				c := b.acquire(limit)
				b.advance(limit - 1)
				require.False(t, c.done)
				b.advance(1)
				require.ErrorIs(t, c.err, ErrTimeout)
				require.Equal(t, limit, c.waited)
			})
		})
	}
}

func TestNobodyTimesOutEarlyHoweverManyWait(t *testing.T) {
	onBench(t, 3, func(t *testing.T, b *bench) {
		b.lend(t, 3)
		var callers []*caller
		for range 50 {
			callers = append(callers, b.acquire(time.Second))
			b.advance(7 * time.Millisecond)
		}
		b.release() // serves the first
		b.advance(time.Second)
		require.True(t, callers[0].owns())
		for _, c := range callers[1:] {
			require.ErrorIs(t, c.err, ErrTimeout)
			require.Equal(t, time.Second, c.waited)
		}
	})
}

func TestWithoutALimitOnlyTheContextEndsTheWait(t *testing.T) {
	onBench(t, 1, func(t *testing.T, b *bench) {
		b.lend(t, 1)
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		c := b.call(ctx, b.q.Acquire, 0)
		b.advance(time.Hour - 1)
		require.False(t, c.done)
		b.advance(1)
		require.Equal(t, context.DeadlineExceeded, c.err)
		require.Equal(t, time.Hour, c.waited)
	})
}

func TestTheCallersOwnDeadlineGivesTheContextsError(t *testing.T) {
	onBench(t, 1, func(t *testing.T, b *bench) {
		b.lend(t, 1)
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		late, early := b.call(ctx, b.q.Acquire, time.Second), b.acquire(50*time.Millisecond)
		cancelled := b.acquire(time.Second)
		cancelled.cancel()
		b.advance(100 * time.Millisecond)
		require.Equal(t, context.DeadlineExceeded, late.err)
		require.Equal(t, ErrTimeout, early.err)
		require.Equal(t, context.Canceled, cancelled.err)
		s := b.q.Stats()
		require.EqualValues(t, 2, s.Cancelled)
		require.EqualValues(t, 1, s.Deadlines)
		require.EqualValues(t, 1, s.Timeouts)
		require.Zero(t, s.Waiting)
	})
}

func TestWaitersAreServedInTheOrderInWhichTheyCame(t *testing.T) {
	onBench(t, 2, func(t *testing.T, b *bench) {
		b.lend(t, 2)
		callers := b.acquireMany(20)
		for i := range callers {
			require.Equal(t, i, owners(callers))
			b.release()
			require.Equal(t, i+1, owners(callers[:i+1]))
		}
	})
}

func TestWhoComesLaterDoesNotOvertakeThoughAPlaceIsFree(t *testing.T) {
	onBench(t, 1, func(t *testing.T, b *bench) {
		b.lend(t, 1)
		first := b.acquire(0)
		b.q.Release() // the first waiter has the place now, whether it has noticed or not
		second := b.acquire(0)
		require.True(t, first.owns())
		require.False(t, second.done)
	})
}

func TestRetryGoesFirst(t *testing.T) {
	onBench(t, 1, func(t *testing.T, b *bench) {
		b.lend(t, 1)
		waiting := b.acquireMany(3)
		b.closed()
		again := b.retry(0)
		require.False(t, again.done)
		b.end(nil)
		require.True(t, again.owns())
		require.Zero(t, owners(waiting))
		b.release()
		require.True(t, waiting[0].owns())
	})
}

func TestThoseWhoRetryKeepTheirOrderToo(t *testing.T) {
	onBench(t, 3, func(t *testing.T, b *bench) {
		b.lend(t, 3)
		waiting := b.acquire(0)
		var again []*caller
		for range 3 {
			b.closed()
			again = append(again, b.retry(0))
		}
		for i := range again {
			require.Equal(t, i, owners(again))
			b.end(nil)
			require.Equal(t, i+1, owners(again[:i+1]))
		}
		require.False(t, waiting.done)
		b.release()
		require.True(t, waiting.owns())
	})
}

func TestRetryTakesAnotherFreeConnectionAtOnce(t *testing.T) {
	onBench(t, 2, func(t *testing.T, b *bench) {
		b.open(t, 2)
		require.True(t, b.acquire(0).owns())
		b.closed()
		again := b.retry(time.Second)
		require.True(t, again.owns())
		require.Zero(t, again.waited)
		require.Equal(t, 1, b.q.Stats().Lent)
	})
}

func TestARetryThatFailsOwnsNoPlace(t *testing.T) {
	onBench(t, 1, func(t *testing.T, b *bench) {
		b.lend(t, 1)
		b.closed()
		timedOut := b.retry(250 * time.Millisecond)
		b.advance(250 * time.Millisecond)
		require.ErrorIs(t, timedOut.err, ErrTimeout)
		require.Equal(t, 250*time.Millisecond, timedOut.waited)
		require.Zero(t, b.q.Stats().Lent)

		b.end(nil) // the dial that it had asked for
		require.True(t, b.acquire(0).owns())
		b.q.Close()
		b.closed()
		require.ErrorIs(t, b.retry(0).err, ErrClosed)
		s := b.q.Stats()
		require.Zero(t, s.Lent+s.Open+s.Waiting+s.Dialing, "%+v", s)
	})
}

func TestCancelledWaitersLeakNoPlace(t *testing.T) {
	onBench(t, 2, func(t *testing.T, b *bench) {
		b.lend(t, 2)
		callers := b.acquireMany(10)
		for i, c := range callers {
			if i%3 != 1 {
				c.cancel()
			}
		}
		b.settle()
		require.Equal(t, 3, b.q.Stats().Waiting)
		for i := 1; i < len(callers); i += 3 {
			require.False(t, callers[i].done)
			b.release()
			require.True(t, callers[i].owns())
		}
		require.Equal(t, 2, b.q.Stats().Lent)
	})
}

// The two tests that follow stage what a race can bring about: the place is given after the caller has stopped waiting
// and before it has left the queue.

func TestAPlaceGivenInTheMomentOfTheTimeoutIsKept(t *testing.T) {
	onBench(t, 1, func(t *testing.T, b *bench) {
		b.lend(t, 1)
		w, place := b.stageWaiter()
		b.release()
		require.NoError(t, b.q.leave(w, place, ErrTimeout))
		s := b.q.Stats()
		require.Equal(t, 1, s.Lent)
		require.Zero(t, s.Timeouts)
	})
}

func TestAPlaceGivenInTheMomentOfACancellationIsPassedOn(t *testing.T) {
	onBench(t, 1, func(t *testing.T, b *bench) {
		b.lend(t, 1)
		w, place := b.stageWaiter()
		next := b.acquire(0)
		b.release()
		require.False(t, next.done)
		require.Equal(t, context.Canceled, b.q.leave(w, place, context.Canceled))
		b.settle()
		require.True(t, next.owns())
		s := b.q.Stats()
		require.Equal(t, 1, s.Lent)
		require.EqualValues(t, 1, s.Cancelled)
	})
}

func TestWhoIsSentAwayInTheMomentOfTheTimeoutHearsWhy(t *testing.T) {
	onBench(t, 1, func(t *testing.T, b *bench) {
		w, place := b.stageWaiter()
		b.q.Close()
		require.Equal(t, ErrClosed, b.q.leave(w, place, ErrTimeout))
		require.Zero(t, b.q.Stats().Lent)
	})
}

func TestATimeoutAndAReleaseAtTheSameInstantLeakNothing(t *testing.T) {
	for i := range 100 {
		onBench(t, 1, func(t *testing.T, b *bench) {
			b.lend(t, 1)
			c := b.acquire(time.Second)
			time.AfterFunc(time.Second, b.q.Release)
			b.advance(time.Second)
			require.True(t, c.done)
			s := b.q.Stats()
			require.Zero(t, s.Waiting)
			if c.err == nil {
				require.Equal(t, 1, s.Lent, "round %d", i)
			} else {
				require.ErrorIs(t, c.err, ErrTimeout)
				require.Zero(t, s.Lent, "round %d", i)
			}
		})
	}
}

func TestCloseSendsEverybodyAway(t *testing.T) {
	onBench(t, 3, func(t *testing.T, b *bench) {
		b.lend(t, 1)
		callers := b.acquireMany(5)
		require.Len(t, b.underWay(), 2)
		b.q.Close()
		require.Empty(t, b.underWay(), "Close waits for the dials")
		b.settle()
		for _, c := range callers {
			require.ErrorIs(t, c.err, ErrClosed)
		}
		require.ErrorIs(t, b.acquire(0).err, ErrClosed)
		b.q.Close()

		s := b.q.Stats()
		require.Zero(t, s.Failures, "a dial that Close ended is no failure")
		require.NoError(t, s.LastError)
		require.Equal(t, 1, s.Lent)
		b.closed()
		b.release()
		s = b.q.Stats()
		require.Zero(t, s.Lent+s.Open+s.Waiting+s.Dialing, "%+v", s)
	})
}

func TestAfterCloseNothingIsLentOrDialledAnyMore(t *testing.T) {
	onBench(t, 3, func(t *testing.T, b *bench) {
		b.lend(t, 2)
		b.q.Close()
		attempts := b.attempts()
		b.release()
		require.ErrorIs(t, b.acquire(0).err, ErrClosed)
		b.closed()
		require.Equal(t, attempts, b.attempts())
	})
}

func TestCloseFromManyGoroutinesAtOnce(t *testing.T) {
	onBench(t, 2, func(t *testing.T, b *bench) {
		callers := b.acquireMany(4)
		for range 8 {
			go b.q.Close()
		}
		b.settle()
		for _, c := range callers {
			require.ErrorIs(t, c.err, ErrClosed)
		}
		require.Empty(t, b.underWay())
	})
}

func TestStatsCountEveryWaitOnce(t *testing.T) {
	onBench(t, 1, func(t *testing.T, b *bench) {
		served := b.acquire(time.Minute)
		b.advance(2 * time.Second)
		b.end(nil)
		require.True(t, served.owns())
		timedOut, cancelled := b.acquire(time.Second), b.acquire(0)
		require.Equal(t, 2, b.q.Stats().Waiting)
		b.advance(3 * time.Second)
		cancelled.cancel()
		b.settle()
		require.True(t, timedOut.done)
		b.release()

		s := b.q.Stats()
		require.Equal(t, Stats{
			Open: 1, PeakLent: 1, Waits: 3, WaitTime: (2 + 1 + 3) * time.Second, Timeouts: 1, Cancelled: 1,
		}, s)
	})
}

func TestACallerThatComesBackWithRetryIsOneWait(t *testing.T) {
	onBench(t, 1, func(t *testing.T, b *bench) {
		c := b.acquire(0)
		b.end(nil)
		require.True(t, c.owns())
		for range 2 { // what it was lent is dead
			b.closed()
			c = b.call(context.Background(), b.retryAfter(true), 0)
			b.end(nil)
			require.True(t, c.owns())
		}
		require.EqualValues(t, 1, b.q.Stats().Waits)
		b.release()

		require.True(t, b.acquire(0).owns(), "at once")
		b.closed()
		b.retry(0) // it has to wait now
		require.EqualValues(t, 2, b.q.Stats().Waits)
	})
}

func TestAnEarlierFailureIsNoReasonForAWaitThatBeginsLater(t *testing.T) {
	onBench(t, 2, func(t *testing.T, b *bench) {
		b.lend(t, 1)
		first := b.acquire(time.Second)
		b.failures(errRefused, time.Second)
		require.ErrorIs(t, first.err, ErrTimeout)
		require.ErrorIs(t, b.q.Stats().LastError, errRefused, "of that wait")
		b.advance(maxBackoff) // nobody wants a connection any more
		require.Zero(t, b.q.Stats().Dialing)
		require.ErrorIs(t, b.q.Stats().LastError, errRefused, "the caller that has just gone may look")

		b.advance(time.Hour)
		later := b.acquire(time.Second)
		require.Len(t, b.underWay(), 1)
		require.NoError(t, b.q.Stats().LastError)
		b.failures(errRefused, 100*time.Millisecond)
		joins := b.acquire(time.Second)
		require.ErrorIs(t, b.q.Stats().LastError, errRefused, "it waits for the next attempt of the same dial")
		later.cancel()
		joins.cancel()
	})
}

func TestAQueueServesOutsideABubbleAfterOneInside(t *testing.T) {
	for i := range 2 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			onBench(t, 1, func(t *testing.T, b *bench) {
				b.acquire(time.Second)
				b.advance(time.Second)
			})
			b := newBench(0, 1)
			_, err := b.q.Acquire(context.Background(), time.Nanosecond)
			require.ErrorIs(t, err, ErrTimeout)
			b.q.Close()
		})
	}
}

func TestAReservedPlaceIsNoPartOfThePeak(t *testing.T) {
	onBench(t, 5, func(t *testing.T, b *bench) {
		b.open(t, 1)
		b.q.mu.Lock()
		b.q.open = 2 // without anybody having had both
		b.q.mu.Unlock()
		require.True(t, b.q.TryReserve())
		require.True(t, b.acquire(0).owns())
		require.Equal(t, 1, b.q.Stats().PeakLent)
		b.q.Unreserve()
	})
}

func TestAReservedPlaceLeavesNoTraceAndNothingIsDialledForIt(t *testing.T) {
	onBench(t, 5, func(t *testing.T, b *bench) {
		require.False(t, b.q.TryReserve(), "there is none")
		b.open(t, 1)
		before := b.q.Stats()
		require.True(t, b.q.TryReserve())
		require.False(t, b.q.TryReserve(), "it was the only one")
		require.Equal(t, before, b.q.Stats())

		c := b.acquire(time.Second)
		require.Zero(t, b.q.Stats().Dialing, "it comes back in a moment")
		d := b.acquire(time.Second)
		require.Equal(t, 1, b.q.Stats().Dialing, "it serves but one")
		b.q.Unreserve()
		b.advance(0)
		require.True(t, c.owns(), "first come, first served")
		require.False(t, d.owns())
	})
}
