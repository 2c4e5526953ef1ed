package lease

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTwoDialAtFirstThenAsManyAsThereAre(t *testing.T) {
	onBench(t, 50, func(t *testing.T, b *bench) {
		callers := b.acquireMany(50)
		for open := 0; open < 50; {
			together := len(b.underWay())
			require.Equal(t, min(max(firstBurst, open), 50-open), together, "with %d open", open)
			b.advance(100 * time.Millisecond)
			require.Len(t, b.underWay(), together, "a dial that is not slow makes nobody start")
			answered := b.underWay()
			for _, d := range answered {
				d.answer <- nil
			}
			b.settle()
			open += together
			require.Equal(t, open, owners(callers))
		}
		require.Empty(t, b.underWay())
		require.Equal(t, 50, b.attempts())
	})
}

func TestFiftyShortStatementsNeedAHandfulOfConnections(t *testing.T) {
	onBench(t, 50, func(t *testing.T, b *bench) {
		callers := b.acquireMany(50)
		for owners(callers) < len(callers) { // each statement takes 2 ms, each dial 150
			held := b.q.Stats().Lent
			b.advance(2 * time.Millisecond)
			for range held {
				b.release()
			}
			for _, d := range b.underWay() {
				if time.Since(d.began) >= 150*time.Millisecond {
					d.answer <- nil
				}
			}
			b.settle()
		}
		require.LessOrEqual(t, b.q.Stats().Open, 8)
	})
}

func TestASlowDialHoldsNobodyElseUp(t *testing.T) {
	onBench(t, 100, func(t *testing.T, b *bench) {
		b.acquireMany(100)
		for _, want := range []int{2, 2 + 4, 2 + 4 + 8, 2 + 4 + 8 + 16} {
			require.Len(t, b.underWay(), want)
			b.advance(slowAfter - 1)
			require.Len(t, b.underWay(), want)
			b.advance(1)
		}
	})
}

func TestSlowDialsNeverBecomeMoreThanThePlaces(t *testing.T) {
	for _, places := range []int{1, 2, 7, math.MaxInt32} {
		onBench(t, places, func(t *testing.T, b *bench) {
			b.acquireMany(20)
			b.advance(time.Minute)
			require.Len(t, b.underWay(), min(places, 20))
		})
	}
}

func TestWhenAllDialsAreOverTwoDialAtFirstAgain(t *testing.T) {
	onBench(t, 100, func(t *testing.T, b *bench) {
		callers := b.acquireMany(20)
		b.advance(time.Minute)
		for len(b.underWay()) > 0 {
			b.end(nil)
		}
		require.Equal(t, 20, owners(callers))
		for range 20 {
			b.closed()
			b.release()
		}
		b.acquireMany(20)
		require.Len(t, b.underWay(), firstBurst)
	})
}

func TestOneHangingDialBlocksNobodyElse(t *testing.T) {
	onBench(t, 10, func(t *testing.T, b *bench) {
		unlucky := b.acquire(0)
		hung := b.underWay()[0]
		b.advance(time.Second)
		callers := append([]*caller{unlucky}, b.acquireMany(8)...)
		for i := range callers {
			dials := b.underWay()
			require.Greater(t, len(dials), 1, "nobody depends on the dial that hangs")
			dials[len(dials)-1].answer <- nil
			b.settle()
			require.Equal(t, i+1, owners(callers[:i+1]), "first come, first served, whoever's dial it was")
		}
		require.Equal(t, []*dial{hung}, b.underWay())
	})
}

func TestADialMayBeOvertakenBeforeItHasTakenLong(t *testing.T) {
	onBench(t, 10, func(t *testing.T, b *bench) {
		callers := b.acquireMany(2)
		b.advance(10 * time.Millisecond)
		b.underWay()[1].answer <- nil
		b.settle()
		require.True(t, callers[0].owns())
		require.Len(t, b.underWay(), 1, "the other may still come soon")
		b.advance(slowAfter)
		require.Len(t, b.underWay(), 2, "it does not")
		b.underWay()[1].answer <- nil
		b.settle()
		require.True(t, callers[1].owns())
	})
}

