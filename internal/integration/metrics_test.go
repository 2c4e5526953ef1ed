package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/dbconv"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/instruments"
)

// convention is how the generated code describes an instrument.
type convention interface {
	Name() string
	Unit() string
	Description() string
}

// own is an instrument beyond the conventions.
type own struct{ name, unit, description string }

func (o own) Name() string        { return o.name }
func (o own) Unit() string        { return o.unit }
func (o own) Description() string { return o.description }

var (
	counter   = shape{kind: pmetric.MetricTypeSum, value: pmetric.NumberDataPointValueTypeInt, monotonic: true}
	gauge     = shape{kind: pmetric.MetricTypeGauge, value: pmetric.NumberDataPointValueTypeInt}
	seconds   = shape{kind: pmetric.MetricTypeGauge, value: pmetric.NumberDataPointValueTypeDouble}
	upDown    = shape{kind: pmetric.MetricTypeSum, value: pmetric.NumberDataPointValueTypeInt}
	durations = shape{kind: pmetric.MetricTypeHistogram, buckets: "[0.001 0.005 0.01 0.05 0.1 0.5 1 5 10]"}
	rowCounts = shape{kind: pmetric.MetricTypeHistogram, buckets: "[1 2 5 10 20 50 100 200 500 1000 2000 5000 10000]"}
)

// shape is an instrument as it arrives.
type shape struct {
	kind      pmetric.MetricType
	value     pmetric.NumberDataPointValueType // of a sum
	monotonic bool
	buckets   string
}

// limit is of the conventions since 1.45, and not in their Go package.
var limit = own{"db.client.connection.limit", "{connection}", "The maximum number of open connections allowed."}

// metrics are all there are, by SEMCONV.
var metrics = []struct {
	convention
	shape
}{
	{dbconv.ClientOperationDuration{}, durations},
	{dbconv.ClientResponseReturnedRows{}, rowCounts},
	{dbconv.ClientConnectionCount{}, upDown},
	{dbconv.ClientConnectionIdleMax{}, upDown},
	{dbconv.ClientConnectionIdleMin{}, upDown},
	{limit, upDown},
	{dbconv.ClientConnectionPendingRequests{}, upDown},
	{dbconv.ClientConnectionTimeouts{}, counter},
	{dbconv.ClientConnectionCreateTime{}, durations},
	{dbconv.ClientConnectionWaitTime{}, durations},
	{dbconv.ClientConnectionUseTime{}, durations},
	{own{"pgprod.connection.failures", "{attempt}", "Attempts to connect that failed."}, counter},
	{own{"pgprod.connection.overflows", "{connection}", "Connections opened beyond pool_size."}, counter},
	{own{"pgprod.connection.closed", "{connection}", "Connections closed, by reason."}, counter},
	{own{"pgprod.connection.leaks", "{checkout}", "Connections that a caller held longer than leak_detection."}, counter},
	{own{"pgprod.commit.unknown", "{commit}", "Commits whose outcome is unknown, by reason."}, counter},
	{own{"pgprod.transaction.retries", "{transaction}",
		"Transactions that InTx has begun again, by what the attempt before has failed with."}, counter},
	{own{"pgprod.server.connection.limit", "{connection}",
		"Connections that the server has room for, of all its clients together."}, gauge},
	{own{"pgprod.health.state", "{state}", "1 for the state that the last health check has found, 0 for the others."}, gauge},
	{own{"pgprod.host.state", "{state}", "1 for the state that a host is in, 0 for the others."}, gauge},
	{own{"pgprod.host.role", "{role}", "1 for the role that a host has last said it has, 0 for the others."}, gauge},
	{own{"pgprod.host.latency", "s", "How long the last answer of a host that is up has taken."}, seconds},
	{own{"pgprod.host.connection.count", "{connection}", "Connections of the pool to a host."}, upDown},
}

// A snapshot is one export of the driver's metrics.
type snapshot struct {
	metrics map[string]pmetric.Metric
	values  map[string]int64 // of numbers, and the counts of histograms, by name and attributes
}

// key is a data point's name. fmt prints a map in the order of its keys.
func key(name string, a attrs) string { return fmt.Sprint(name, map[string]any(a)) }

