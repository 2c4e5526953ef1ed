package instruments

import (
	"cmp"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/pgprod/pgprod/internal/sqlsummary"
)

// Server names a server and a database in spans and metrics.
type Server struct {
	Address   string // host or directory of the socket; "": not known yet
	Port      int    // 0: not known yet
	Namespace string // the database
}

// A Target is a server as spans and metrics show it. It keeps its statements by text, a bounded number of them, with all
// that is the same for each execution of a statement. It is safe for concurrent use.
type Target struct {
	in     *Instruments
	common []attribute.KeyValue          // what all its spans and metrics have
	texts  *sqlsummary.Cache[*statement] // its statements by text

	fallback string // the name of spans whose statements have no summary
	port     int    // 0: not known

	mu       sync.Mutex // guards what follows
	series   map[seriesKey]*series
	failures int // different error types in all series together
}

// targets are the Targets of all servers that the pool has connected to: as many as the DSN has hosts, or as these have
// addresses.
type targets struct {
	mu  sync.Mutex // guards all
	all map[Server]*Target
}

// Target returns the Target of a server, which all connections to it share.
func (i *Instruments) Target(s Server) *Target {
	i.targets.mu.Lock()
	defer i.targets.mu.Unlock()
	t := i.targets.all[s]
	if t == nil {
		if i.targets.all == nil {
			i.targets.all = map[Server]*Target{}
		}
		t = i.newTarget(s)
		i.targets.all[s] = t
	}
	return t
}

// newTarget returns a Target with the attributes that name the server, and an empty cache of statements.
func (i *Instruments) newTarget(s Server) *Target {
	t := &Target{in: i, common: []attribute.KeyValue{semconv.DBSystemNamePostgreSQL},
		fallback: cmp.Or(s.Namespace, "postgresql"), port: s.Port, series: map[seriesKey]*series{}}
	if s.Namespace != "" {
		t.common = append(t.common, semconv.DBNamespace(s.Namespace))
	}
	if s.Address != "" {
		t.common = append(t.common, semconv.ServerAddress(s.Address))
	}
	if s.Address != "" && s.Port != 5432 && s.Port != 0 { // of sockets too: one directory may have many
		t.common = append(t.common, semconv.ServerPort(s.Port))
	}
	t.texts = sqlsummary.NewCache(sqlsummary.Limits{}, func(s sqlsummary.Summary) *statement {
		return t.statement(s, nil)
	})
	return t
}

// Summary returns the summary of a statement. There are no literals in it.
func (t *Target) Summary(sql string) sqlsummary.Summary { return t.texts.Get(sql).Summary }

// A statement is what all executions of a text have in common.
type statement struct {
	*series
	name      string                  // of its spans
	start     []trace.SpanStartOption // of its spans: kind and attributes
	returning bool                    // it has a RETURNING clause
}

// statement returns the statement with a summary. Its spans have the attributes more as well.
func (t *Target) statement(s sqlsummary.Summary, more []attribute.KeyValue) *statement {
	in := t.seriesOf(s)
	span := append(append([]attribute.KeyValue(nil), in.attrs...), more...)
	if s.Text != "" {
		span = append(span, semconv.DBQueryText(shortened(s.Text)))
	}
	return &statement{
		series:    in,
		name:      cmp.Or(s.Summary, t.fallback),
		start:     []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(span...)},
		returning: s.Returning,
	}
}

// maxText bounds db.query.text, in bytes. Exporters send hundreds of spans in one message, of which collectors take 4 MiB. A
// message with a few INSERTs of many rows would be refused, and all the other spans in it lost.
const maxText = 8 << 10

// shortened is a text, or if it is longer than maxText its beginning, cut behind a space or comma if one is near.
func shortened(text string) string {
	if len(text) <= maxText {
		return text
	}
	text = text[:maxText]
	if at := strings.LastIndexAny(text, " \t\n,"); at > maxText-256 {
		text = text[:at+1]
	}
	return strings.ToValidUTF8(text, "") + "…" // the cut may be in the middle of a character
}

// A seriesKey identifies a series of one Target.
type seriesKey struct{ summary, operation, collection string }

// A series is what all texts with one summary have in common: the attributes of their metrics, of which each different set
// is a time series. A text may be removed from the Target's cache, its series stays.
type series struct {
	target *Target
	attrs  []attribute.KeyValue  // of metrics; spans have them too, and more
	ok     []metric.RecordOption // for an execution that succeeded

	failed   sync.Map // error.type → []metric.RecordOption, for executions that failed; written with target.mu held
	failures int      // how many error types are in failed; guarded by target.mu
}

// seriesOf finds or makes the series of a summary. The cache bounds the number of summaries, and so that of series: there
// may be as many again for PREPARE, and for BATCH.
func (t *Target) seriesOf(s sqlsummary.Summary) *series {
	key := seriesKey{s.Summary, s.Operation, s.Collection}
	t.mu.Lock()
	defer t.mu.Unlock()
	in := t.series[key]
	if in == nil {
		in = t.newSeries(key)
		t.series[key] = in
	}
	return in
}

// newSeries returns a series with the attributes of its metrics.
func (t *Target) newSeries(key seriesKey) *series {
	attrs := append([]attribute.KeyValue(nil), t.common...)
	if key.summary != "" {
		attrs = append(attrs, semconv.DBQuerySummary(key.summary))
	}
	if key.operation != "" {
		attrs = append(attrs, semconv.DBOperationName(key.operation))
	}
	if key.collection != "" {
		attrs = append(attrs, semconv.DBCollectionName(key.collection))
	}
	return &series{target: t, attrs: attrs, ok: recordOptions(attrs)}
}

// recordOptions are the options with which a measurement with these attributes is recorded.
func recordOptions(attrs []attribute.KeyValue) []metric.RecordOption {
	return []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(attrs...))}
}

const (
	// maxFailures bounds the error types that a series has: a function in the database can raise any SQLSTATE.
	maxFailures = 50
	// maxAllFailures bounds the error types of all series of a Target together.
	maxAllFailures = 1000
)

// failure returns the record options for an execution that failed. If there are too many error types already, the type is
// _OTHER.
func (s *series) failure(err error) []metric.RecordOption {
	kind := ErrorType(err)
	if opts, ok := s.failed.Load(kind); ok {
		return opts.([]metric.RecordOption)
	}
	t := s.target
	t.mu.Lock()
	defer t.mu.Unlock()
	code := statusCode(err)
	full := s.failures == maxFailures || t.failures == maxAllFailures
	if full {
		kind, code = semconv.ErrorTypeOther.Value.AsString(), ""
	}
	if opts, ok := s.failed.Load(kind); ok {
		return opts.([]metric.RecordOption)
	}
	if !full {
		s.failures++
		t.failures++
	}
	attrs := append([]attribute.KeyValue(nil), s.attrs...)
	attrs = append(attrs, semconv.ErrorTypeKey.String(kind))
	if code != "" {
		attrs = append(attrs, semconv.DBResponseStatusCode(code))
	}
	opts := recordOptions(attrs)
	s.failed.Store(kind, opts)
	return opts
}
