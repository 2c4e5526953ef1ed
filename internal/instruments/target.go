package instruments

import (
	"cmp"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/pgprod/pgprod/internal/sqlsummary"
)

// A Target is the pool's server as one connection shows it in spans and metrics. It is safe for concurrent use.
type Target struct {
	*catalogue
	peer peer // the other end of the connection
}

// A catalogue has what all connections of a pool show in common. It keeps the statements by text, a bounded number of them,
// with all that is the same for each execution of a statement. It is safe for concurrent use.
type catalogue struct {
	in     *Instruments
	common []attribute.KeyValue          // what all spans and metrics have: the server
	texts  *sqlsummary.Cache[*statement] // the statements by text

	fallback string // the name of spans whose statements have no summary

	mu       sync.Mutex         // guards what follows
	series   map[string]*series // by summary
	failures int                // different error types in all series together
}

// Target returns the Target of a connection to addr; nil: of one that isn't made yet.
func (i *Instruments) Target(addr net.Addr) *Target { return &Target{i.catalogue, peerAt(addr)} }

// newCatalogue returns the catalogue of a server, with an empty cache of statements.
func (i *Instruments) newCatalogue(s Server) *catalogue {
	c := &catalogue{in: i, common: s.attributes(), fallback: cmp.Or(s.Namespace, "postgresql"), series: map[string]*series{}}
	c.texts = sqlsummary.NewCache(sqlsummary.Limits{}, func(s sqlsummary.Summary) *statement {
		return c.statement(s, nil)
	})
	return c
}

// Summary returns the summary of a statement. There are no literals in it.
func (c *catalogue) Summary(sql string) sqlsummary.Summary { return c.texts.Get(sql).Summary }

// A statement is what all executions of a text have in common, or all dials.
type statement struct {
	*series                        // nil: it is not measured, and has spans only
	name      string               // of its spans
	attrs     []attribute.KeyValue // of its spans, without the peer's
	returning bool                 // it has a RETURNING clause

	starts atomic.Pointer[[]startOptions] // those for the peers that were seen last, at most maxPeers; never changed in place
}

// startOptions are the options with which the spans of one statement begin on connections to one peer.
type startOptions struct {
	peer peer
	all  []trace.SpanStartOption
}

// statement returns the statement with a summary. Its spans have the attributes more as well.
func (c *catalogue) statement(s sqlsummary.Summary, more []attribute.KeyValue) *statement {
	in := c.seriesOf(s.Summary)
	return &statement{
		series:    in,
		name:      cmp.Or(s.Summary, c.fallback),
		attrs:     spanAttributes(in.attrs, s, more),
		returning: s.Returning,
	}
}

// unmeasured returns a statement with a summary that has spans only. A dial and the preparing of a statement are such: in
// db.client.operation.duration they would count as operations of their own, beside the statement that they belong to.
func (c *catalogue) unmeasured(s sqlsummary.Summary) *statement {
	return &statement{name: s.Summary, attrs: spanAttributes(append(slices.Clip(c.common), semconv.DBQuerySummary(s.Summary)), s, nil)}
}

// spanAttributes are the attributes of a statement's spans: those of its metrics, the text, and more.
func spanAttributes(attrs []attribute.KeyValue, s sqlsummary.Summary, more []attribute.KeyValue) []attribute.KeyValue {
	attrs = append(slices.Clip(attrs), more...)
	if s.Text != "" {
		attrs = append(attrs, semconv.DBQueryText(shortened(s.Text)))
	}
	return attrs
}

// maxPeers is for how many peers the options of a statement's spans are kept. A pool seldom has more at a time.
const maxPeers = 4

// startAt returns the options for a span on a connection to a peer. They are kept for the next one.
func (s *statement) startAt(p peer) []trace.SpanStartOption {
	last := s.starts.Load()
	if last == nil {
		return s.newStart(p, nil)
	}
	for n := range *last {
		if (*last)[n].peer == p {
			return (*last)[n].all
		}
	}
	return s.newStart(p, *last)
}

// newStart is startAt for a peer that is not among those for which there are options.
func (s *statement) newStart(p peer, kept []startOptions) []trace.SpanStartOption {
	attrs := append(slices.Clip(s.attrs), p.attributes()...)
	now := startOptions{p, []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attrs...)}}
	kept = append(slices.Clip(kept[max(0, len(kept)+1-maxPeers):]), now)
	s.starts.Store(&kept) // what another goroutine stores at the same time may be lost, and is made again
	return now.all
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

// A series is what all texts with one summary have in common: the attributes of their metrics, of which each different set
// is a time series. A text may be removed from the cache, its series stays.
type series struct {
	catalogue *catalogue
	attrs     []attribute.KeyValue  // of metrics; spans have them too, and more
	ok        []metric.RecordOption // for an execution that succeeded

	failed   sync.Map // error.type → []metric.RecordOption, for executions that failed; written with catalogue.mu held
	failures int      // how many error types are in failed; guarded by catalogue.mu
}

// seriesOf finds or makes the series of a summary. The cache bounds the number of summaries, and so that of series: there
// may be as many again for BATCH.
func (c *catalogue) seriesOf(summary string) *series {
	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.series[summary]
	if in == nil {
		in = c.newSeries(summary)
		c.series[summary] = in
	}
	return in
}

// newSeries returns a series with the attributes of its metrics.
func (c *catalogue) newSeries(summary string) *series {
	attrs := slices.Clip(c.common)
	if summary != "" {
		attrs = append(attrs, semconv.DBQuerySummary(summary))
	}
	return &series{catalogue: c, attrs: attrs, ok: recordOptions(attrs)}
}

// recordOptions are the options with which a measurement with these attributes is recorded.
func recordOptions(attrs []attribute.KeyValue) []metric.RecordOption {
	return []metric.RecordOption{withAttributes(attrs)}
}

const (
	// maxFailures bounds the error types that a series has: a function in the database can raise any SQLSTATE.
	maxFailures = 50
	// maxAllFailures bounds the error types of all series of a pool together.
	maxAllFailures = 1000
)

// failure returns the record options for an execution that failed. If there are too many error types already, the type is
// _OTHER.
func (s *series) failure(err error) []metric.RecordOption {
	kind := ErrorType(err)
	if opts, ok := s.failed.Load(kind); ok {
		return opts.([]metric.RecordOption)
	}
	c := s.catalogue
	c.mu.Lock()
	defer c.mu.Unlock()
	code := statusCode(err)
	full := s.failures == maxFailures || c.failures == maxAllFailures
	if full {
		kind, code = semconv.ErrorTypeOther.Value.AsString(), ""
	}
	if opts, ok := s.failed.Load(kind); ok {
		return opts.([]metric.RecordOption)
	}
	if !full {
		s.failures++
		c.failures++
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
