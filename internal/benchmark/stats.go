package main

import (
	"math"
	"math/bits"
	"slices"
	"time"
)

// spread is the median of the rounds' values and their quartiles.
type spread struct{ q1, median, q3 float64 }

func spreadOf(values []float64) spread {
	sorted := slices.Sorted(slices.Values(values))
	return spread{quantile(sorted, 0.25), quantile(sorted, 0.5), quantile(sorted, 0.75)}
}

// quantile interpolates between the two nearest of the sorted values; without any it is NaN.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	position := q * float64(len(sorted)-1)
	low := int(position)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (position-float64(low))*(sorted[high]-sorted[low])
}

// A histogram counts durations without allocating, to within 0.8 %.
type histogram struct {
	counts [64 * perOctave]uint32
	total  uint64
}

const (
	octaveBits = 6
	perOctave  = 1 << octaveBits // buckets for each power of two
)

func bucket(d time.Duration) int {
	n := uint64(max(d, 0))
	shift := max(0, bits.Len64(n)-octaveBits-1)
	return shift*perOctave + int(n>>shift)
}

// middle is the middle of a bucket.
func middle(bucket int) time.Duration {
	if bucket < 2*perOctave {
		return time.Duration(bucket)
	}
	shift := bucket/perOctave - 1
	low := uint64(bucket-shift*perOctave) << shift
	return time.Duration(low + 1<<shift/2)
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucket(d)]++
	h.total++
}

// take moves what other has counted to h.
func (h *histogram) take(other *histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
	*other = histogram{}
}

// quantile is the duration that a share q of all didn't exceed; 0 if there were none.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(math.Ceil(q * float64(h.total)))
	var seen uint64
	for i, n := range h.counts {
		seen += uint64(n)
		if n > 0 && seen >= rank {
			return middle(i)
		}
	}
	return 0
}
