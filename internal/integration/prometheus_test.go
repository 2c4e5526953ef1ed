package integration

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/docs"
)

// prometheusNames are the metrics as Prometheus users see them, and as internal/docs/telemetry.md lists them, with their
// types. A histogram is three series: _bucket, _sum and _count.
var prometheusNames = []struct{ name, kind string }{
	{"db_client_operation_duration_seconds", "histogram"},
	{"db_client_response_returned_rows", "histogram"},
	{"db_client_connection_count", "gauge"},
	{"db_client_connection_idle_max", "gauge"},
	{"db_client_connection_idle_min", "gauge"},
	{"db_client_connection_limit", "gauge"},
	{"db_client_connection_pending_requests", "gauge"},
	{"db_client_connection_timeouts_total", "counter"},
	{"db_client_connection_create_time_seconds", "histogram"},
	{"db_client_connection_wait_time_seconds", "histogram"},
	{"db_client_connection_use_time_seconds", "histogram"},
	{"pgprod_connection_failures_total", "counter"},
	{"pgprod_connection_overflows_total", "counter"},
	{"pgprod_connection_closed_total", "counter"},
	{"pgprod_connection_leaks_total", "counter"},
	{"pgprod_commit_unknown_total", "counter"},
	{"pgprod_transaction_retries_total", "counter"},
	{"pgprod_server_connection_limit", "gauge"},
	{"pgprod_health_state", "gauge"},
	{"pgprod_host_state", "gauge"},
	{"pgprod_host_role", "gauge"},
	{"pgprod_host_latency_seconds", "gauge"},
	{"pgprod_host_connection_count", "gauge"},
}

// scrape is one page of a registry.
func scrape(t *testing.T, registry *prometheus.Registry) string {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}).ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	return w.Body.String()
}

func TestPrometheusSeesEachMetricByTheNameThatTheReadmeGives(t *testing.T) {
	registry := prometheus.NewRegistry()
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry))
	require.NoError(t, err)
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))
	t.Cleanup(func() { require.NoError(t, meters.Shutdown(context.Background())) })
	s := newScript(t, pgprod.WithMeterProvider(meters))
	s.run(t.Context(), func() {})
	s.several()

	page := scrape(t, registry)
	for _, want := range prometheusNames {
		assert.Contains(t, page, "# TYPE "+want.name+" "+want.kind+"\n")
		series := []string{want.name}
		if want.kind == "histogram" {
			series = []string{want.name + "_bucket", want.name + "_sum", want.name + "_count"}
		}
		for _, one := range series {
			assert.Contains(t, page, "\n"+one+"{", "no series of that name")
		}
	}
	assert.Equal(t, len(prometheusNames)+1, strings.Count(page, "# TYPE "), "there are others than these and target_info")
	for _, label := range []string{`db_client_connection_pool_name="main"`, `db_client_connection_state="used"`,
		`pgprod_reason="overflow"`, `db_query_summary="SELECT items"`, `error_type="23505"`} {
		assert.Contains(t, page, label)
	}
}

// TestAScrapedDurationLeadsToItsTrace looks for the label that the manual gives to Grafana's data source.
func TestAScrapedDurationLeadsToItsTrace(t *testing.T) {
	registry := prometheus.NewRegistry()
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry))
	require.NoError(t, err)
	meters, traces := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter)), sdktrace.NewTracerProvider()
	t.Cleanup(func() {
		assert.NoError(t, errors.Join(meters.Shutdown(context.Background()), traces.Shutdown(context.Background())))
	})
	db := newScript(t, pgprod.WithMeterProvider(meters), pgprod.WithTracerProvider(traces)).open()
	ctx, caller := traces.Tracer("caller").Start(t.Context(), "caller")
	_, err = db.ExecContext(ctx, "SELECT 1")
	require.NoError(t, err)
	caller.End()

	families, err := registry.Gather()
	require.NoError(t, err)
	found := map[string]bool{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			for _, b := range m.GetHistogram().GetBucket() {
				for _, l := range b.GetExemplar().GetLabel() {
					found[family.GetName()] = found[family.GetName()] ||
						l.GetName() == "trace_id" && l.GetValue() == caller.SpanContext().TraceID().String()
				}
			}
		}
	}
	for _, name := range []string{"operation_duration", "connection_create_time", "connection_wait_time"} {
		assert.True(t, found["db_client_"+name+"_seconds"], "%s: %v", name, found)
	}
}

func TestTheManualListsTheNamesForPrometheus(t *testing.T) {
	page, err := docs.Read("internal/docs/telemetry.md")
	require.NoError(t, err)
	for _, want := range prometheusNames {
		assert.Contains(t, page, "`"+want.name+"`")
	}
}
