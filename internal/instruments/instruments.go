// Package instruments holds what pgprod reports to OpenTelemetry: instruments and attribute sets, made once, by the
// stable database conventions (semconv v1.43.0). It knows nothing of the driver.
//
//	instruments.go  one pool's instruments, and what a collection reads from the pool
//	target.go       the statements of one server: names and span options, kept by text, record options by summary
//	operation.go    one statement under way
//	provider.go     the tracer, now or once the application has set a provider
//	errortype.go    what went wrong, in few words
package instruments

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/dbconv"
)

// Scope is the instrumentation scope.
const Scope = "github.com/pgprod/pgprod"

// Options choose where telemetry goes.
type Options struct {
	TracerProvider trace.TracerProvider // nil: the global one, whenever it is set
	MeterProvider  metric.MeterProvider // nil: the global one, whenever it is set
	ParentOnly     bool                 // no span for what has no parent
	PoolName       string
}

// PoolState is what a collection reads: the gauges of this moment, and counters since the pool was opened.
type PoolState struct {
	Idle, Used, Pending int64
	IdleMax, Max        int64 // Max is 0 where there is no limit
	Timeouts            int64
	FailedConnects      int64
	OverflowOpened      int64
	Closed              map[string]int64 // by reason
	Leaks               int64            // checkouts held beyond leak_detection
}

// Instruments are one pool's. They are safe for concurrent use.
type Instruments struct {
	tracers  provider
	orphans  bool
	poolName attribute.KeyValue
	pool     metric.MeasurementOption // poolName
	duration metric.Float64Histogram
	rows     metric.Int64Histogram
	create   metric.Float64Histogram
	wait     metric.Float64Histogram
	use      metric.Float64Histogram
	inPool   []metric.RecordOption // pool, kept so that a record allocates nothing
	callback metric.Registration
	targets  targets
}

var (
	durationBuckets = []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10}
	rowBuckets      = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000}
)

// New makes a pool's instruments. state is called at each collection until Close.
func New(o Options, state func() PoolState) (*Instruments, error) {
	meters := o.MeterProvider
	if meters == nil {
		meters = otel.GetMeterProvider()
	}
	m := meters.Meter(Scope, metric.WithSchemaURL(semconv.SchemaURL))
	name := metric.WithAttributeSet(attribute.NewSet(semconv.DBClientConnectionPoolName(o.PoolName)))
	i := &Instruments{
		orphans:  !o.ParentOnly,
		poolName: semconv.DBClientConnectionPoolName(o.PoolName),
		pool:     name,
		inPool:   []metric.RecordOption{name},
	}
	i.tracers.use(o.TracerProvider)
	if err := errors.Join(i.makeHistograms(m), i.observe(m, o.PoolName, state)); err != nil {
		return nil, errors.Join(err, i.Close())
	}
	return i, nil
}

// Close unregisters from the meter.
func (i *Instruments) Close() error {
	if i.callback == nil {
		return nil
	}
	return i.callback.Unregister()
}

func (i *Instruments) makeHistograms(m metric.Meter) error {
	buckets := metric.WithExplicitBucketBoundaries(durationBuckets...)
	duration, e1 := dbconv.NewClientOperationDuration(m, buckets)
	rows, e2 := dbconv.NewClientResponseReturnedRows(m, metric.WithExplicitBucketBoundaries(rowBuckets...))
	create, e3 := dbconv.NewClientConnectionCreateTime(m, buckets)
	wait, e4 := dbconv.NewClientConnectionWaitTime(m, buckets)
	use, e5 := dbconv.NewClientConnectionUseTime(m, buckets)
	i.duration, i.rows = duration.Inst(), rows.Inst()
	i.create, i.wait, i.use = create.Inst(), wait.Inst(), use.Inst()
	return errors.Join(e1, e2, e3, e4, e5)
}

// observe registers what is read from the pool at each collection: those instruments cost the pool's users nothing.
func (i *Instruments) observe(m metric.Meter, pool string, state func() PoolState) error {
	count, e1 := dbconv.NewClientConnectionCountObservable(m)
	idleMax, e2 := dbconv.NewClientConnectionIdleMaxObservable(m)
	idleMin, e3 := dbconv.NewClientConnectionIdleMinObservable(m)
	most, e4 := dbconv.NewClientConnectionMaxObservable(m)
	pending, e5 := dbconv.NewClientConnectionPendingRequestsObservable(m)
	timeouts, e6 := dbconv.NewClientConnectionTimeoutsObservable(m)
	failed, e7 := m.Int64ObservableCounter("pgprod.connection.failures", metric.WithUnit("{attempt}"),
		metric.WithDescription("Attempts to connect that failed."))
	overflow, e8 := m.Int64ObservableCounter("pgprod.connection.overflows", metric.WithUnit("{connection}"),
		metric.WithDescription("Connections opened beyond pool_size."))
	closed, e9 := m.Int64ObservableCounter("pgprod.connection.closed", metric.WithUnit("{connection}"),
		metric.WithDescription("Connections closed, by reason."))
	leaks, e10 := m.Int64ObservableCounter("pgprod.connection.leaks", metric.WithUnit("{checkout}"),
		metric.WithDescription("Connections that a caller held longer than leak_detection."))
	if err := errors.Join(e1, e2, e3, e4, e5, e6, e7, e8, e9, e10); err != nil {
		return err
	}
	idle, used := i.inState(pool, semconv.DBClientConnectionStateIdle), i.inState(pool, semconv.DBClientConnectionStateUsed)
	var err error
	i.callback, err = m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s := state()
		o.ObserveInt64(count.Inst(), s.Idle, idle)
		o.ObserveInt64(count.Inst(), s.Used, used)
		o.ObserveInt64(idleMax.Inst(), s.IdleMax, i.pool)
		o.ObserveInt64(idleMin.Inst(), 0, i.pool)
		if s.Max > 0 {
			o.ObserveInt64(most.Inst(), s.Max, i.pool)
		}
		o.ObserveInt64(pending.Inst(), s.Pending, i.pool)
		o.ObserveInt64(timeouts.Inst(), s.Timeouts, i.pool)
		o.ObserveInt64(failed, s.FailedConnects, i.pool)
		o.ObserveInt64(overflow, s.OverflowOpened, i.pool)
		o.ObserveInt64(leaks, s.Leaks, i.pool)
		for reason, n := range s.Closed {
			o.ObserveInt64(closed, n, metric.WithAttributes(
				semconv.DBClientConnectionPoolName(pool), attribute.String("pgprod.reason", reason)))
		}
		return nil
	}, count.Inst(), idleMax.Inst(), idleMin.Inst(), most.Inst(), pending.Inst(), timeouts.Inst(), failed, overflow, closed, leaks)
	return err
}

func (i *Instruments) inState(pool string, state attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(semconv.DBClientConnectionPoolName(pool), state))
}

// Created records how long a connection took to make.
func (i *Instruments) Created(ctx context.Context, seconds float64) {
	if i.create.Enabled(ctx) {
		i.create.Record(ctx, seconds, i.inPool...)
	}
}

// Waited records how long a caller waited for a connection. Only a wait points to the caller's span.
func (i *Instruments) Waited(ctx context.Context, seconds float64) {
	if seconds == 0 {
		ctx = context.Background()
	}
	if i.wait.Enabled(ctx) {
		i.wait.Record(ctx, seconds, i.inPool...)
	}
}

// Used records how long a caller had a connection.
func (i *Instruments) Used(ctx context.Context, seconds float64) {
	if i.use.Enabled(ctx) {
		i.use.Record(ctx, seconds, i.inPool...)
	}
}