func TestADialThatFailsQuicklyOvertakesNobody(t *testing.T) {
	onBench(t, 10, func(t *testing.T, b *bench) {
		b.acquire(0)
		b.advance(time.Second)
		b.acquire(0)
		b.underWay()[1].answer <- errRefused
		b.settle()
		require.Equal(t, 2, b.q.Stats().Dialing)
	})
}

func TestADialThatFailsDoesNotLeaveItsWaiterToAHangingOne(t *testing.T) {
	onBench(t, 10, func(t *testing.T, b *bench) {
		first := b.acquire(0)
		b.advance(time.Second)
		second := b.acquire(0)
		b.underWay()[1].answer <- nil
		b.settle()
		require.True(t, first.owns())
		b.underWay()[1].answer <- errRefused
		b.advance(maxBackoff)
		require.Len(t, b.underWay(), 2)
		b.underWay()[0].answer <- errRefused // the one that hung: the other suffices
		b.advance(maxBackoff)
		require.Len(t, b.underWay(), 1)
		b.end(nil)
		require.True(t, second.owns())
		require.Zero(t, b.q.Stats().Dialing)
	})
}

func TestAHangingDialBlocksNobodyWhereAllAreSlowEither(t *testing.T) {
	onBench(t, 10, func(t *testing.T, b *bench) {
		callers := b.acquireMany(2)
		hung := b.underWay()[0]
		b.advance(400 * time.Millisecond)
		b.underWay()[1].answer <- nil
		b.settle()
		require.True(t, callers[0].owns())
		b.advance(300 * time.Millisecond)
		require.Equal(t, []*dial{hung}, b.underWay(), "the other may still come")
		b.advance(slowAfter + 100*time.Millisecond)
		require.Len(t, b.underWay(), 2, "it doesn't, though it has had twice the time")
		b.underWay()[1].answer <- nil
		b.settle()
		require.True(t, callers[1].owns())
	})
}

func TestWhereAllDialsAreSlowNoneIsGivenUp(t *testing.T) {
	onBench(t, 10, func(t *testing.T, b *bench) {
		callers := b.acquireMany(2)
		b.advance(time.Second)
		b.end(nil)
		require.True(t, callers[0].owns())
		require.Len(t, b.underWay(), 1)
		b.end(nil)
		require.True(t, callers[1].owns())
		require.Equal(t, 2, b.attempts())
	})
}

func TestNeverMoreDialsThanWaiters(t *testing.T) {
	onBench(t, 10, func(t *testing.T, b *bench) {
		b.acquire(0)
		b.advance(time.Minute)
		require.Len(t, b.underWay(), 1)
		b.acquire(0)
		b.advance(time.Minute)
		require.Len(t, b.underWay(), 2)
	})
}

func TestNeverMoreDialsThanPlaces(t *testing.T) {
	onBench(t, 3, func(t *testing.T, b *bench) {
		b.lend(t, 2)
		b.acquireMany(10)
		b.advance(time.Minute)
		require.Len(t, b.underWay(), 1)
		b.end(nil)
		require.Empty(t, b.underWay())
		b.closed() // makes room for another
		require.Len(t, b.underWay(), 1)
	})
}

func TestADialOutlivesItsRequesterAndServesTheNext(t *testing.T) {
	onBench(t, 5, func(t *testing.T, b *bench) {
		for range 3 {
			gone := b.acquire(100 * time.Millisecond)
			b.advance(100 * time.Millisecond)
			require.ErrorIs(t, gone.err, ErrTimeout)
		}
		require.Equal(t, 1, b.attempts(), "the later ones wait for the dial of the first")
		b.end(nil)
		s := b.q.Stats()
		require.Equal(t, 1, s.Open)
		require.Zero(t, s.Lent+s.Dialing)
		require.True(t, b.acquire(time.Second).owns())
	})
}

func TestADialThatFailsIsRepeatedOnlyWhileSomebodyWaits(t *testing.T) {
	onBench(t, 5, func(t *testing.T, b *bench) {
		waiting, gone := b.acquire(0), b.acquire(0)
		b.endAll(errRefused)
		b.advance(maxBackoff)
		require.Equal(t, 4, b.attempts())
		gone.cancel()
		b.settle()
		b.endAll(errRefused)
		b.advance(maxBackoff)
		require.Equal(t, 5, b.attempts())
		waiting.cancel()
		b.settle()
		b.endAll(errRefused)
		require.Zero(t, b.q.Stats().Dialing)
		b.advance(time.Minute)
		require.Equal(t, 5, b.attempts())
	})
}

