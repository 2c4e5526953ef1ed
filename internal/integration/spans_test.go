package integration

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/instruments"
)

// scope is the driver's instrumentation scope.
const scope = "github.com/pgprod/pgprod"

// attrs are attributes by key, with their values' types.
type attrs map[string]any

func attrsOf(kvs ...attribute.KeyValue) attrs {
	a := attrs{}
	for _, kv := range kvs {
		a[string(kv.Key)] = kv.Value.AsInterface()
	}
	return a
}

// but returns a without some keys.
func (a attrs) but(keys ...attribute.Key) attrs {
	rest := attrs{}
	for k, v := range a {
		if !slices.Contains(keys, attribute.Key(k)) {
			rest[k] = v
		}
	}
	return rest
}

// A span is what the collector should have.
type span struct {
	name    string
	kind    ptrace.SpanKind
	attrs   attrs
	failure string // the status' message; "": no failure
	parent  string // its name; "": a root
}

// common are the attributes of all spans but pgprod.wait.
func (s *script) common() []attribute.KeyValue {
	s.t.Helper()
	cfg, err := pgx.ParseConfig(s.dsn)
	require.NoError(s.t, err)
	kvs := []attribute.KeyValue{
		semconv.DBSystemNamePostgreSQL, semconv.DBNamespace(cfg.Database), semconv.ServerAddress(cfg.Host),
	}
	if cfg.Port != 5432 {
		kvs = append(kvs, semconv.ServerPort(int(cfg.Port)))
	}
	return kvs
}

// peer are the attributes of all spans on a connection.
func (s *script) peer() []attribute.KeyValue {
	s.t.Helper()
	cfg, err := pgx.ParseConfig(s.dsn)
	require.NoError(s.t, err)
	return []attribute.KeyValue{semconv.NetworkPeerAddress(cfg.Host), semconv.NetworkPeerPort(int(cfg.Port))}
}

// The attributes of a statement with which BEGIN travels. The last two are there if it is not the first attempt of an InTx.
const (
	beginsTransaction = "pgprod.begins_transaction"
	attempt           = "pgprod.transaction.attempt"
	retryReason       = "pgprod.transaction.retry_reason"
)

// spans are those of run, by SEMCONV.
func (s *script) spans() (all []span) {
	common := append(s.common(), s.peer()...)
	client := func(summary, text string, more ...attribute.KeyValue) *span {
		kvs := append(slices.Clone(common), semconv.DBQuerySummary(summary))
		if text != "" {
			kvs = append(kvs, semconv.DBQueryText(text))
		}
		all = append(all, span{name: summary, kind: ptrace.SpanKindClient, parent: "caller",
			attrs: attrsOf(append(kvs, more...)...)})
		return &all[len(all)-1]
	}
	wait := func(pool, failure string, more ...attribute.KeyValue) {
		all = append(all, span{name: "pgprod.wait", kind: ptrace.SpanKindInternal, failure: failure, parent: "caller",
			attrs: attrsOf(append(more, semconv.DBClientConnectionPoolName(pool))...)})
	}
	const (
		query  = "SELECT id, name FROM items WHERE id > $1"
		update = "UPDATE items SET name = $1 WHERE id = $2"
		remove = "DELETE FROM items WHERE id = $1"
	)
	client("CONNECT", "")
	wait(mainPool, "")
	client("PREPARE SELECT items", query).parent = "SELECT items"
	client("SELECT items", query)
	client("INSERT items", "INSERT INTO items VALUES ('?', '?')")
	client("PREPARE UPDATE items", update)
	client("UPDATE items", update)
	client("UPDATE items", update)
	client("PREPARE DELETE items", remove).parent = "DELETE items"
	client("DELETE items", remove, attribute.Bool(beginsTransaction, true)) // BEGIN travels with it
	client("commit", "commit")
	touch := func(more ...attribute.KeyValue) {
		client("UPDATE labels", "UPDATE labels SET id = id", append(more, attribute.Bool(beginsTransaction, true))...)
	}
	touch()
	client("DO", "DO '?'", semconv.DBResponseStatusCode("40P01"), semconv.ErrorTypeKey.String("40P01")).failure =
		"a function raised an exception"
	client("rollback", "rollback")
	touch(attribute.Int(attempt, 2), attribute.String(retryReason, "40P01"))
	client("commit", "commit")
	client("INSERT labels", "INSERT INTO labels VALUES ('?')",
		semconv.DBResponseStatusCode("23505"), semconv.ErrorTypeKey.String("23505")).failure = s.refused

	client("BATCH UPDATE items", update, semconv.DBOperationBatchSize(3))
	client("BATCH", update+"; "+remove, semconv.DBOperationBatchSize(2))
	client(`PREPARE select "labels"`, `select "id" from "labels"`).parent = `COPY "labels"` // pgx asks for the types
	client(`COPY "labels"`, `COPY "labels" FROM STDIN BINARY`)

	client("CONNECT", "") // overflow
	wait(mainPool, "")
	wait(mainPool, "")
	client("TRUNCATE labels", "TRUNCATE labels")
	client("CONNECT", "").parent = ""
	wait(smallPool, "no connection became free in time", semconv.ErrorTypeKey.String("timeout"))
	client("CONNECT", "").parent = "" // of the pool that asks the server; a health check has no spans
	return all
}

