package main

import (
	"math"
	"sync/atomic"
	"time"
)

// latencies counts durations in buckets that grow by 2 %, from a microsecond to 100 seconds: percentiles are as exact,
// however long the program runs. The zero value is ready, and safe for concurrent use.
type latencies struct {
	buckets [935]atomic.Int64
	longest atomic.Int64
}

const growth = 1.02

func bucketOf(d time.Duration) int {
	if d <= time.Microsecond {
		return 0
	}
	i := int(math.Log(float64(d)/float64(time.Microsecond)) / math.Log(growth))
	return min(i, len(latencies{}.buckets)-1)
}

func bucketEnd(i int) time.Duration {
	return time.Duration(float64(time.Microsecond) * math.Pow(growth, float64(i+1)))
}

func (l *latencies) record(d time.Duration) {
	l.buckets[bucketOf(d)].Add(1)
	l.raise(int64(d))
}

func (l *latencies) raise(d int64) {
	for {
		longest := l.longest.Load()
		if d <= longest || l.longest.CompareAndSwap(longest, d) {
			return
		}
	}
}

// add adds what other has counted.
func (l *latencies) add(other *latencies) {
	for i := range other.buckets {
		l.buckets[i].Add(other.buckets[i].Load())
	}
	l.raise(other.longest.Load())
}

// since is what was counted after earlier, an older copy. Its longest is exact to a bucket.
func (l *latencies) since(earlier *latencies) *latencies {
	diff := new(latencies)
	for i := range l.buckets {
		n := l.buckets[i].Load() - earlier.buckets[i].Load()
		diff.buckets[i].Store(n)
		if n > 0 {
			diff.longest.Store(min(int64(bucketEnd(i)), l.longest.Load()))
		}
	}
	if diff.buckets[len(diff.buckets)-1].Load() > 0 { // the last has no end
		diff.longest.Store(l.longest.Load())
	}
	return diff
}

func (l *latencies) count() (n int64) {
	for i := range l.buckets {
		n += l.buckets[i].Load()
	}
	return n
}

// percentile is the duration that the given share of all did not exceed; 0 where there are none.
func (l *latencies) percentile(share float64) time.Duration {
	rank := int64(math.Ceil(share * float64(l.count())))
	if rank == 0 {
		return 0
	}
	longest := time.Duration(l.longest.Load())
	for i := range len(l.buckets) - 1 { // the last has no end
		if rank -= l.buckets[i].Load(); rank <= 0 {
			return min(bucketEnd(i), longest)
		}
	}
	return longest
}
