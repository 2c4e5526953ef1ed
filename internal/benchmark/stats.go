package main

import (
	"math"
	"slices"

	"github.com/pgprod/pgprod/internal/histogram"
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

// newLatencies returns a histogram whose quantiles are at most 0.8 % too long.
func newLatencies() *histogram.Histogram { return histogram.New(7) }