func TestADialThatPausesEndsWhenNobodyWaits(t *testing.T) {
	onBench(t, 5, func(t *testing.T, b *bench) {
		c := b.acquire(0)
		b.end(errRefused)
		require.Equal(t, 1, b.q.Stats().Dialing)
		c.cancel()
		b.advance(maxBackoff)
		require.Zero(t, b.q.Stats().Dialing)
		require.Equal(t, 1, b.attempts())
	})
}

func TestAConnectionThatComesBackServesWhileDialsFail(t *testing.T) {
	onBench(t, 2, func(t *testing.T, b *bench) {
		b.lend(t, 1)
		first, second := b.acquire(0), b.acquire(0)
		b.endAll(errRefused)
		b.release()
		require.True(t, first.owns())
		b.advance(maxBackoff)
		b.endAll(nil)
		require.True(t, second.owns(), "the failed dial gave its place back")
	})
}

// failures repeats a dial that fails at once, for a time, and returns when each was tried.
func (b *bench) failures(err error, during time.Duration) (tried []time.Time) {
	for end := time.Now().Add(during); time.Now().Before(end); b.advance(time.Millisecond) {
		for _, d := range b.underWay() {
			tried = append(tried, d.began)
		}
		b.endAll(err)
	}
	return tried
}

func TestPausesDoubleUpToFourHundredMilliseconds(t *testing.T) {
	onBench(t, 1, func(t *testing.T, b *bench) {
		b.acquire(0)
		tried := b.failures(errRefused, 20*time.Second)
		backoff := minBackoff
		for i := range len(tried) - 1 {
			pause := tried[i+1].Sub(tried[i])
			require.GreaterOrEqual(t, pause, backoff/2)
			require.LessOrEqual(t, pause, backoff+2*time.Millisecond) // our own steps are a millisecond
			backoff = min(2*backoff, maxBackoff)
		}
		require.Greater(t, len(tried), 20)
	})
}

func TestAllDialsPauseTogetherHoweverManyCallersComeAndGo(t *testing.T) {
	onBench(t, 40, func(t *testing.T, b *bench) {
		var tried []time.Time
		for range 500 {
			for range 4 {
				b.acquire(20 * time.Millisecond)
			}
			tried = append(tried, b.failures(errRefused, 20*time.Millisecond)...)
		}
		// Ten seconds: a pause of at most 400 ms each, of at least 200 once they have grown, two dials after each.
		require.GreaterOrEqual(t, len(tried), 20)
		require.LessOrEqual(t, len(tried), 2*(10*1000/200+6))
	})
}

func TestWithManyOpenManyDialsAtOnceCostOnePause(t *testing.T) {
	onBench(t, 40, func(t *testing.T, b *bench) {
		b.lend(t, 20)
		b.acquireMany(20)
		require.Len(t, b.underWay(), 20)
		b.endAll(errRefused)
		b.advance(minBackoff)
		require.Len(t, b.underWay(), 20, "the first pause, not the twentieth")
	})
}

func TestSuccessEndsThePauses(t *testing.T) {
	onBench(t, 10, func(t *testing.T, b *bench) {
		b.acquire(0)
		b.failures(errRefused, 10*time.Second)
		require.ErrorIs(t, b.q.Stats().LastError, errRefused)
		b.advance(maxBackoff)
		b.end(nil)
		require.NoError(t, b.q.Stats().LastError)
		b.acquire(0)
		require.Len(t, b.underWay(), 1, "at once")
		b.end(errRefused)
		b.advance(minBackoff)
		require.Len(t, b.underWay(), 1, "after the shortest pause again")
	})
}

func TestAServerThatComesBackIsFoundWithinThePause(t *testing.T) {
	onBench(t, 10, func(t *testing.T, b *bench) {
		c := b.acquire(30 * time.Second)
		b.failures(errRefused, 20*time.Second)
		back := time.Now()
		for !c.done {
			b.endAll(nil)
			b.advance(time.Millisecond)
		}
		require.NoError(t, c.err)
		require.LessOrEqual(t, time.Since(back), maxBackoff+2*time.Millisecond)
	})
}

