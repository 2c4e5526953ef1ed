package main

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
)

func TestQuartilesInterpolate(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   spread
	}{
		{[]float64{7}, spread{7, 7, 7}},
		{[]float64{4, 1, 3, 2}, spread{1.75, 2.5, 3.25}},
		{[]float64{5, 1, 2, 4, 3}, spread{2, 3, 4}},
	} {
		before := slices.Clone(c.values)
		if got := spreadOf(c.values); got != c.want {
			t.Errorf("%v: got %v, want %v", c.values, got, c.want)
		}
		if !slices.Equal(before, c.values) {
			t.Errorf("the values were changed to %v", c.values)
		}
	}
	if !math.IsNaN(spreadOf(nil).median) {
		t.Error("no values have a median")
	}
}

func TestAHistogramIsExactToAPercent(t *testing.T) {
	var h, sum histogram
	var all []time.Duration
	for range 10_000 {
		d := time.Duration(math.Exp(rand.Float64() * 25)) // 1 ns to a minute
		all = append(all, d)
		h.add(d)
	}
	sum.take(&h)
	if h.total != 0 || sum.total != 10_000 {
		t.Fatalf("%d are left, %d were taken", h.total, sum.total)
	}
	slices.Sort(all)
	for _, q := range []float64{0.001, 0.25, 0.5, 0.99, 0.999, 1} {
		want := all[int(math.Ceil(q*10_000))-1]
		got := sum.quantile(q)
		if diff := math.Abs(float64(got - want)); diff > 0.01*float64(want) {
			t.Errorf("q %v: got %v, want %v", q, got, want)
		}
	}
	sum.add(math.MaxInt64) // fits
	sum.add(-1)            // a clock that went back
}

func TestSeriesAreComparedRoundByRound(t *testing.T) {
	a, b := &series{}, &series{}
	for _, cpu := range []time.Duration{100, 200, 300} { // a machine that gets slower
		a.samples = append(a.samples, sample{ops: 1, cpu: 2 * cpu * time.Microsecond})
		b.samples = append(b.samples, sample{ops: 1, cpu: cpu * time.Microsecond})
	}
	if got := a.against(b, cpuPerOp, ratio); got != (spread{2, 2, 2}) {
		t.Errorf("ratio %v", got)
	}
	if got := a.against(b, cpuPerOp, difference); got != (spread{150, 200, 250}) {
		t.Errorf("difference %v", got)
	}
}

// TestOneRequestInAHundredIsSampled: not by a draw, so that rounds are alike.
func TestOneRequestInAHundredIsSampled(t *testing.T) {
	for level, want := range map[string]int{noSDK: 0, never: 0, percent: 1, everything: requestsKept} {
		sampled := 0
		for _, ctx := range newTelemetry(level).requests(t.Context()) {
			if isSampled(ctx) {
				sampled++
			}
		}
		if sampled != want {
			t.Errorf("%s: %d of %d are sampled, want %d", level, sampled, requestsKept, want)
		}
	}
}

// isSampled says whether a peer sees a span that records.
func isSampled(ctx context.Context) bool { return trace.SpanFromContext(ctx).IsRecording() }
