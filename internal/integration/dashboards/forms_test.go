package dashboards

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// The forms in which the histograms of one load come to Prometheus. Each program reports in all of them at once, so that
// they tell of the same statements.
const (
	classic     = "classic"              // a series for each bucket, as OpenTelemetry's exporter serves them
	custom      = "custom buckets"       // the same page with convert_classic_histograms_to_nhcb
	native      = "native"               // exponential ones, as the exporter serves them in Prometheus's binary format
	exponential = "exponential by OTLP"  // the same, sent to Prometheus's own receiver
	both        = "classic and native"   // of each program, as with always_scrape_classic_histograms
	mixed       = "one by one to native" // some programs have classic ones, others native ones
)

var forms = []string{classic, custom, native, exponential, both, mixed}

// What Prometheus 3 asks for: names in UTF-8 would come as they are.
const (
	acceptText = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6," +
		"application/openmetrics-text;version=0.0.1;q=0.5," +
		"text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
	acceptBinary = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;" +
		"escaping=allow-utf-8;q=0.7," + acceptText
)

// exponentially is the aggregation of readers that want exponential histograms.
func exponentially(kind sdkmetric.InstrumentKind) sdkmetric.Aggregation {
	if kind == sdkmetric.InstrumentKindHistogram {
		return sdkmetric.AggregationBase2ExponentialHistogram{MaxSize: 160, MaxScale: 20}
	}
	return sdkmetric.DefaultAggregationSelector(kind)
}

// reports are the ways out of a program's metrics.
type reports struct {
	classic, native *prometheus.Registry
	meters          *sdkmetric.MeterProvider
}

func newReports(t *testing.T, instance, receiver string) *reports {
	t.Helper()
	r := &reports{classic: prometheus.NewRegistry(), native: prometheus.NewRegistry()}
	text, err := otelprometheus.New(otelprometheus.WithRegisterer(r.classic))
	require.NoError(t, err)
	binary, err := otelprometheus.New(otelprometheus.WithRegisterer(r.native),
		otelprometheus.WithAggregationSelector(exponentially))
	require.NoError(t, err)
	sent, err := otlpmetrichttp.New(t.Context(), otlpmetrichttp.WithEndpointURL(receiver),
		otlpmetrichttp.WithAggregationSelector(exponentially))
	require.NoError(t, err)
	r.meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(text), sdkmetric.WithReader(binary),
		sdkmetric.WithReader(sdkmetric.NewPeriodicReader(sent, sdkmetric.WithInterval(time.Hour))), // it is flushed
		sdkmetric.WithResource(resource.NewSchemaless(
			semconv.ServiceName("test"), attribute.String("service.instance.id", instance))))
	return r
}

// A recorder keeps what the programs report, in each form.
type recorder struct {
	in       map[string]*history
	receiver *receiver
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	r := &recorder{in: map[string]*history{}}
	for _, form := range forms {
		r.in[form] = newHistory(t)
	}
	r.receiver = newReceiver(t, r.in[exponential])
	return r
}

// note notes what a program reports at a time.
func (r *recorder) note(t *testing.T, p *program, at time.Time) {
	t.Helper()
	page, contentType := serve(t, p.reports.classic, acceptText)
	r.in[classic].scrape(t, page, contentType, p.name, at, textparse.ParserOptions{})
	r.in[custom].scrape(t, page, contentType, p.name, at, textparse.ParserOptions{ConvertClassicHistogramsToNHCB: true})
	page, contentType = serve(t, p.reports.native, acceptBinary)
	r.in[native].scrape(t, page, contentType, p.name, at, textparse.ParserOptions{})
	r.receiver.at = at.UnixMilli()
	require.NoError(t, p.reports.meters.ForceFlush(context.Background()))
}

// combine makes the forms that others are put together to.
func (r *recorder) combine() {
	all := func(string) bool { return true }
	r.in[both].include(r.in[classic], all)
	r.in[both].include(r.in[native], all)
	moved := func(instance string) bool {
		return slices.IndexFunc(stories, func(s story) bool { return s.name == instance })%2 == 1
	}
	r.in[mixed].include(r.in[classic], func(instance string) bool { return !moved(instance) })
	r.in[mixed].include(r.in[native], moved)
}

// serve is a page of a registry.
func serve(t *testing.T, registry *prometheus.Registry, accept string) (page []byte, contentType string) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", accept)
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}).ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	return w.Body.Bytes(), w.Header().Get("Content-Type")
}

// scrape adds a page, with the labels that Prometheus gives to a target.
func (h *history) scrape(t *testing.T, page []byte, contentType, instance string, at time.Time, o textparse.ParserOptions) {
	t.Helper()
	p, err := textparse.New(page, contentType, nil, o)
	require.NoError(t, err)
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		s := sample{at: at.UnixMilli()}
		switch entry {
		case textparse.EntrySeries:
			_, _, s.value = p.Series()
		case textparse.EntryHistogram:
			_, _, counts, floats := p.Histogram()
			s.histogram = floating(counts, floats)
		default:
			continue
		}
		var l labels.Labels
		p.Labels(&l)
		h.add(labels.NewBuilder(l).Set("job", "test").Set("instance", instance).Labels(), s)
	}
}

// floating is a histogram of either kind.
func floating(counts *histogram.Histogram, floats *histogram.FloatHistogram) *histogram.FloatHistogram {
	if counts != nil {
		return counts.ToFloat(nil)
	}
	return floats.Copy()
}

// A receiver is Prometheus's receiver of OTLP, which writes into a history. It gets one export at a time.
type receiver struct {
	url string
	h   *history
	at  int64 // the time of what comes next
}

var _ storage.AppenderV2 = (*receiver)(nil)

func newReceiver(t *testing.T, h *history) *receiver {
	t.Helper()
	r := &receiver{h: h}
	server := httptest.NewServer(remote.NewOTLPWriteHandler(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), r,
		func() config.Config { return config.DefaultConfig }, remote.OTLPOptions{LookbackDelta: 5 * time.Minute}))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

// AppenderV2 implements storage.AppendableV2.
func (r *receiver) AppenderV2(context.Context) storage.AppenderV2 { return r }

// Append implements storage.AppenderV2.
func (r *receiver) Append(_ storage.SeriesRef, l labels.Labels, _, _ int64, v float64, counts *histogram.Histogram,
	floats *histogram.FloatHistogram, _ storage.AppendV2Options) (storage.SeriesRef, error) {
	s := sample{at: r.at, value: v}
	if counts != nil || floats != nil {
		s.histogram = floating(counts, floats)
	}
	if l.Get("__name__") != "target_info" { // it comes for several times at once
		r.h.add(l.Copy(), s)
	}
	return 0, nil
}

// Commit implements storage.AppenderTransaction.
func (*receiver) Commit() error { return nil }

// Rollback implements storage.AppenderTransaction.
func (*receiver) Rollback() error { return errors.New("an export was refused") }
