package main

import (
	"time"

	"github.com/pgprod/pgprod/internal/histogram"
)

// series is what a peer did in a workload, round by round.
type series struct {
	workload workload
	who      who
	samples  []sample
	latency  *histogram.Histogram // of all rounds: a block is too short for the rare ones
	trips    float64              // round trips for each operation
	connects int                  // made in all; in a storm the median of a round
	heap     int64                // what closing the pool set free
}

// A figure is a figure of a block.
type figure struct {
	name, unit string
	of         func(sample) float64                               // nil: of all rounds together
	whole      func(latency *histogram.Histogram) (value float64) // where of is nil
	more       bool                                               // more is better
}

var (
	throughput = figure{name: "operations per second", of: sample.throughput, more: true}
	timePerOp  = figure{name: "time per operation", unit: "ms", of: func(s sample) float64 { return s.perOp(millis(s.elapsed)) }}
	cpuPerOp   = figure{name: "client CPU per operation", unit: "µs", of: func(s sample) float64 { return s.perOp(float64(s.cpu)) / 1e3 }}
	allocs     = figure{name: "allocations per operation", of: func(s sample) float64 { return s.perOp(float64(s.mallocs)) }}
	allocBytes = figure{name: "bytes allocated per operation", of: func(s sample) float64 { return s.perOp(float64(s.bytes)) }}
	p50        = latencyMetric("median latency", 0.5)
	p99        = latencyMetric("p99 latency", 0.99)
	p999       = latencyMetric("p99.9 latency", 0.999)
)

func latencyMetric(name string, q float64) figure {
	return figure{name: name, unit: "ms", whole: func(h *histogram.Histogram) float64 { return millis(h.Quantile(q)) }}
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (s sample) perOp(v float64) float64 { return v / float64(max(s.ops, 1)) }

func (s sample) throughput() float64 { return float64(s.ops) / s.elapsed.Seconds() }

// values are the rounds' figures.
func (s *series) values(m figure) []float64 {
	values := make([]float64, len(s.samples))
	for i, sample := range s.samples {
		values[i] = m.of(sample)
	}
	return values
}

// spread is a figure over all rounds; one that has none by round has no spread.
func (s *series) spread(m figure) spread {
	if m.of == nil {
		v := m.whole(s.latency)
		return spread{v, v, v}
	}
	return spreadOf(s.values(m))
}

// against compares two series round by round, as what disturbs one turn of a round disturbs the next as well.
func (s *series) against(other *series, m figure, compare func(a, b float64) float64) spread {
	mine, theirs := s.values(m), other.values(m)
	values := make([]float64, min(len(mine), len(theirs)))
	for i := range values {
		values[i] = compare(mine[i], theirs[i])
	}
	return spreadOf(values)
}

func ratio(a, b float64) float64      { return a / b }
func difference(a, b float64) float64 { return a - b }
