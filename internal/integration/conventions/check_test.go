package conventions

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgprod/pgprod/internal/docs"
)

// names returns those of the package, which is read once.
func names(t *testing.T) *Names {
	t.Helper()
	n, err := loaded()
	require.NoError(t, err)
	return n
}

var loaded = sync.OnceValues(func() (*Names, error) { return Load(context.Background()) })

// newChecker returns a checker for a program that was configured with a DSN.
func newChecker(t *testing.T, dsn string) *Checker {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	return &Checker{Names: names(t), Address: config.Host, Port: int(config.Port), Secrets: []string{literal, parameter}, Mixed: mixed}
}

// deviations are the findings that pgprod has on purpose, with what the manual says of each.
var deviations = map[string]string{
	"spans: db.query.text is sanitised although it has parameters": "which the conventions would send as they are",
}

func TestPgprodReportsByTheConventionsWhereOthersDoNot(t *testing.T) {
	manual, err := docs.Read("internal/docs/telemetry.md")
	require.NoError(t, err)
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			dsn := newDatabase(t)
			found, err := newChecker(t, dsn).Check(t.Context(), run(t, c, dsn))
			require.NoError(t, err)
			t.Logf("%s and the conventions %s: %d findings\n%s", c.name, Version, len(found), found)
			if c.name != "pgprod" {
				return
			}
			for deviation, sentence := range deviations {
				assert.Contains(t, found, deviation)
				assert.Contains(t, manual, sentence)
				delete(found, deviation)
			}
			assert.Empty(t, found, "%s", found)
		})
	}
}

// wrong reports as nobody should: what was right ten years ago, and what never was.
func wrong(t *testing.T, to *Record) {
	tracer, meter := to.Tracers.Tracer("wrong"), to.Meters.Meter("wrong")
	ctx := context.Background()
	_, old := tracer.Start(ctx, "query", trace.WithAttributes(
		attribute.String("db.system", "postgresql"), attribute.String("db.statement", "select '"+literal+"'"),
		attribute.String("db.rows", "3"), attribute.Bool("server.port", true)))
	old.RecordError(errors.New("refused"))
	old.SetStatus(codes.Error, "refused")
	old.End()
	_, late := tracer.Start(ctx, "SELECT", trace.WithSpanKind(trace.SpanKindClient))
	late.SetAttributes(attribute.String("db.system.name", "mysql"), attribute.String("db.namespace", "shop"),
		attribute.String("db.query.summary", "SELECT"+strings.Repeat(" items", 50)), attribute.String("db.query.text", "UPDATE items SET name = '?' WHERE id = $1"),
		attribute.String("db.operation.name", "SELECT"), attribute.Int("db.operation.batch.size", 1),
		attribute.String("server.address", "elsewhere"), attribute.String("error.type", "23505"),
		attribute.String("db.client.connection.pool.name", "shop"))
	late.SetStatus(codes.Ok, "")
	late.End()
	_, mixed := tracer.Start(ctx, "x", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("error.type", "timeout"), attribute.String("db.response.status_code", "57014"),
		attribute.String("server.address", "127.0.0.1"), attribute.Int("server.port", 1)))
	mixed.SetStatus(codes.Error, "")
	mixed.End()

	most, err := meter.Int64Gauge("db.client.connection.max")
	require.NoError(t, err)
	most.Record(ctx, 10)
	limit, err := meter.Int64Gauge("db.client.connection.limit", metric.WithUnit("1"))
	require.NoError(t, err)
	limit.Record(ctx, 10)
	count, err := meter.Int64UpDownCounter("db.client.connection.count", metric.WithUnit("{connection}"))
	require.NoError(t, err)
	count.Add(ctx, 1, metric.WithAttributes(attribute.String("db.client.connection.state", "busy"), attribute.String("db.user", "me")))
	took, err := meter.Float64Histogram("db.client.connection.use_time", metric.WithUnit("ms"))
	require.NoError(t, err)
	took.Record(ctx, 1)
	rows, err := meter.Float64Histogram("db.client.response.returned_rows", metric.WithUnit("{row}"))
	require.NoError(t, err)
	rows.Record(ctx, 1, metric.WithAttributes(attribute.String("error.type", "57014")))
	own, err := meter.Int64Counter("db.statements")
	require.NoError(t, err)
	own.Add(ctx, 1)
}

