package dashboards

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"
)

// scrapeInterval is the time between two scrapes, or two exports.
const scrapeInterval = time.Minute

// began is the time of the first scrape. Time is made up: scrapes are scrapeInterval apart, whatever passes between them.
var began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// sample is one value of a series: a number, or a histogram.
type sample struct {
	at        int64
	value     float64
	histogram *histogram.FloatHistogram // nil: a number
}

var _ chunks.Sample = sample{}

func (s sample) T() int64                { return s.at }
func (s sample) ST() int64               { return 0 }
func (s sample) F() float64              { return s.value }
func (s sample) H() *histogram.Histogram { return nil }
func (s sample) Copy() chunks.Sample     { return s }

// FH returns a copy, since the engine calculates in what it gets.
func (s sample) FH() *histogram.FloatHistogram { return s.histogram.Copy() }

func (s sample) Type() chunkenc.ValueType {
	if s.histogram != nil {
		return chunkenc.ValFloatHistogram
	}
	return chunkenc.ValFloat
}

// series are the samples of one set of labels.
type series struct {
	labels  labels.Labels
	samples []chunks.Sample
}

// A history is what Prometheus would have kept of what it was told.
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

func (h *history) add(l labels.Labels, s sample) {
	key := l.String()
	if h.all[key] == nil {
		h.all[key] = &series{labels: l}
	}
	h.all[key].samples = append(h.all[key].samples, s)
	h.last = time.UnixMilli(max(h.last.UnixMilli(), s.at))
}

// include adds the series of another history that wanted says yes to.
func (h *history) include(other *history, wanted func(instance string) bool) {
	for key, s := range other.all {
		if wanted(s.labels.Get("instance")) {
			h.all[key] = s
		}
	}
	h.last = other.last
}

// record evaluates recording rules, and keeps what comes of them.
func (h *history) record(t *testing.T, rules []rulefmt.Rule) {
	t.Helper()
	for _, r := range rules {
		for _, s := range h.query(t, r.Expr) {
			l := labels.NewBuilder(s.Metric).Set(model.MetricNameLabel, r.Record).Labels()
			for _, p := range s.Floats {
				h.add(l, sample{at: p.T, value: p.F})
			}
			for _, p := range s.Histograms {
				h.add(l, sample{at: p.T, histogram: p.H})
			}
		}
	}
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
		kept[i] = promql.Series{Metric: s.Metric, Floats: slices.Clone(s.Floats)}
		for _, p := range s.Histograms {
			kept[i].Histograms = append(kept[i].Histograms, promql.HPoint{T: p.T, H: p.H.Copy()})
		}
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
