package main

import (
	"context"
	"math"
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
