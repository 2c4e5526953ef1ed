package drivertest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// tags are the same for each statement.
func tags(m map[string]string) func(context.Context) map[string]string {
	return func(context.Context) map[string]string { return m }
}

func TestStaticTagsKeepTheStatementCacheAndStayOutOfSpans(t *testing.T) {
	t.Parallel()
	tr, proxy := newTracing(t), faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := warm(t, proxy.DSN(), tr, pgprod.WithSQLCommenter("static", tags(map[string]string{"route": "/verysecret"})))
	proxy.Reset()
	const query = "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid() AND $1 = 1"
	for range 5 {
		assert.Contains(t, get[string](t, db, query, 1), "route='%2Fverysecret'*/")
	}
	assert.Equal(t, 1, proxy.Stats().Messages['P'], "prepared once")
	assert.Len(t, tr.names(), 6, "PREPARE and five SELECTs")
	assert.Equal(t, strings.Replace(query, "= 1", "= '?'", 1), tr.atCreation("SELECT pg_stat_activity")[semconv.DBQueryTextKey])
	assertNoSecret(t, tr, "verysecret")
}

func TestAHostileTagCannotCloseTheComment(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"*/ drop table kept; --", "'*/;drop table kept;/*'", "\n*/\n", `\*/`, "/*", "%2A/", "é\x00\xff"} {
		tr := newTracing(t)
		db := warm(t, with(pgtest.NewDatabase(t), "default_query_exec_mode", "simple_protocol"), tr,
			pgprod.WithSQLCommenter("full", tags(map[string]string{value: value, "k": value})), pgprod.WithPropagator(propagation.TraceContext{}))
		ctx, parent := tr.parent()
		mustExec(t, db, "create table kept (a int)")
		const query = "select query from pg_stat_activity where pid = pg_backend_pid()"
		var said string
		require.NoError(t, db.QueryRowContext(ctx, query).Scan(&said))
		comment, ok := strings.CutPrefix(said, query+"\n/*")
		require.True(t, ok, said)
		assert.Equal(t, len(comment)-2, strings.Index(comment, "*/"), said)
		assert.NotContains(t, comment, "/*")
		assert.Contains(t, comment, parent.SpanContext().TraceID().String())
		assert.Zero(t, get[int](t, db, "select count(*) from kept"))
	}
}

// It is not parallel: AllocsPerRun counts those of all goroutines.
func TestTagsThatNeverRepeatCostNoParsing(t *testing.T) {
	dsn := oneConn(pgtest.NewDatabase(t), "default_query_exec_mode", "exec")
	m, n := newMetering(t), uint64(0)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	const query = "select $1::int"
	opts := []pgprod.Option{pgprod.WithMeterProvider(m.provider), pgprod.WithTracerProvider(plainProvider(t))}
	cost := func(more ...pgprod.Option) float64 {
		db := openPool(t, dsn, append(more, opts...)...)
		return testing.AllocsPerRun(300, func() {
			n++
			span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1, byte(n), byte(n >> 8)}, SpanID: trace.SpanID{1}})
			rows, err := db.QueryContext(trace.ContextWithRemoteSpanContext(ctx, span), query, 1)
			require.NoError(t, err)
			require.NoError(t, rows.Close())
		})
	}
	none := cost()
	full := cost(pgprod.WithSQLCommenter("full", nil), pgprod.WithPropagator(propagation.TraceContext{}))
	t.Logf("no tags %v, with the trace context %v", none, full)
	assert.LessOrEqual(t, full, none+18, "the comment is made anew, what is kept of the statement isn't")
}