// findingsOfWrong are all that the checker must say of wrong.
const findingsOfWrong = `
spans: the scope has no version
spans: db.system is deprecated: Replaced by
spans: db.statement is deprecated: Replaced by
spans: db.statement has a literal or a parameter of the statement
spans: db.rows is none of the conventions' attributes, but in a namespace of theirs
spans: server.port is a BOOL
spans: server.port isn't as it was configured
spans: server.port is missing, which is required if it isn't the default
spans: db.system.name is missing, which is required
spans: db.namespace is missing, which is required
spans: server.address is missing, which is recommended
spans: server.address isn't as it was configured
spans: db.system.name is mysql, not postgresql
spans: db.client.connection.pool.name doesn't belong here
spans: the kind is internal, not client
spans: the name is neither the summary, nor made of operation and target
spans: there is an event for an exception, which is deprecated
spans: db.query.summary is longer than 255
spans: db.query.text is sanitised although it has parameters
spans: db.query.text is not given at creation, for samplers
spans: db.query.summary is not given at creation, for samplers
spans: db.namespace is not given at creation, for samplers
spans: db.system.name is not given at creation, for samplers
spans: server.address is not given at creation, for samplers
spans: db.operation.name is taken from the text
spans: db.operation.batch.size is 1
spans: db.query.summary of a batch doesn't begin with BATCH
spans: error.type is missing, which is required if the operation failed
spans: error.type is given, but the status is Ok
spans: error.type isn't the status code
spans: the status is Ok, which is the application's to say
metrics: the scope has no version
metrics: db.client.operation.duration is missing, which is required
db.client.connection.max: is deprecated: Replaced by
db.client.connection.limit: is a gauge, not a updowncounter
db.client.connection.limit: has the unit "1", not "{connection}"
db.client.connection.limit: has another description than the conventions
db.client.connection.limit: db.client.connection.pool.name is missing, which is required
db.client.connection.count: db.client.connection.state has the value busy
db.client.connection.count: db.user is deprecated
db.client.connection.use_time: has the unit "ms", not "s"
db.client.response.returned_rows: has other buckets than are advised
db.client.response.returned_rows: db.response.status_code is missing, which is required if the server reported the error
db.statements: is none of the conventions' metrics, but in a namespace of theirs
`

func TestTheCheckerFindsWhatIsWrong(t *testing.T) {
	to := NewRecord()
	wrong(t, to)
	c := &Checker{Names: names(t), Address: "127.0.0.1", Port: 5433, Secrets: []string{literal, parameter}, Mixed: mixed}
	found, err := c.Check(t.Context(), to)
	require.NoError(t, err)
	texts := slices.Collect(maps.Keys(found))
	for want := range strings.Lines(strings.TrimSpace(findingsOfWrong)) {
		want = strings.TrimSpace(want)
		assert.True(t, slices.ContainsFunc(texts, func(text string) bool { return strings.HasPrefix(text, want) }), want)
	}
	if t.Failed() {
		t.Logf("found:\n%s", found)
	}
}

func TestTheTablesHaveOnlyNamesOfThePackage(t *testing.T) {
	names := names(t)
	for name, m := range metrics {
		assert.Contains(t, names.Metrics, name)
		assert.Empty(t, names.Metrics[name].Deprecated, name)
		for a := range m.attributes {
			assert.Contains(t, names.Attributes, a)
		}
	}
	for a := range spanAttributes {
		assert.Contains(t, names.Attributes, a)
		assert.Empty(t, names.Attributes[a].Deprecated, a)
	}
	for name, known := range names.Metrics {
		if _, listed := metrics[name]; strings.HasPrefix(name, "db.client.") && known.Deprecated == "" {
			assert.True(t, listed, "%s is new", name)
		}
	}
	assert.Contains(t, names.Templates, "db.query.parameter.")
	assert.True(t, names.HasValue("db.client.connection.state", "idle"))
}
