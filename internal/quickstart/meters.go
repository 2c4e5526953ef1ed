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

// meters is an OpenTelemetry MeterProvider that collects two of pgprod's metrics, more exactly than in the metrics' buckets:
// how long callers waited for a connection, and how long they had it.
type meters struct {
	noop.MeterProvider
	waits *histogram.Histogram // how long callers waited, without those that got a connection at once
	lent  atomic.Int64         // how often a connection was lent and given back
	held  atomic.Int64         // the nanoseconds in between, in all
}

var _ metric.MeterProvider = (*meters)(nil)

// Meter implements metric.MeterProvider.
func (m *meters) Meter(string, ...metric.MeterOption) metric.Meter { return meter{of: m} }

// meter is the Meter of meters.
type meter struct {
	noop.Meter
	of *meters
}

var _ metric.Meter = meter{}

// Float64Histogram implements metric.Meter. It returns a listener for the two metrics; others record nothing.
func (m meter) Float64Histogram(name string, opts ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	switch name {
	case dbconv.ClientConnectionWaitTime{}.Name():
		return listener{record: m.of.waited}, nil
	case dbconv.ClientConnectionUseTime{}.Name():
		return listener{record: m.of.used}, nil
	}
	return m.Meter.Float64Histogram(name, opts...)
}

// waited records the wait of a caller; 0: it got a connection at once.
func (m *meters) waited(d time.Duration) {
	if d > 0 {
		m.waits.Record(d)
	}
}

// used records how long a caller had a connection.
func (m *meters) used(d time.Duration) {
	m.lent.Add(1)
	m.held.Add(int64(d))
}

// listener is a histogram that passes each measurement, in seconds, to a function.
type listener struct {
	noop.Float64Histogram
	record func(time.Duration)
}

var _ metric.Float64Histogram = listener{}

// Enabled implements metric.Float64Histogram.
func (l listener) Enabled(context.Context) bool { return true }

// Record implements metric.Float64Histogram.
func (l listener) Record(_ context.Context, seconds float64, _ ...metric.RecordOption) {
	l.record(time.Duration(seconds * float64(time.Second)))
}