// snapshots are the exports that the collector has got.
func (c *collector) snapshots(t *testing.T) (all []snapshot) {
	t.Helper()
	for _, export := range c.metrics.AllMetrics() {
		s := snapshot{map[string]pmetric.Metric{}, map[string]int64{}}
		for _, resource := range export.ResourceMetrics().All() {
			for _, in := range resource.ScopeMetrics().All() {
				require.Equal(t, scope, in.Scope().Name())
				assert.Equal(t, instruments.SchemaURL, in.SchemaUrl())
				assert.Equal(t, instruments.Version, in.Scope().Version())
				for _, m := range in.Metrics().All() {
					assert.NotContains(t, s.metrics, m.Name())
					s.add(m)
				}
			}
		}
		all = append(all, s)
	}
	return all
}

func (s *snapshot) add(m pmetric.Metric) {
	s.metrics[m.Name()] = m
	if m.Type() == pmetric.MetricTypeHistogram {
		for _, p := range m.Histogram().DataPoints().All() {
			s.values[key(m.Name(), p.Attributes().AsRaw())] = int64(p.Count())
		}
		return
	}
	numbers := m.Sum().DataPoints
	if m.Type() == pmetric.MetricTypeGauge {
		numbers = m.Gauge().DataPoints
	}
	for _, p := range numbers().All() {
		s.values[key(m.Name(), p.Attributes().AsRaw())] = p.IntValue()
	}
}

// shapes are those of a metric's data points, each once.
func shapes(m pmetric.Metric) map[shape]bool {
	found := map[shape]bool{}
	switch m.Type() {
	case pmetric.MetricTypeHistogram:
		for _, p := range m.Histogram().DataPoints().All() {
			found[shape{kind: m.Type(), buckets: fmt.Sprint(p.ExplicitBounds().AsRaw())}] = true
		}
	case pmetric.MetricTypeSum:
		for _, p := range m.Sum().DataPoints().All() {
			found[shape{kind: m.Type(), value: p.ValueType(), monotonic: m.Sum().IsMonotonic()}] = true
		}
	case pmetric.MetricTypeGauge:
		for _, p := range m.Gauge().DataPoints().All() {
			found[shape{kind: m.Type(), value: p.ValueType()}] = true
		}
	default:
		found[shape{kind: m.Type()}] = true
	}
	return found
}

// values are what the pool's numbers must be: while full says so, and at the end.
func (s *script) values(full bool) map[string]int64 {
	want := map[string]int64{}
	set := func(c convention, pool string, value int64, more ...string) {
		a := attrsOf(append(s.common(), semconv.DBClientConnectionPoolName(pool))...)
		for i := 0; i < len(more); i += 2 {
			a[more[i]] = more[i+1]
		}
		want[key(c.Name(), a)] = value
	}
	state := string(semconv.DBClientConnectionStateKey)
	count := func(pool string, idle, used int64) {
		set(dbconv.ClientConnectionCount{}, pool, idle, state, string(dbconv.ClientConnectionStateIdle))
		set(dbconv.ClientConnectionCount{}, pool, used, state, string(dbconv.ClientConnectionStateUsed))
	}
	set(limit, mainPool, 2)
	set(dbconv.ClientConnectionIdleMax{}, mainPool, 1)
	set(dbconv.ClientConnectionIdleMin{}, mainPool, 0)
	set(dbconv.ClientConnectionTimeouts{}, mainPool, 0)
	set(dbconv.ClientConnectionCreateTime{}, mainPool, 2)
	set(own{name: "pgprod.connection.failures"}, mainPool, 0)
	set(own{name: "pgprod.connection.overflows"}, mainPool, 1)
	set(own{name: "pgprod.connection.leaks"}, mainPool, 0)
	set(own{name: "pgprod.commit.unknown"}, mainPool, 0, "pgprod.reason", "reply_lost")
	set(own{name: "pgprod.transaction.retries"}, mainPool, 1, "error.type", "40P01")
	set(own{name: "pgprod.transaction.retries"}, mainPool, 0, "error.type", "40001")
	if full {
		count(mainPool, 0, 2)
		set(dbconv.ClientConnectionPendingRequests{}, mainPool, 1)
		return want
	}
	count(mainPool, 1, 0)
	count(smallPool, 1, 0)
	set(own{name: "pgprod.health.state"}, askedPool, 1, "pgprod.state", "healthy")
	set(own{name: "pgprod.health.state"}, askedPool, 0, "pgprod.state", "unhealthy")
	set(dbconv.ClientConnectionPendingRequests{}, mainPool, 0)
	set(dbconv.ClientConnectionTimeouts{}, smallPool, int64(s.timeouts))
	set(own{name: "pgprod.connection.closed"}, mainPool, 1, "pgprod.reason", "overflow")
	const borrows = 13 // query, exec, prepare, twice that, transaction, two of InTx, failure, Raw, and three in the queue
	set(dbconv.ClientConnectionWaitTime{}, mainPool, borrows)
	set(dbconv.ClientConnectionUseTime{}, mainPool, borrows)
	return want
}

