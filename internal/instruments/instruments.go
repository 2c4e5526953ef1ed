// Package instruments reports spans and metrics to OpenTelemetry, by its conventions for databases as of 1.45.
// What is the same for many spans or measurements is made once and kept. The package knows nothing of the driver.
//
//	instruments.go  Instruments: the metrics of one pool
//	semconv.go      names that Go's package of the conventions hasn't got, or that are our own
//	server.go       Server: what was configured; peer: what was reached
//	target.go       Target: the server with the names and attributes of its statements
//	hosts.go        the metrics of hosts, where there are several
//	operation.go    Operation: one statement under way, from which a span and measurements come
//	provider.go     the tracer: of the provider that the application gave, or sets globally at any time
//	errortype.go    what went wrong: error.type, and a message without values
//	shapes.go       the messages of errors of which something may be shown
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

// Options say where telemetry goes.
type Options struct {
	TracerProvider trace.TracerProvider // nil: the global one, even if it is set later
	MeterProvider  metric.MeterProvider // nil: the global one, even if it is set later
	ParentOnly     bool                 // a statement whose context has no span gets none
	PoolName       string
	Server         Server
}

// PoolState is what each collection of metrics reads from the pool: numbers of this moment, and counts since it was opened.
type PoolState struct {
	Idle, Used     int64            // connections that are idle, and that callers have
	Pending        int64            // callers that wait for a connection
	IdleMin        int64            // pool_min
	IdleMax        int64            // pool_size
	Max            int64            // pool_size + max_overflow; 0: there is no limit
	Timeouts       int64            // waits that ended with pool_timeout or the caller's deadline
	FailedConnects int64            // attempts to connect that failed
	OverflowOpened int64            // connections opened beyond pool_size
	Closed         map[string]int64 // connections closed, by reason
	Unknown        map[string]int64 // COMMITs whose outcome is unknown, by reason
	BegunAgain     map[string]int64 // transactions that InTx has begun again, by the error.type of why
	Leaks          int64            // connections that a caller held longer than leak_detection
	ServerLimit    int64            // connections that the server has room for, of all its clients; 0: not known
	Health         string           // what the last health check has found, one of activity's words; "": not known
	Hosts          []HostState      // what is known of each host, if the pool has several; else none
}

// Instruments are the metrics and spans of one pool. They are safe for concurrent use. Close ends them.
type Instruments struct {
	tracers   tracerSource
	roots     bool                    // a statement whose context has no span gets one, which begins a trace
	poolName  attribute.KeyValue      // db.client.connection.pool.name
	pool      []attribute.KeyValue    // of all metrics of the pool: its name, and those of the server
	duration  metric.Float64Histogram // of statements, in seconds, as the three below
	create    metric.Float64Histogram // of dials
	wait      metric.Float64Histogram // of waits for a connection
	use       metric.Float64Histogram // of the time that a caller has a connection
	rows      metric.Int64Histogram   // returned by statements
	inPool    []metric.RecordOption   // pool as options, made once so that recording doesn't allocate
	callback  metric.Registration     // of the instruments that collections read; nil: none
	catalogue *catalogue
}

// The boundaries of the histograms' buckets, as the conventions advise: seconds and rows.
var (
	durationBuckets = []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10}
	rowBuckets      = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000}
)

// New returns the instruments of a pool. Until Close, each collection of metrics calls state, which must be safe for
// concurrent use and must not wait.
func New(o Options, state func() PoolState) (*Instruments, error) {
	meters := o.MeterProvider
	if meters == nil {
		meters = otel.GetMeterProvider()
	}
	name := semconv.DBClientConnectionPoolName(o.PoolName)
	i := &Instruments{roots: !o.ParentOnly, poolName: name, pool: append(o.Server.attributes(), name)}
	i.inPool = recordOptions(i.pool)
	i.catalogue = i.newCatalogue(o.Server)
	i.tracers.setProvider(o.TracerProvider)
	m := meterOf(meters)
	if err := errors.Join(i.makeHistograms(m), i.observe(m, state)); err != nil {
		return nil, errors.Join(err, i.Close())
	}
	return i, nil
}

// Close ends the calls of the state function. Other methods may still be called. Call it once.
func (i *Instruments) Close() error {
	if i.callback == nil {
		return nil
	}
	return i.callback.Unregister()
}

// makeHistograms makes the instruments that are recorded when something happens.
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

// observe registers the instruments whose values a collection reads from the pool. They cost callers of the pool nothing.
func (i *Instruments) observe(m metric.Meter, state func() PoolState) error {
	o := observed{pool: i.pool}
	if err := o.makeInstruments(m); err != nil {
		return err
	}
	o.makeOptions()
	var err error
	i.callback, err = m.RegisterCallback(func(_ context.Context, to metric.Observer) error {
		o.report(to, state())
		return nil
	}, o.count, o.idleMax, o.idleMin, o.limit, o.pending, o.timeouts, o.failed, o.overflow, o.closed, o.leaks, o.unknown, o.again,
		o.room, o.health, o.hosts.state, o.hosts.role, o.hosts.latency, o.hosts.connections)
	return err
}

// Created records how long a connection took to make.
func (i *Instruments) Created(ctx context.Context, seconds float64) {
	if i.create.Enabled(ctx) {
		i.create.Record(ctx, seconds, i.inPool...)
	}
}

// Waited records how long a caller waited for a connection, 0 if it got one at once. Only a wait has an exemplar, which
// points to the caller's span.
func (i *Instruments) Waited(ctx context.Context, seconds float64) {
	if seconds == 0 {
		ctx = context.Background()
	}
	if i.wait.Enabled(ctx) {
		i.wait.Record(ctx, seconds, i.inPool...)
	}
}

// Used records how long a caller had a connection, when it gives it back.
func (i *Instruments) Used(ctx context.Context, seconds float64) {
	if i.use.Enabled(ctx) {
		i.use.Record(ctx, seconds, i.inPool...)
	}
}
