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

// Server is where a connection leads.
type Server struct {
	Address   string // host or socket directory; "" while it isn't known
	Port      int
	Namespace string // the database
}

// A Target is one server as telemetry sees it: its statements by text, bounded, with all that is the same for each
// execution of one made beforehand. It is safe for concurrent use.
type Target struct {
	in     *Instruments
	common []attribute.KeyValue // of spans and metrics
	texts  *sqlsummary.Cache[*statement]

	fallback string // the name of spans that have no summary
	port     int    // 0: not known

	mu       sync.Mutex // guards what follows
	series   map[seriesKey]*series
	failures int // kinds of error in all series
}

// targets are those of the servers that were met: as many as the DSN has hosts, or as their names resolve to.
type targets struct {
	mu  sync.Mutex // guards all
	all map[Server]*Target
}

// Target returns the Target of a server, which all connections to it share. It is safe for concurrent use.
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

// Summary says what a text is, without a literal.
func (t *Target) Summary(sql string) sqlsummary.Summary { return t.texts.Get(sql).Summary }

// statement is what all executions of a text have in common.
type statement struct {
	*series
	name      string
	start     []trace.SpanStartOption
	returning bool
}

// statement makes what all executions of a summary have in common; more are further attributes of its spans.
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

// maxText bounds db.query.text, in bytes. Exporters send spans by the hundred and collectors take 4 MiB at once: a few
// INSERTs of many rows would cost all the spans that travel with them.
const maxText = 8 << 10

// shortened is a text cut behind the last space or comma that is within maxText, if there is one near.
func shortened(text string) string {
	if len(text) <= maxText {
		return text
	}
	text = text[:maxText]
	if at := strings.LastIndexAny(text, " \t\n,"); at > maxText-256 {
		text = text[:at+1]
	}
	return strings.ToValidUTF8(text, "") + "…" // the text was valid, but for where it is cut
}

// seriesKey is what tells the series of one target apart.
type seriesKey struct{ summary, operation, collection string }

// series is what all executions of all texts with one summary have in common. It outlives the texts, which come and go
// in the cache: what a series counts is counted for good.
type series struct {
	target *Target
	attrs  []attribute.KeyValue // of metrics, and of spans among others
	ok     []metric.RecordOption

	failed   sync.Map // error.type → []metric.RecordOption; changed with target.mu held
	failures int      // how many kinds are in failed; guarded by target.mu
}

// seriesOf finds or makes the series of a summary. There are as many as the cache gives summaries, and as many again for
// each of PREPARE and BATCH.
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

func recordOptions(attrs []attribute.KeyValue) []metric.RecordOption {
	return []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(attrs...))}
}

const (
	// maxFailures bounds the kinds of error that one summary has in metrics: a function can raise any SQLSTATE.
	maxFailures = 50
	// maxAllFailures bounds them for all summaries of a target together.
	maxAllFailures = 1000
)

// failure returns the record options for an execution that failed. What is one kind too many becomes _OTHER.
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
