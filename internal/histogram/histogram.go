// Package histogram counts durations in a fixed amount of memory and tells their quantiles, however many there are.
package histogram

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// longestPower bounds the buckets: what took longer than 2^longestPower nanoseconds, which is 18 minutes, is counted in
// the last one.
const longestPower = 40

// A Histogram counts durations. Each power of two of nanoseconds is divided into 2^precision buckets of the same width,
// so that a bucket's width is at most 1/2^precision of the durations in it. It is safe for concurrent use; of what is
// recorded while it is read, the reader may see a part.
type Histogram struct {
	precision int
	counts    []atomic.Int64 // by bucket
	longest   atomic.Int64   // exact, in nanoseconds
}

// New returns an empty histogram whose quantiles are at most 1/2^precision too long: a quarter for 2, 1.6 % for 6. It
// takes about 300 bytes × 2^precision.
func New(precision int) *Histogram {
	return &Histogram{precision: precision, counts: make([]atomic.Int64, (longestPower+1-precision)<<precision)}
}

// bucket is the index of the bucket that a duration is counted in. Durations below 2^(precision+1) nanoseconds have a
// bucket each; from there on the buckets become twice as wide with each power of two.
func (h *Histogram) bucket(d time.Duration) int {
	n := uint64(max(d, 0)) // a clock may go back
	shift := max(0, bits.Len64(n)-h.precision-1)
	return min(shift<<h.precision+int(n>>shift), len(h.counts)-1)
}

// upper is the longest duration that is counted in a bucket. The last bucket has no end: there it is the longest of all.
func (h *Histogram) upper(bucket int) time.Duration {
	longest := time.Duration(h.longest.Load())
	if bucket == len(h.counts)-1 {
		return longest
	}
	shift := max(0, bucket>>h.precision-1)
	return min(time.Duration(bucket-shift<<h.precision+1)<<shift-1, longest)
}

// Record counts a duration. It doesn't allocate.
func (h *Histogram) Record(d time.Duration) {
	h.counts[h.bucket(d)].Add(1)
	h.raise(int64(d))
}

func (h *Histogram) raise(d int64) {
	for {
		longest := h.longest.Load()
		if d <= longest || h.longest.CompareAndSwap(longest, d) {
			return
		}
	}
}

// Add adds what other has counted, which must have the same precision.
func (h *Histogram) Add(other *Histogram) {
	for i := range other.counts {
		if n := other.counts[i].Load(); n != 0 {
			h.counts[i].Add(n)
		}
	}
	h.raise(other.longest.Load())
}

// Since returns what was counted after earlier, an older copy made with Add. Its longest duration is known as well as the
// quantiles are.
func (h *Histogram) Since(earlier *Histogram) *Histogram {
	diff := New(h.precision)
	for i := range h.counts {
		if n := h.counts[i].Load() - earlier.counts[i].Load(); n > 0 {
			diff.counts[i].Store(n)
			diff.longest.Store(int64(h.upper(i)))
		}
	}
	return diff
}

// Reset forgets everything. What is recorded meanwhile may be lost.
func (h *Histogram) Reset() {
	for i := range h.counts {
		h.counts[i].Store(0)
	}
	h.longest.Store(0)
}

// Count is how many durations were recorded.
func (h *Histogram) Count() (n int64) {
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	return n
}

// Longest is the longest duration that was recorded, 0 if there is none.
func (h *Histogram) Longest() time.Duration { return time.Duration(h.longest.Load()) }

// Quantile is a duration that the given share of all did not exceed, such as 0.99 of them; 0 if there are none.
func (h *Histogram) Quantile(share float64) time.Duration {
	rank := int64(math.Ceil(share * float64(h.Count())))
	if rank == 0 {
		return 0
	}
	for i := range h.counts {
		if rank -= h.counts[i].Load(); rank <= 0 {
			return h.upper(i)
		}
	}
	return h.Longest()
}