func TestAHopelessDialWithNothingOpenSendsEverybodyAwayAtOnce(t *testing.T) {
	onBench(t, 10, func(t *testing.T, b *bench) {
		callers := b.acquireMany(20)
		b.end(errPassword)
		for _, c := range callers {
			require.Equal(t, errPassword, c.err)
			require.Zero(t, c.waited)
		}
		s := b.q.Stats()
		require.Zero(t, s.Lent+s.Waiting)
		require.EqualValues(t, 1, s.Failures)
		require.Zero(t, s.Timeouts+s.Cancelled)
		require.Equal(t, errPassword, s.LastError)

		b.end(errPassword) // the other dial that was under way
		require.Zero(t, b.q.Stats().Dialing)
		next := b.acquire(time.Minute)
		b.advance(maxBackoff)
		b.end(errPassword)
		require.Equal(t, errPassword, next.err, "the next caller has a dial of its own, after the pause")
	})
}

func TestAHopelessDialWithSomethingOpenLetsThemWait(t *testing.T) {
	onBench(t, 10, func(t *testing.T, b *bench) {
		b.lend(t, 1)
		first, second := b.acquire(0), b.acquire(0)
		for range 10 {
			b.endAll(errPassword)
			b.advance(maxBackoff)
		}
		require.False(t, first.done || second.done)
		b.release()
		require.True(t, first.owns())
		b.closed()
		b.release()
		b.advance(maxBackoff)
		b.endAll(errPassword)
		require.Equal(t, errPassword, second.err, "now that nothing is open there is nothing to wait for")
	})
}

func TestCloseEndsDialsUnderWayAndThoseThatPause(t *testing.T) {
	onBench(t, 4, func(t *testing.T, b *bench) {
		b.lend(t, 2)
		b.acquireMany(4)
		dials := b.underWay()
		require.Len(t, dials, 2)
		dials[0].answer <- errRefused // pauses from now on
		b.settle()
		start := time.Now()
		b.q.Close()
		require.Zero(t, time.Since(start))
		require.Empty(t, b.underWay())
		require.Zero(t, b.q.Stats().Dialing)
	})
}

// stubborn is a Dialer whose dial succeeds although Close has ended its context.
type stubborn struct{ network }

func (s *stubborn) Dial(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func TestADialThatSucceedsDespiteCloseIsCounted(t *testing.T) {
	onBench(t, 1, func(t *testing.T, b *bench) {
		b.q.dialer = &stubborn{}
		c := b.acquire(0)
		b.q.Close()
		b.settle()
		require.ErrorIs(t, c.err, ErrClosed)
		require.Equal(t, 1, b.q.Stats().Open, "whoever kept it closes it")
		b.closed()
		require.Zero(t, b.q.Stats().Open)
	})
}

func TestAConnectionClosedBeforeItsDialIsBookedIsMadeGood(t *testing.T) {
	onBench(t, 2, func(t *testing.T, b *bench) {
		c := b.acquire(0)
		b.closed() // kept and closed in the same moment
		b.end(nil)
		require.False(t, c.done)
		require.Zero(t, b.q.Stats().Open)
		b.end(nil)
		require.True(t, c.owns())
	})
}

func TestAPauseEndsWhenItIsHastened(t *testing.T) {
	onBench(t, 1, func(t *testing.T, b *bench) {
		caller := b.acquire(0)
		for range 10 {
			b.end(errRefused)
			require.Empty(t, b.underWay(), "it pauses")
			b.advance(maxBackoff)
			require.Len(t, b.underWay(), 1)
		}
		b.end(errRefused)
		b.advance(time.Millisecond)
		require.Empty(t, b.underWay())
		b.q.Hasten()
		b.settle()
		require.Len(t, b.underWay(), 1)
		b.end(errRefused)
		b.advance(minBackoff)
		require.Len(t, b.underWay(), 1, "the next pause is as short as the first")
		b.end(nil)
		require.True(t, caller.owns())
	})
}
