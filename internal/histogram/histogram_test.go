package histogram

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var shares = []float64{0.001, 0.25, 0.5, 0.95, 0.99, 0.999, 1}

func TestQuantilesAreTooLongByThePromisedPartAtMost(t *testing.T) {
	for _, precision := range []int{0, 2, 6, 7} {
		h := New(precision)
		all := make([]time.Duration, 10_000)
		for i := range all {
			all[i] = time.Duration(math.Exp(rand.Float64() * 25)) // 1 ns to a minute
			h.Record(all[i])
		}
		slices.Sort(all)
		for _, share := range shares {
			exact, got := all[int(math.Ceil(share*10_000))-1], h.Quantile(share)
			says := fmt.Sprintf("precision %d, share %v", precision, share)
			assert.GreaterOrEqual(t, got, exact, says)
			assert.LessOrEqual(t, got, exact+exact>>precision, says)
		}
		assert.EqualValues(t, 10_000, h.Count())
		assert.Equal(t, all[len(all)-1], h.Longest(), "the longest is exact")
		assert.Equal(t, h.Longest(), h.Quantile(1))
	}
}

func TestOneDurationIsEveryQuantile(t *testing.T) {
	for _, d := range []time.Duration{0, 1, time.Microsecond, 1234567, 18 * time.Minute, time.Hour, math.MaxInt64} {
		h := New(2)
		h.Record(d)
		for _, share := range shares {
			assert.Equal(t, d, h.Quantile(share))
		}
	}
}

func TestEachBucketBeginsWhereTheOneBeforeEnds(t *testing.T) {
	for _, precision := range []int{0, 2, 6} {
		h := New(precision)
		h.Record(math.MaxInt64)
		for i := range len(h.counts) - 1 {
			require.Equal(t, i, h.bucket(h.upper(i)), "the last of bucket %d", i)
			require.Equal(t, i+1, h.bucket(h.upper(i)+1), "the first of bucket %d", i+1)
		}
	}
}

func TestAnEmptyHistogramHasNoQuantiles(t *testing.T) {
	h := New(2)
	assert.Zero(t, h.Quantile(0.5))
	assert.Zero(t, h.Quantile(1))
	assert.Zero(t, h.Longest())
	assert.Zero(t, h.Count())
}

func TestADurationBelowZeroCountsAsNone(t *testing.T) {
	h := New(2)
	h.Record(-time.Second)
	assert.EqualValues(t, 1, h.Count())
	assert.Zero(t, h.Quantile(1))
}

func TestHistogramsAddUp(t *testing.T) {
	a, b, sum := New(6), New(6), New(6)
	for range 99 {
		a.Record(time.Millisecond)
	}
	b.Record(time.Second)
	sum.Add(a)
	sum.Add(b)
	assert.EqualValues(t, 100, sum.Count())
	assert.InEpsilon(t, time.Millisecond, sum.Quantile(0.99), 1./64)
	assert.Equal(t, time.Second, sum.Longest())

	sum.Reset()
	assert.Zero(t, sum.Count())
	assert.Zero(t, sum.Longest())
	assert.EqualValues(t, 99, a.Count())
}

func TestWhatHappenedLatelyIsTheDifference(t *testing.T) {
	h, earlier := New(6), New(6)
	h.Record(time.Second)
	earlier.Add(h)
	for range 100 {
		h.Record(10 * time.Millisecond)
	}
	lately := h.Since(earlier)
	assert.EqualValues(t, 100, lately.Count())
	assert.InEpsilon(t, 10*time.Millisecond, lately.Longest(), 1./64)
	assert.Zero(t, h.Since(h).Quantile(0.99))

	earlier.Add(lately)
	h.Record(time.Hour)
	assert.Equal(t, time.Hour, h.Since(earlier).Longest(), "the last bucket has no end")
}

func TestNothingIsLostOfWhatManyRecordAtOnce(t *testing.T) {
	h, sum := New(2), New(2)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 1000 {
				h.Record(time.Duration(1000*i + j))
				if j%100 == 0 {
					_ = h.Quantile(0.99)
				}
			}
		})
	}
	wg.Wait()
	sum.Add(h)
	assert.EqualValues(t, 8000, sum.Count())
	assert.EqualValues(t, 7999, sum.Longest())
}

func TestRecordingAllocatesNothing(t *testing.T) {
	h := New(6)
	assert.Zero(t, testing.AllocsPerRun(100, func() { h.Record(time.Millisecond) }))
}
