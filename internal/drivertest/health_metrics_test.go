package drivertest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// gauges are the values of a gauge by one of its attributes; none if nothing is reported.
func gauges(m metricdata.Metrics, by string) map[string]int64 {
	data, _ := m.Data.(metricdata.Gauge[int64])
	values := map[string]int64{}
	for _, p := range data.DataPoints {
		for _, a := range p.Attributes.ToSlice() {
			if string(a.Key) == by {
				values[a.Value.AsString()] = p.Value
			}
		}
	}
	return values
}

func TestTheStateThatChecksFindIsAMetric(t *testing.T) {
	t.Parallel()
	m, proxy := newMetering(t), faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, oneConn(proxy.DSN(), "pool_timeout", "1m"), pgprod.WithMeterProvider(m.provider))
	states := func() map[string]int64 { return gauges(m.collect(t)["pgprod.health.state"], "pgprod.state") }
	require.NoError(t, db.Ping())
	assert.Empty(t, states(), "nobody has asked")
	become := func(state string) {
		t.Helper()
		want := map[string]int64{"healthy": 0, "degraded": 0, "unhealthy": 0}
		want[state] = 1
		require.Eventually(t, func() bool { // a check's answer may be a second old
			pgprod.Check(t.Context(), db)
			return assert.ObjectsAreEqual(want, states())
		}, patience, 50*time.Millisecond, "it does not become %s", state)
	}
	become("healthy")
	conn := hold(t, db)
	become("degraded")
	require.NoError(t, conn.Close())
	become("healthy")
	require.NoError(t, proxy.Refuse())
	proxy.CloseAll(faultproxy.FIN)
	become("unhealthy")
	require.NoError(t, proxy.Admit())
	become("healthy")
}

func TestTheServersLimitIsAMetricOnceThePreflightIsOver(t *testing.T) {
	t.Parallel()
	m := newMetering(t)
	db := openPool(t, pgtest.NewDatabase(t), pgprod.WithMeterProvider(m.provider), pgprod.WithPreflight(true))
	limits := func() map[string]int64 {
		return gauges(m.collect(t)["pgprod.server.connection.limit"], "db.client.connection.pool.name")
	}
	assert.Empty(t, limits(), "nobody has asked")
	var most, reserved int64
	require.NoError(t, db.QueryRow(`select current_setting('max_connections')::int,
		current_setting('superuser_reserved_connections')::int + coalesce(current_setting('reserved_connections', true)::int, 0)`).
		Scan(&most, &reserved))
	want := map[string]int64{statusOf(t, db).PoolName: most - reserved}
	require.Eventually(t, func() bool { return assert.ObjectsAreEqual(want, limits()) }, patience, 10*time.Millisecond)
}
