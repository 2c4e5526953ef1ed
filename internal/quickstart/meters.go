package main

import (
	"context"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/semconv/v1.43.0/dbconv"

	"github.com/pgprod/pgprod/internal/histogram"
)

// meters is an OpenTelemetry MeterProvider that listens to two of pgprod's metrics, exactly rather than in buckets of
// milliseconds: how long callers waited for a connection, and how long they had it.
type meters struct {
	noop.MeterProvider
	waits *histogram.Histogram // of the callers that had to wait
	lent  atomic.Int64         // connections that were lent, and given back
	held  atomic.Int64         // nanoseconds for which they were
}

var _ metric.MeterProvider = (*meters)(nil)

// Meter returns what pgprod makes its instruments with.
func (m *meters) Meter(string, ...metric.MeterOption) metric.Meter { return meter{of: m} }

type meter struct {
	noop.Meter
	of *meters
}

var _ metric.Meter = meter{}

// Float64Histogram hands out a listener for the two metrics, and nothing for the others.
func (m meter) Float64Histogram(name string, opts ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	switch name {
	case dbconv.ClientConnectionWaitTime{}.Name():
		return listener{record: m.of.waited}, nil
	case dbconv.ClientConnectionUseTime{}.Name():
		return listener{record: m.of.used}, nil
	}
	return m.Meter.Float64Histogram(name, opts...)
}

func (m *meters) waited(d time.Duration) {
	if d > 0 {
		m.waits.Record(d)
	}
}

func (m *meters) used(d time.Duration) {
	m.lent.Add(1)
	m.held.Add(int64(d))
}

// listener is a histogram of seconds.
type listener struct {
	noop.Float64Histogram
	record func(time.Duration)
}

var _ metric.Float64Histogram = listener{}

// Enabled asks pgprod to measure.
func (l listener) Enabled(context.Context) bool { return true }

// Record is called by pgprod.
func (l listener) Record(_ context.Context, seconds float64, _ ...metric.RecordOption) {
	l.record(time.Duration(seconds * float64(time.Second)))
}
