package dashboards

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	clientprometheus "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"
)

const (
	scrapeInterval = time.Minute
	// accept is what Prometheus 3 asks for: names in UTF-8 would come as they are.
	accept = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6," +
		"application/openmetrics-text;version=0.0.1;q=0.5," +
		"text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)

// began is the time of the first scrape. Time is made up: scrapes are scrapeInterval apart, whatever passes between them.
var began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// sample is one value of a series.
type sample struct {
	at    int64
	value float64
}

var _ chunks.Sample = sample{}

func (s sample) T() int64                      { return s.at }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return s.value }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample           { return s }

// series are the samples of one set of labels.
type series struct {
	labels  labels.Labels
	samples []chunks.Sample
}

// A history is what Prometheus would have kept of its scrapes.
type history struct {
	engine *promql.Engine
	all    map[string]*series
	last   time.Time
}

func newHistory(t *testing.T) *history {
	t.Helper()
	engine := promql.NewEngine(promql.EngineOpts{
		MaxSamples: 1e6, Timeout: time.Minute, Parser: parser.NewParser(parser.Options{}),
	})
	t.Cleanup(func() { require.NoError(t, engine.Close()) })
	return &history{engine: engine, all: map[string]*series{}}
}

// scrape adds a page of a registry, with the labels that Prometheus gives to a target.
func (h *history) scrape(t *testing.T, registry *clientprometheus.Registry, instance string, at time.Time) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", accept)
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}).ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	page, err := textparse.New(w.Body.Bytes(), w.Header().Get("Content-Type"), nil, textparse.ParserOptions{})
	require.NoError(t, err)
	for {
		entry, err := page.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if entry == textparse.EntrySeries {
			var l labels.Labels
			page.Labels(&l)
			_, _, value := page.Series()
			h.add(labels.NewBuilder(l).Set("job", "test").Set("instance", instance).Labels(), at, value)
		}
	}
	h.last = at
}

func (h *history) add(l labels.Labels, at time.Time, value float64) {
	s := h.all[l.String()]
	if s == nil {
		s = &series{labels: l}
		h.all[l.String()] = s
	}
	s.samples = append(s.samples, sample{at.UnixMilli(), value})
}

// matching are the series that a selector of an expression selects.
func (h *history) matching(matchers []*labels.Matcher) (found []*series) {
	for _, s := range h.all {
		matches := true
		for _, m := range matchers {
			matches = matches && m.Matches(s.labels.Get(m.Name))
		}
		if matches {
			found = append(found, s)
		}
	}
	return found
}

// Querier makes a history a storage.Queryable.
func (h *history) Querier(int64, int64) (storage.Querier, error) {
	return &storage.MockQuerier{SelectMockFunction: func(_ bool, _ *storage.SelectHints, m ...*labels.Matcher) storage.SeriesSet {
		return &seriesSet{rest: h.matching(m)}
	}}, nil
}

// seriesSet iterates over series.
type seriesSet struct {
	storage.SeriesSet // an empty one: errors and warnings
	rest              []*series
	at                *series
}

func (s *seriesSet) Next() bool {
	if len(s.rest) == 0 {
		s.SeriesSet = storage.EmptySeriesSet()
		return false
	}
	s.at, s.rest = s.rest[0], s.rest[1:]
	return true
}

func (s *seriesSet) At() storage.Series { return storage.NewListSeries(s.at.labels, s.at.samples) }

// query evaluates an expression at the time of each scrape.
func (h *history) query(t *testing.T, expr string) promql.Matrix {
	t.Helper()
	q, err := h.engine.NewRangeQuery(context.Background(), h, nil, expr, began, h.last, scrapeInterval)
	require.NoError(t, err, expr)
	defer q.Close()
	result := q.Exec(context.Background())
	require.NoError(t, result.Err, expr)
	require.Empty(t, result.Warnings, expr)
	matrix, err := result.Matrix()
	require.NoError(t, err, expr)
	kept := make(promql.Matrix, len(matrix)) // the engine takes its points back
	for i, s := range matrix {
		kept[i] = promql.Series{Metric: s.Metric, Floats: append([]promql.FPoint(nil), s.Floats...)}
	}
	return kept
}

// fires reports whether a series of an alert's expression lasts for hold without a gap.
func fires(s promql.Series, hold time.Duration) bool {
	since := 0
	for i, point := range s.Floats {
		if i > 0 && point.T-s.Floats[i-1].T > scrapeInterval.Milliseconds() {
			since = i
		}
		if point.T-s.Floats[since].T >= hold.Milliseconds() {
			return true
		}
	}
	return false
}
