package lease

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNothingIsDialledAheadBeforeTheFirstCaller(t *testing.T) {
	onBenchWithMin(t, 3, 5, func(t *testing.T, b *bench) {
		b.advance(time.Hour)
		require.Zero(t, b.attempts())
	})
}

// begin has one caller come and go, and makes the whole minimum.
func (b *bench) begin(t *testing.T) {
	t.Helper()
	c := b.acquire(0)
	for len(b.underWay()) > 0 {
		b.end(nil)
	}
	require.True(t, c.owns())
	b.release()
}

func TestTheFirstCallerWaitsForOneConnectionAndHasTheMinimumMade(t *testing.T) {
	onBenchWithMin(t, 5, 10, func(t *testing.T, b *bench) {
		c := b.acquire(0)
		require.Len(t, b.underWay(), 5)
		b.end(nil)
		require.True(t, c.owns())
		for len(b.underWay()) > 0 {
			b.end(nil)
		}
		require.Equal(t, 5, b.q.Stats().Open)
		b.advance(time.Hour)
		require.Equal(t, 5, b.attempts())
	})
}

func TestTheMinimumIsMadeThoughTheFirstCallerHasGone(t *testing.T) {
	onBenchWithMin(t, 4, 4, func(t *testing.T, b *bench) {
		c := b.acquire(0)
		c.cancel()
		b.settle()
		require.ErrorIs(t, c.err, context.Canceled)
		for len(b.underWay()) > 0 {
			b.end(nil)
		}
		require.Equal(t, 4, b.q.Stats().Open)
	})
}

func TestWhatIsClosedIsMadeGoodBelowTheMinimumOnly(t *testing.T) {
	onBenchWithMin(t, 2, 4, func(t *testing.T, b *bench) {
		b.begin(t)
		b.lend(t, 4)
		for range 2 {
			b.closed()
			b.release()
		}
		require.Empty(t, b.underWay())
		b.closed()
		require.Len(t, b.underWay(), 1)
		b.release()
		b.end(nil)
		require.Equal(t, 2, b.q.Stats().Open)
		require.Equal(t, 1, b.q.Stats().Lent)
		b.release()
	})
}

func TestACallerTakesWhatIsDialledAhead(t *testing.T) {
	onBenchWithMin(t, 2, 2, func(t *testing.T, b *bench) {
		first := b.acquire(0)
		second := b.acquire(0)
		require.Len(t, b.underWay(), 2, "the second is not dialled for twice")
		b.endAll(nil)
		require.True(t, first.owns() && second.owns())
		require.Equal(t, 2, b.attempts())
	})
}

// outage makes the minimum, then has one connection closed and all attempts to make it good fail for so long. It returns the
// times of the attempts, from the first on.
func (b *bench) outage(t *testing.T, during time.Duration) (tried []time.Duration) {
	t.Helper()
	b.begin(t)
	b.closed()
	began := time.Now()
	for time.Since(began) < during {
		if now := b.underWay(); len(now) > 0 {
			require.Len(t, now, 1, "one at a time")
			tried = append(tried, time.Since(began))
			b.end(errRefused)
		}
		b.advance(time.Millisecond)
	}
	return tried
}

func TestWhileNobodyWaitsThePausesDoubleUpToTenSeconds(t *testing.T) {
	onBenchWithMin(t, 5, 10, func(t *testing.T, b *bench) {
		tried := b.outage(t, time.Minute)
		want := minBackoffAhead
		for i := range tried[1:] {
			pause := tried[i+1] - tried[i]
			assert.GreaterOrEqual(t, pause, want/2)
			assert.LessOrEqual(t, pause, want+2*time.Millisecond)
			want = min(2*want, maxBackoffAhead)
		}
		require.Equal(t, maxBackoffAhead, want)
	})
}

// next lets the pause pass.
func (b *bench) next() {
	for len(b.underWay()) == 0 {
		b.advance(time.Millisecond)
	}
}

func TestWhereAttemptsFailNoMoreDialThanTheRampAllows(t *testing.T) {
	onBenchWithMin(t, 20, 30, func(t *testing.T, b *bench) {
		callers := b.acquireMany(20)
		require.Len(t, b.underWay(), 20)
		b.endAll(errRefused)
		b.next()
		for range 10 {
			require.Len(t, b.underWay(), firstBurst)
			b.endAll(errRefused)
			b.next()
		}
		b.end(nil)
		require.Equal(t, 1, owners(callers))
		require.Len(t, b.underWay(), 19, "once it is clear that the server is there")
	})
}

func TestACallerDoesNotWaitForThePauseOfDialsAhead(t *testing.T) {
	onBenchWithMin(t, 1, 2, func(t *testing.T, b *bench) {
		b.outage(t, time.Minute)
		b.next()
		b.end(errRefused)
		b.advance(maxBackoff) // the longest pause for a caller's attempt; that of an attempt ahead is longer by now
		require.Empty(t, b.underWay())
		c := b.acquire(0)
		require.Len(t, b.underWay(), 1)
		b.end(nil)
		require.True(t, c.owns())
	})
}

func TestWhenAnAttemptSucceedsTheRestOfTheMinimumFollowsAtOnce(t *testing.T) {
	onBenchWithMin(t, 4, 4, func(t *testing.T, b *bench) {
		b.begin(t)
		for range 3 {
			b.closed()
		}
		b.endAll(errRefused)
		require.Empty(t, b.underWay())
		b.advance(minBackoffAhead)
		require.Len(t, b.underWay(), 1)
		began := time.Now()
		for len(b.underWay()) > 0 {
			b.end(nil)
		}
		require.Equal(t, 4, b.q.Stats().Open)
		require.Zero(t, time.Since(began))
	})
}

func TestADialWhoseCallerLeavesDuringAnOutageIsFollowedByDialsAhead(t *testing.T) {
	onBenchWithMin(t, 1, 2, func(t *testing.T, b *bench) {
		c := b.acquire(0)
		b.end(errRefused)
		c.cancel()
		b.advance(maxBackoff)
		for range 10 {
			b.advance(maxBackoffAhead)
			require.Len(t, b.underWay(), 1)
			b.end(errPassword)
		}
		b.advance(maxBackoffAhead)
		b.end(nil)
		require.Equal(t, 1, b.q.Stats().Open)
	})
}

func TestCloseEndsThePauseOfDialsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(1, 1)
		b.outage(t, 30*time.Second)
		b.next()
		b.end(errRefused) // else one could be under way
		tried := b.attempts()
		b.q.Close()
		b.advance(time.Hour)
		require.Equal(t, tried, b.attempts())
	})
}
