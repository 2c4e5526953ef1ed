package instruments

import (
	"errors"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/dbconv"

	"github.com/pgprod/pgprod/internal/activity"
)

// observed are the instruments whose values a collection reads from the pool.
type observed struct {
	pool []attribute.KeyValue // what all of them have

	count, idleMax, idleMin, limit, pending metric.Int64ObservableUpDownCounter
	timeouts, failed, overflow, leaks       metric.Int64ObservableCounter
	closed, unknown, again                  metric.Int64ObservableCounter // by reason
	room, health                            metric.Int64ObservableGauge
	hosts                                   observedHosts

	all, idle, used metric.MeasurementOption // the attributes pool, and those with a state of connections
}

// makeInstruments makes them.
func (o *observed) makeInstruments(m metric.Meter) error {
	return errors.Join(o.makeConventional(m), o.makeOwn(m))
}

// makeConventional makes those that the conventions have.
func (o *observed) makeConventional(m metric.Meter) error {
	count, e1 := dbconv.NewClientConnectionCountObservable(m)
	idleMax, e2 := dbconv.NewClientConnectionIdleMaxObservable(m)
	idleMin, e3 := dbconv.NewClientConnectionIdleMinObservable(m)
	pending, e4 := dbconv.NewClientConnectionPendingRequestsObservable(m)
	timeouts, e5 := dbconv.NewClientConnectionTimeoutsObservable(m)
	limit, e6 := m.Int64ObservableUpDownCounter(connectionLimit.name,
		metric.WithUnit(connectionLimit.unit), metric.WithDescription(connectionLimit.description))
	o.count, o.idleMax, o.idleMin, o.limit = count.Inst(), idleMax.Inst(), idleMin.Inst(), limit
	o.pending, o.timeouts = pending.Inst(), timeouts.Inst()
	return errors.Join(e1, e2, e3, e4, e5, e6)
}

// makeOwn makes those beyond the conventions.
func (o *observed) makeOwn(m metric.Meter) error {
	var all []error
	for _, own := range []struct {
		to                      *metric.Int64ObservableCounter
		name, unit, description string
	}{
		{&o.failed, connectionFailures, "{attempt}", "Attempts to connect that failed."},
		{&o.overflow, connectionOverflows, "{connection}", "Connections opened beyond pool_size."},
		{&o.closed, connectionsClosed, "{connection}", "Connections closed, by reason."},
		{&o.leaks, connectionLeaks, "{checkout}", "Connections that a caller held longer than leak_detection."},
		{&o.unknown, commitsUnknown, "{commit}", "Commits whose outcome is unknown, by reason."},
		{&o.again, transactionRetries, "{transaction}",
			"Transactions that InTx has begun again, by what the attempt before has failed with."},
	} {
		counter, err := m.Int64ObservableCounter(own.name, metric.WithUnit(own.unit), metric.WithDescription(own.description))
		*own.to, all = counter, append(all, err)
	}
	return errors.Join(append(all, o.makeGauges(m))...)
}

// makeGauges makes those of them that say how something is.
func (o *observed) makeGauges(m metric.Meter) error {
	var e1, e2 error
	o.room, e1 = m.Int64ObservableGauge(serverLimit, metric.WithUnit("{connection}"),
		metric.WithDescription("Connections that the server has room for, of all its clients together."))
	o.health, e2 = m.Int64ObservableGauge(healthState, metric.WithUnit("{state}"),
		metric.WithDescription("1 for the state that the last health check has found, 0 for the others."))
	return errors.Join(e1, e2, o.hosts.makeInstruments(m))
}

// makeOptions makes the options that are the same for each collection.
func (o *observed) makeOptions() {
	o.all = withAttributes(o.pool)
	o.idle, o.used = o.with(semconv.DBClientConnectionStateIdle), o.with(semconv.DBClientConnectionStateUsed)
}

// with returns the option for the pool's attributes and others.
func (o *observed) with(more ...attribute.KeyValue) metric.MeasurementOption {
	return withAttributes(append(slices.Clip(o.pool), more...))
}

// withAttributes returns the option for a measurement with these attributes.
func withAttributes(attrs []attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(attrs...))
}

// report tells a collection the pool's numbers.
func (o *observed) report(to metric.Observer, s PoolState) {
	to.ObserveInt64(o.count, s.Idle, o.idle)
	to.ObserveInt64(o.count, s.Used, o.used)
	to.ObserveInt64(o.idleMax, s.IdleMax, o.all)
	to.ObserveInt64(o.idleMin, s.IdleMin, o.all)
	if s.Max > 0 {
		to.ObserveInt64(o.limit, s.Max, o.all)
	}
	to.ObserveInt64(o.pending, s.Pending, o.all)
	to.ObserveInt64(o.timeouts, s.Timeouts, o.all)
	to.ObserveInt64(o.failed, s.FailedConnects, o.all)
	to.ObserveInt64(o.overflow, s.OverflowOpened, o.all)
	to.ObserveInt64(o.leaks, s.Leaks, o.all)
	if s.ServerLimit > 0 {
		to.ObserveInt64(o.room, s.ServerLimit, o.all)
	}
	if s.Health != "" {
		o.reportHealth(to, s.Health)
	}
	o.reportHosts(to, s.Hosts)
	o.reportBy(reasonKey, to, o.unknown, s.Unknown)
	o.reportBy(semconv.ErrorTypeKey, to, o.again, s.BegunAgain)
	o.reportBy(reasonKey, to, o.closed, s.Closed)
}

// reportHealth tells a collection which of the states the pool is in.
func (o *observed) reportHealth(to metric.Observer, is string) {
	for _, state := range []string{activity.Healthy, activity.Degraded, activity.Unhealthy} {
		to.ObserveInt64(o.health, oneIf(state == is), o.with(stateKey.String(state)))
	}
}

// oneIf is 1 for true, else 0.
func oneIf(is bool) int64 {
	if is {
		return 1
	}
	return 0
}

// reportBy tells a collection a counter's numbers by the values of an attribute.
func (o *observed) reportBy(key attribute.Key, to metric.Observer, counter metric.Int64ObservableCounter, numbers map[string]int64) {
	for value, n := range numbers {
		to.ObserveInt64(counter, n, o.with(key.String(value)))
	}
}