// received returns the driver's spans as the collector has them, and checks what they have in common.
func (c *collector) received(t *testing.T) (spans []span) {
	t.Helper()
	names, trace := map[pcommon.SpanID]string{}, pcommon.TraceID{}
	c.eachSpan(func(_ ptrace.ScopeSpans, s ptrace.Span) {
		names[s.SpanID()] = s.Name()
		if s.Name() == "caller" {
			trace = s.TraceID()
		}
	})
	c.eachSpan(func(in ptrace.ScopeSpans, s ptrace.Span) {
		if in.Scope().Name() != scope {
			return
		}
		assert.Equal(t, instruments.SchemaURL, in.SchemaUrl())
		assert.Equal(t, instruments.Version, in.Scope().Version())
		assert.Zero(t, s.Events().Len(), "%s: events for exceptions are deprecated", s.Name())
		got := span{name: s.Name(), kind: s.Kind(), attrs: s.Attributes().AsRaw(), parent: names[s.ParentSpanID()]}
		for _, ofSlow := range []string{"pgprod.wait.duration", "pgprod.server.duration", "pgprod.read.duration"} {
			delete(got.attrs, ofSlow) // on a busy machine any statement may be slow
		}
		assert.Equal(t, !s.ParentSpanID().IsEmpty(), s.TraceID() == trace, s.Name())
		if s.Status().Code() != ptrace.StatusCodeUnset {
			assert.Equal(t, ptrace.StatusCodeError, s.Status().Code(), s.Name())
			got.failure = s.Status().Message()
		}
		spans = append(spans, got)
	})
	return spans
}

func (c *collector) eachSpan(f func(ptrace.ScopeSpans, ptrace.Span)) {
	for _, traces := range c.traces.AllTraces() {
		for _, resource := range traces.ResourceSpans().All() {
			for _, in := range resource.ScopeSpans().All() {
				for _, s := range in.Spans().All() {
					f(in, s)
				}
			}
		}
	}
}

func TestLongTextsCostNoSpans(t *testing.T) {
	c := startCollector(t)
	traces := c.tracerProvider(t)
	s := newScript(t)
	db, err := pgprod.Open(s.dsn, pgprod.WithTracerProvider(traces), pgprod.WithPoolSize(1), pgprod.WithPreflight(false))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	require.NoError(t, db.Ping())
	require.NoError(t, traces.ForceFlush(context.Background()))
	before := c.traces.SpanCount()
	long := "insert into labels select 1 where false and 1 in (values (1)" + strings.Repeat(",(1)", 1<<18) + ")"
	for range 5 { // more than a collector takes at once
		_, err := db.Exec(long)
		require.NoError(t, err)
	}
	_, err = db.Exec("select 1")
	require.NoError(t, err)
	require.NoError(t, traces.ForceFlush(context.Background()))
	assert.Equal(t, 6, c.traces.SpanCount()-before)
	c.eachSpan(func(_ ptrace.ScopeSpans, s ptrace.Span) {
		if s.Name() == "insert labels" {
			text, _ := s.Attributes().Get(string(semconv.DBQueryTextKey))
			assert.True(t, strings.HasSuffix(text.Str(), "…"))
		}
	})
}

// asked is a sampler that takes everything and notes what it could have decided by.
type asked struct {
	mu   sync.Mutex // guards seen
	seen []span
}

func (a *asked) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen = append(a.seen, span{name: p.Name, attrs: attrsOf(p.Attributes...)})
	return sdktrace.AlwaysSample().ShouldSample(p)
}

func (*asked) Description() string { return "asked" }

func TestACollectorGetsEachSpanWithItsAttributes(t *testing.T) {
	c := startCollector(t)
	sampler := &asked{}
	traces := c.tracerProvider(t, sdktrace.WithSampler(sampler))
	s := newScript(t, pgprod.WithTracerProvider(traces))
	ctx, caller := traces.Tracer("caller").Start(t.Context(), "caller")
	s.run(ctx, func() {})
	caller.End()
	require.NoError(t, traces.ForceFlush(context.Background()))

	want := s.spans()
	assert.ElementsMatch(t, want, c.received(t))

	onStart := []span{{name: "caller", attrs: attrs{}}}
	for _, w := range want {
		given := w.attrs.but(semconv.ErrorTypeKey, semconv.DBResponseStatusCodeKey, beginsTransaction, attempt, retryReason)
		if w.name == "CONNECT" {
			given = given.but(semconv.NetworkPeerAddressKey, semconv.NetworkPeerPortKey)
		}
		onStart = append(onStart, span{name: w.name, attrs: given})
	}
	assert.ElementsMatch(t, onStart, sampler.seen, "what a sampler may decide by is given at the start")
}
