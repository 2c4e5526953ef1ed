package instruments

import (
	"cmp"
	"strings"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgprod/pgprod/internal/sqlsummary"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
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
}

// Target returns a Target of a server, for all connections to it to share.
func (i *Instruments) Target(s Server) *Target {
	t := &Target{in: i, common: []attribute.KeyValue{
		semconv.DBSystemNamePostgreSQL, semconv.DBNamespace(s.Namespace),
	}, fallback: cmp.Or(s.Namespace, "postgresql")}
	if s.Address != "" {
		t.common = append(t.common, semconv.ServerAddress(s.Address))
	}
	if s.Address != "" && s.Port != 5432 && s.Port != 0 && !strings.HasPrefix(s.Address, "/") {
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
	name  string
	start []trace.SpanStartOption
	ok    []metric.RecordOption
	attrs []attribute.KeyValue // of the metrics

	failed   sync.Map // error.type → []metric.RecordOption; at most maxFailures, and one for the rest
	failures atomic.Int32
}

// statement makes what all executions of a summary have in common; more are further attributes of its spans.
func (t *Target) statement(s sqlsummary.Summary, more []attribute.KeyValue) *statement {
	attrs := append([]attribute.KeyValue(nil), t.common...)
	name := t.fallback
	if s.Summary != "" {
		name = s.Summary
		attrs = append(attrs, semconv.DBQuerySummary(s.Summary))
	}
	if s.Operation != "" {
		attrs = append(attrs, semconv.DBOperationName(s.Operation))
	}
	if s.Collection != "" {
		attrs = append(attrs, semconv.DBCollectionName(s.Collection))
	}
	span := append(append([]attribute.KeyValue(nil), attrs...), more...)
	if s.Text != "" {
		span = append(span, semconv.DBQueryText(s.Text))
	}
	return &statement{
		name:  name,
		attrs: attrs,
		start: []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(span...)},
		ok:    []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(attrs...))},
	}
}

// maxFailures bounds the kinds of error that a statement has in metrics: a function can raise any SQLSTATE.
const maxFailures = 50

// failure returns the record options for an execution that failed.
func (s *statement) failure(err error) []metric.RecordOption {
	kind := ErrorType(err)
	if opts, ok := s.failed.Load(kind); ok {
		return opts.([]metric.RecordOption)
	}
	code := statusCode(err)
	if s.failures.Add(1) > maxFailures {
		kind, code = semconv.ErrorTypeOther.Value.AsString(), ""
		if opts, ok := s.failed.Load(kind); ok {
			return opts.([]metric.RecordOption)
		}
	}
	attrs := append([]attribute.KeyValue(nil), s.attrs...)
	attrs = append(attrs, semconv.ErrorTypeKey.String(kind))
	if code != "" {
		attrs = append(attrs, semconv.DBResponseStatusCode(code))
	}
	opts := []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(attrs...))}
	s.failed.Store(kind, opts)
	return opts
}