// operations are the counts of db.client.operation.duration: a data point for each set of attributes that spans have,
// their texts, sizes and peers apart. Dials and prepares are no operations.
func operations(spans []span) map[string]int64 {
	want := map[string]int64{}
	for _, s := range spans {
		within := s.name == "CONNECT" || strings.HasPrefix(s.name, "PREPARE ")
		if s.kind == ptrace.SpanKindClient && !within {
			a := s.attrs.but(semconv.DBQueryTextKey, semconv.DBOperationBatchSizeKey, semconv.NetworkPeerAddressKey,
				semconv.NetworkPeerPortKey, beginsTransaction, attempt, retryReason)
			want[key(dbconv.ClientOperationDuration{}.Name(), a)]++
		}
	}
	return want
}

// assertHas checks that a snapshot has these values, among others.
func (s *snapshot) assertHas(t *testing.T, want map[string]int64) {
	t.Helper()
	for k, v := range want {
		if got, ok := s.values[k]; assert.True(t, ok, "no %s", k) {
			assert.Equal(t, v, got, k)
		}
	}
}

func TestACollectorGetsEachMetricWithItsAttributes(t *testing.T) {
	c := startCollector(t)
	traces, meters := c.tracerProvider(t), c.meterProvider(t)
	s := newScript(t, pgprod.WithTracerProvider(traces), pgprod.WithMeterProvider(meters))
	ctx, caller := traces.Tracer("caller").Start(t.Context(), "caller")
	flush := func() { require.NoError(t, meters.ForceFlush(context.Background())) }
	s.run(ctx, flush)
	caller.End()
	s.several()
	flush()

	all := c.snapshots(t)
	require.Len(t, all, 2)
	all[0].assertHas(t, s.values(true))
	last := all[1]
	last.assertHas(t, s.values(false))

	for _, want := range metrics {
		m, ok := last.metrics[want.Name()]
		if !assert.True(t, ok, "no %s", want.Name()) {
			continue
		}
		assert.Equal(t, want.Unit(), m.Unit(), want.Name())
		assert.Equal(t, want.Description(), m.Description(), want.Name())
		assert.Equal(t, map[shape]bool{want.shape: true}, shapes(m), want.Name())
	}
	assert.Len(t, last.metrics, len(metrics), "there are others")

	durations := snapshot{map[string]pmetric.Metric{}, map[string]int64{}}
	durations.add(last.metrics[dbconv.ClientOperationDuration{}.Name()])
	assert.Equal(t, operations(s.spans()), durations.values, "one duration for each span, with its attributes")

	rows := last.metrics[dbconv.ClientResponseReturnedRows{}.Name()].Histogram().DataPoints()
	require.Equal(t, 1, rows.Len())
	assert.InDelta(t, 3, rows.At(0).Sum(), 0)
	assert.Equal(t, key("", attrsOf(append(s.common(), semconv.DBQuerySummary("SELECT items"))...)), key("", rows.At(0).Attributes().AsRaw()))

	for _, p := range last.metrics[dbconv.ClientOperationDuration{}.Name()].Histogram().DataPoints().All() {
		assert.NotZero(t, p.Exemplars().Len(), "%v leads to no span", p.Attributes().AsRaw())
	}
}
