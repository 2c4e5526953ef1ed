package drivertest

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

const askName = "select current_setting('application_name') || $1"

// nameOf returns the application_name that a statement with a context has.
func nameOf(t testing.TB, q querier, ctx context.Context) (name string) {
	t.Helper()
	require.NoError(t, q.QueryRowContext(ctx, askName, "").Scan(&name))
	return name
}

// traceparent returns the trace context of a span.
func traceparent(sc trace.SpanContext) string {
	return fmt.Sprintf("00-%s-%s-01", sc.TraceID(), sc.SpanID())
}

func TestASampledStatementsTraceContextIsItsApplicationName(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		for _, settingsMode := range []string{"startup", "set"} {
			tr := newTracing(t)
			db := warm(t, with(pgtest.NewDatabase(t), "trace_context", "application_name", "default_query_exec_mode", mode,
				"server_settings", "application_name=shop", "server_settings_mode", settingsMode), tr, pgprod.WithRootSpans(false))
			ctx, parent := tr.parent()
			last := func() string {
				all := tr.Ended()
				span := all[len(all)-1]
				assert.Equal(t, parent.SpanContext().TraceID(), span.SpanContext().TraceID())
				return traceparent(span.SpanContext())
			}
			for range 3 {
				assert.Equal(t, nameOf(t, db, ctx), last(), mode)
				assert.Equal(t, "shop", nameOf(t, db, context.Background()))
				mustExec(t, db, "create temp table seen (name text)")
			}
			_, err := db.ExecContext(ctx, "create table seen as select current_setting('application_name') as name")
			require.NoError(t, err, "without arguments")
			assert.Equal(t, last(), get[string](t, db, "select name from seen"))

			tx, err := db.BeginTx(ctx, nil)
			require.NoError(t, err)
			assert.Equal(t, nameOf(t, tx, ctx), last())
			assert.Equal(t, nameOf(t, tx, ctx), last(), "each statement its own")
			assert.Equal(t, "shop", nameOf(t, tx, context.Background()), "one that is not sampled")
			_, err = tx.ExecContext(ctx, "savepoint s")
			require.NoError(t, err)
			require.NoError(t, tx.Commit())
			assert.Equal(t, "shop", nameOf(t, db, context.Background()))
			_, err = db.ExecContext(ctx, "vacuum seen")
			require.NoError(t, err)

			own := pgprod.ContextWithSettings(ctx, map[string]string{"application_name": "mine"})
			assert.Equal(t, "mine", nameOf(t, db, own), "what the application sets is stronger")
		}
	}
}

func TestOtherSessionsSeeTheTraceContextWhileTheStatementRuns(t *testing.T) {
	t.Parallel()
	tr := newTracing(t)
	dsn := pgtest.NewDatabase(t)
	db, observer := warm(t, with(dsn, "trace_context", "application_name"), tr), openPgx(t, dsn)
	ctx, parent := tr.parent()
	done := make(chan error, 1)
	go func() {
		_, err := db.ExecContext(ctx, "select pg_sleep(0.5) where $1", true)
		done <- err
	}()
	pgtest.Eventually(t, patience, func() bool {
		var seen bool
		require.NoError(t, observer.QueryRow("select exists (select from pg_stat_activity where application_name like '00-' || $1 || '-%')",
			parent.SpanContext().TraceID().String()).Scan(&seen))
		return seen
	}, "pg_stat_activity doesn't show it")
	require.NoError(t, <-done)
	assert.Zero(t, get[int](t, observer, "select count(*) from pg_stat_activity where application_name like '00-%' and datname = current_database()"))
}

// The server writes what took long and what failed under the name that the session had then.
func TestTheServersLogHasTheTraceContextOfAStatement(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Settings: map[string]string{
		"log_line_prefix": "%a|", "log_min_duration_statement": "0", "log_min_error_statement": "error",
	}})
	tr := newTracing(t)
	db := warm(t, with(server.DSN(""), "trace_context", "application_name", "server_settings", "application_name=shop"), tr, pgprod.WithRootSpans(false))
	ctx, _ := tr.parent()
	_, err := db.ExecContext(ctx, "select 'slow' where $1", true)
	require.NoError(t, err)
	slow := tr.Ended()[len(tr.Ended())-1].SpanContext()
	_, err = db.ExecContext(ctx, "select 1/$1::int", 0)
	requireCode(t, err, "22012")
	failed := tr.Ended()[len(tr.Ended())-1].SpanContext()
	mustExec(t, db, "select 'untraced' where $1", true)

	log, err := os.ReadFile(server.LogFile())
	require.NoError(t, err)
	for line := range strings.Lines(string(log)) {
		name, message, _ := strings.Cut(line, "|")
		switch {
		case strings.Contains(message, "execute") && strings.Contains(message, "select 'slow'"):
			assert.Equal(t, traceparent(slow), name, line)
		case strings.Contains(message, "ERROR:  division by zero"):
			assert.Equal(t, traceparent(failed), name, line)
		case strings.Contains(message, "select 'untraced'"):
			assert.Equal(t, "shop", name, line)
		}
	}
	for _, message := range []string{traceparent(slow), traceparent(failed), "shop|"} {
		assert.Contains(t, string(log), message)
	}
}

func TestATracedStatementStaysPreparedAndCostsNoRoundTrip(t *testing.T) {
	t.Parallel()
	tr := newTracing(t)
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := warm(t, with(proxy.DSN(), "trace_context", "application_name"), tr)
	ctx, _ := tr.parent()
	nameOf(t, db, ctx)
	proxy.Reset()
	for range 5 {
		nameOf(t, db, ctx)
	}
	assert.Equal(t, 5, proxy.Stats().RoundTrips)
	assert.Zero(t, proxy.Stats().Messages['P'])
}

func TestNothingChangesForStatementsThatAreNotSampled(t *testing.T) {
	t.Parallel()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
	for _, how := range []string{"application_name", "comment"} {
		proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
		db := openPool(t, oneConn(proxy.DSN(), "trace_context", how, "server_settings", "application_name=shop"), pgprod.WithTracerProvider(provider))
		ctx, span := provider.Tracer("application").Start(t.Context(), "parent")
		nameOf(t, db, ctx)
		proxy.Reset()
		for range 3 {
			assert.Equal(t, "shop", nameOf(t, db, ctx))
			_, err := db.ExecContext(ctx, "select 1")
			require.NoError(t, err)
		}
		assert.Zero(t, proxy.Stats().Messages['P'])
		assert.Equal(t, 3, proxy.Stats().Messages['Q'])
		span.End()
	}
}

func TestASampledStatementsTraceContextIsAComment(t *testing.T) {
	t.Parallel()
	tr := newTracing(t)
	db := warm(t, with(pgtest.NewDatabase(t), "trace_context", "comment"), tr)
	ctx, parent := tr.parent()
	const ask = "select query from pg_stat_activity where pid = pg_backend_pid() and $1"
	read := func(q *sql.DB, ctx context.Context) (query string) {
		require.NoError(t, q.QueryRowContext(ctx, ask, true).Scan(&query))
		return query
	}
	for range 3 {
		assert.Equal(t, ask+"\n/*traceparent='"+traceparent(parent.SpanContext())+"'*/", read(db, ctx))
		assert.Equal(t, ask, read(db, t.Context()))
	}
}
