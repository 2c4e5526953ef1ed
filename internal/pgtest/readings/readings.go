// Package readings reads, for tests, what an OpenTelemetry reader collects.
package readings

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// Values calls f with each series of the gauges and sums that the reader collects now, and its value.
func Values(t testing.TB, reader metric.Reader, f func(name string, attrs attribute.Set, value float64)) {
	t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &all))
	for _, in := range all.ScopeMetrics {
		for _, m := range in.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Gauge[int64]:
				each(m.Name, data.DataPoints, f)
			case metricdata.Sum[int64]:
				each(m.Name, data.DataPoints, f)
			case metricdata.Gauge[float64]:
				each(m.Name, data.DataPoints, f)
			}
		}
	}
}

// each calls f with the points of one instrument.
func each[N int64 | float64](name string, points []metricdata.DataPoint[N], f func(string, attribute.Set, float64)) {
	for _, p := range points {
		f(name, p.Attributes, float64(p.Value))
	}
}
