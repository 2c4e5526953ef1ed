package drivertest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/dbconv"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// tracing records spans, and what a sampler is told of them at their creation.
type tracing struct {
	*tracetest.SpanRecorder
	provider *sdktrace.TracerProvider

	mu    sync.Mutex // guards given
	given map[string][]attribute.KeyValue
}

func newTracing(t testing.TB) *tracing {
	tr := &tracing{SpanRecorder: tracetest.NewSpanRecorder(), given: map[string][]attribute.KeyValue{}}
	tr.provider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(tr.SpanRecorder), sdktrace.WithSampler(tr))
	t.Cleanup(func() { assert.NoError(t, tr.provider.Shutdown(context.Background())) })
	return tr
}

// ShouldSample implements sdktrace.Sampler.
func (tr *tracing) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.given[p.Name] = slices.Clone(p.Attributes)
	return sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample, Tracestate: trace.SpanContextFromContext(p.ParentContext).TraceState()}
}

// Description implements sdktrace.Sampler.
func (tr *tracing) Description() string { return "all" }

// atCreation is what the sampler was told of the last span with a name.
func (tr *tracing) atCreation(name string) map[attribute.Key]any {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return asMap(tr.given[name])
}

func asMap(attrs []attribute.KeyValue) map[attribute.Key]any {
	m := map[attribute.Key]any{}
	for _, a := range attrs {
		m[a.Key] = a.Value.AsInterface()
	}
	return m
}

// withoutParts takes out of a span's attributes what it has if its statement was slow, as any is on a busy machine.
func withoutParts(attrs map[attribute.Key]any) map[attribute.Key]any {
	for _, key := range []attribute.Key{waitPart, serverPart, readPart} {
		delete(attrs, key)
	}
	return attrs
}

// names are the names of the spans that have ended, in that order.
func (tr *tracing) names() (names []string) {
	for _, s := range tr.Ended() {
		names = append(names, s.Name())
	}
	return names
}

// allEnd waits until every span that was begun has ended: a dial may go on for a while.
func (tr *tracing) allEnd(t testing.TB) {
	t.Helper()
	pgtest.Eventually(t, patience, func() bool { return len(tr.Started()) == len(tr.Ended()) }, "a span doesn't end")
}

// one returns the only span with a name.
func (tr *tracing) one(t testing.TB, name string) sdktrace.ReadOnlySpan {
	t.Helper()
	var found []sdktrace.ReadOnlySpan
	for _, s := range tr.Ended() {
		if s.Name() == name {
			found = append(found, s)
		}
	}
	require.Len(t, found, 1, "%s among %q", name, tr.names())
	return found[0]
}

// parent begins a span of the application.
func (tr *tracing) parent() (context.Context, trace.Span) {
	return tr.provider.Tracer("application").Start(context.Background(), "parent")
}

// where are the attributes that all spans of a connection to dsn have.
func where(t testing.TB, dsn string) map[attribute.Key]any {
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	m := map[attribute.Key]any{
		semconv.DBSystemNameKey:  semconv.DBSystemNamePostgreSQL.Value.AsString(),
		semconv.DBNamespaceKey:   strings.TrimPrefix(u.Path, "/"),
		semconv.ServerAddressKey: u.Hostname(),
	}
	if u.Port() != "" && u.Port() != "5432" {
		m[semconv.ServerPortKey], err = strconv.ParseInt(u.Port(), 10, 64)
		require.NoError(t, err)
	}
	return m
}

// reached is where, with the node that a connection by dsn has reached.
func reached(t testing.TB, dsn string) map[attribute.Key]any {
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	port, err := strconv.Atoi(u.Port())
	require.NoError(t, err)
	return plus(where(t, dsn), semconv.NetworkPeerAddress(u.Hostname()), semconv.NetworkPeerPort(port))
}

func plus(m map[attribute.Key]any, more ...attribute.KeyValue) map[attribute.Key]any {
	all := asMap(more)
	for k, v := range m {
		if _, ok := all[k]; !ok {
			all[k] = v
		}
	}
	return all
}

// warm opens a pool whose only connection exists already, so that the next span isn't CONNECT.
func warm(t testing.TB, dsn string, tr *tracing, opts ...pgprod.Option) *sql.DB {
	t.Helper()
	db := openPool(t, oneConn(dsn), append(opts, pgprod.WithTracerProvider(tr.provider))...)
	require.NoError(t, db.Ping())
	tr.Reset()
	return db
}

func TestOneStatementIsOneSpan(t *testing.T) {
	t.Parallel()
	dsn, tr := pgtest.NewDatabase(t), newTracing(t)
	db := warm(t, dsn, tr)
	for name, run := range map[string]func(context.Context) error{
		"CREATE TABLE t": func(ctx context.Context) error {
			_, err := db.ExecContext(ctx, "CREATE TABLE t (a int)")
			return err
		},
		"SELECT pg_class": func(ctx context.Context) error {
			var n int
			return db.QueryRowContext(ctx, "SELECT count(*) FROM pg_class").Scan(&n)
		},
		"": func(ctx context.Context) error { return db.PingContext(ctx) },
	} {
		tr.Reset()
		require.NoError(t, run(context.Background()))
		got := slices.DeleteFunc(tr.names(), func(n string) bool { return strings.HasPrefix(n, "PREPARE ") })
		if name == "" {
			assert.Empty(t, got)
			continue
		}
		assert.Equal(t, []string{name}, got)
		assert.Equal(t, trace.SpanKindClient, tr.one(t, name).SpanKind())
		assert.False(t, tr.one(t, name).Parent().IsValid(), "a root span")
	}
}

func TestASpansAttributesAreGivenAtItsCreation(t *testing.T) {
	t.Parallel()
	dsn, tr := pgtest.NewDatabase(t), newTracing(t)
	db := warm(t, dsn, tr)
	mustExec(t, db, "create table orders (id int, name text)")
	tr.Reset()
	mustExec(t, db, "UPDATE orders SET name = 'verysecret' WHERE id = 4711")
	const name = "UPDATE orders"
	want := plus(reached(t, dsn), semconv.DBQuerySummary(name),
		semconv.DBQueryText("UPDATE orders SET name = '?' WHERE id = '?'"))
	assert.Equal(t, want, tr.atCreation(name))
	assert.Equal(t, want, withoutParts(asMap(tr.one(t, name).Attributes())), "none is added later")
	assert.Equal(t, codes.Unset, tr.one(t, name).Status().Code)
	assert.Equal(t, instruments.SchemaURL, tr.one(t, name).InstrumentationScope().SchemaURL)
}

func TestAStatementWithoutASummaryIsNamedAfterTheDatabase(t *testing.T) {
	t.Parallel()
	dsn, tr := pgtest.NewDatabase(t), newTracing(t)
	db := warm(t, dsn, tr)
	mustExec(t, db, "-- nothing")
	assert.Equal(t, []string{pgtest.DatabaseName(dsn)}, tr.names())
}

func TestAPrepareIsASpanOnlyIfTheServerSeesIt(t *testing.T) {
	t.Parallel()
	tr := newTracing(t)
	db := warm(t, pgtest.NewDatabase(t), tr)
	ctx, parent := tr.parent()
	for range 2 {
		var n int
		require.NoError(t, db.QueryRowContext(ctx, "SELECT oid::int FROM pg_type WHERE typname = $1", "int4").Scan(&n))
	}
	require.Equal(t, []string{"PREPARE SELECT pg_type", "SELECT pg_type", "SELECT pg_type"}, tr.names())
	prepare, query, again := tr.Ended()[0], tr.Ended()[1], tr.Ended()[2]
	assert.Equal(t, query.SpanContext().SpanID(), prepare.Parent().SpanID(), "nested")
	assert.Equal(t, parent.SpanContext().SpanID(), query.Parent().SpanID())
	assert.Equal(t, parent.SpanContext().SpanID(), again.Parent().SpanID())
	assert.Equal(t, parent.SpanContext().TraceID(), prepare.SpanContext().TraceID())
	assert.False(t, prepare.StartTime().Before(query.StartTime()))
	assert.False(t, prepare.EndTime().After(query.EndTime()))
	tr.Reset()
	stmt, err := db.PrepareContext(ctx, "SELECT 1 FROM pg_class WHERE relname = $1")
	require.NoError(t, err)
	for range 2 {
		_, err = stmt.ExecContext(ctx, "x")
		require.NoError(t, err)
	}
	require.NoError(t, stmt.Close())
	assert.Equal(t, []string{"PREPARE SELECT pg_class", "SELECT pg_class", "SELECT pg_class"}, tr.names())
}

func TestATransactionsBeginAndEndAreSpansOfItsTrace(t *testing.T) {
	t.Parallel()
	tr := newTracing(t)
	db := warm(t, with(pgtest.NewDatabase(t), "begin", "eager"), tr)
	ctx, parent := tr.parent()
	for _, end := range []func(*sql.Tx) error{(*sql.Tx).Commit, (*sql.Tx).Rollback} {
		tx, err := db.BeginTx(ctx, nil)
		require.NoError(t, err)
		require.NoError(t, end(tx))
	}
	assert.Equal(t, []string{"begin", "commit", "begin", "rollback"}, tr.names())
	for _, s := range tr.Ended() {
		assert.Equal(t, parent.SpanContext().SpanID(), s.Parent().SpanID(), s.Name())
	}
}

func TestABeginThatTravelsWithAStatementHasNoSpan(t *testing.T) {
	t.Parallel()
	tr := newTracing(t)
	db := warm(t, pgtest.NewDatabase(t), tr)
	ctx, _ := tr.parent()
	tx, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	require.NoError(t, tx.Commit())
	assert.Empty(t, tr.names(), "nothing was sent")

	tx, err = db.BeginTx(ctx, nil)
	require.NoError(t, err)
	for range 2 {
		_, err = tx.ExecContext(ctx, "select $1", "a")
		require.NoError(t, err)
	}
	require.NoError(t, tx.Commit())
	require.Equal(t, []string{"PREPARE select", "select", "select", "commit"}, tr.names())
	begins := attribute.Bool("pgprod.begins_transaction", true)
	assert.Contains(t, tr.Ended()[1].Attributes(), begins)
	assert.NotContains(t, tr.Ended()[2].Attributes(), begins)
}

func TestAParentThatHasEndedIsAParent(t *testing.T) {
	t.Parallel()
	tr := newTracing(t)
	db := warm(t, pgtest.NewDatabase(t), tr)
	ctx, parent := tr.parent()
	tx, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	parent.End()
	_, err = tx.ExecContext(ctx, "select")
	require.NoError(t, err)
	require.NoError(t, tx.Commit())
	assert.Equal(t, []string{"parent", "select", "commit"}, tr.names())
}

func TestABatchIsOneSpan(t *testing.T) {
	t.Parallel()
	dsn, tr := pgtest.NewDatabase(t), newTracing(t)
	db := warm(t, dsn, tr)
	mustExec(t, db, "create table a (i int)")
	insert, alike, other := "INSERT INTO a VALUES ($1)", "INSERT INTO a VALUES ($1 + 1)", "SELECT i FROM a WHERE i = $1"
	for _, c := range []struct {
		texts []string
		name  string
		attrs []attribute.KeyValue
	}{
		{[]string{insert}, "INSERT a", []attribute.KeyValue{semconv.DBQueryText(insert)}},
		{[]string{insert, insert, insert}, "BATCH INSERT a", []attribute.KeyValue{
			semconv.DBOperationBatchSize(3), semconv.DBQueryText(insert)}},
		{[]string{insert, alike}, "BATCH INSERT a", []attribute.KeyValue{semconv.DBOperationBatchSize(2),
			semconv.DBQueryText("INSERT INTO a VALUES ($1); INSERT INTO a VALUES ($1 + '?')")}},
		{[]string{insert, other}, "BATCH", []attribute.KeyValue{
			semconv.DBOperationBatchSize(2), semconv.DBQueryText(insert + "; " + other)}},
	} {
		tr.Reset()
		require.NoError(t, pgprod.Raw(context.Background(), db, func(conn *pgx.Conn) error {
			b := &pgx.Batch{}
			for i, text := range c.texts {
				b.Queue(text, i)
			}
			return conn.SendBatch(context.Background(), b).Close()
		}))
		want := plus(reached(t, dsn), append(c.attrs, semconv.DBQuerySummary(c.name))...)
		assert.Equal(t, []string{c.name}, tr.names())
		assert.Equal(t, want, tr.atCreation(c.name))
	}
	tr.Reset()
	require.NoError(t, pgprod.Raw(context.Background(), db, func(conn *pgx.Conn) error {
		return conn.SendBatch(context.Background(), &pgx.Batch{}).Close()
	}))
	assert.Empty(t, tr.names(), "pgx sends nothing for an empty batch")
}

func TestACopyIsOneSpan(t *testing.T) {
	t.Parallel()
	dsn, tr := pgtest.NewDatabase(t), newTracing(t)
	db := warm(t, dsn, tr)
	mustExec(t, db, "create table a (i int)")
	tr.Reset()
	require.NoError(t, copyInto(db, "a", 7))
	const name = `COPY "a"`
	got := slices.DeleteFunc(tr.names(), func(n string) bool { return strings.HasPrefix(n, "PREPARE ") })
	assert.Equal(t, []string{name}, got)
	assert.Equal(t, name, tr.atCreation(name)[semconv.DBQuerySummaryKey])

	tr.Reset()
	require.Error(t, copyInto(db, "a", "verysecret"))
	assert.Equal(t, codes.Error, tr.one(t, name).Status().Code)
	assert.NotContains(t, tr.one(t, name).Status().Description, "verysecret")
}

func copyInto(db *sql.DB, table string, value any) error {
	return pgprod.Raw(context.Background(), db, func(conn *pgx.Conn) error {
		_, err := conn.CopyFrom(context.Background(), pgx.Identifier{table}, []string{"i"}, pgx.CopyFromRows([][]any{{value}}))
		return err
	})
}

// failures are the metered operations that failed, by error.type.
func failures(t testing.TB, m *metering) map[string]uint64 {
	t.Helper()
	found := map[string]uint64{}
	for _, p := range points[float64](t, m.collect(t)[dbconv.ClientOperationDuration{}.Name()]) {
		if kind, ok := p.Attributes.Value(semconv.ErrorTypeKey); ok {
			found[kind.AsString()] += p.Count
		}
	}
	return found
}

func TestAStatementThatIsPlannedAnewIsOneSpan(t *testing.T) {
	t.Parallel()
	tr, m := newTracing(t), newMetering(t)
	db := warm(t, pgtest.NewDatabase(t), tr, pgprod.WithMeterProvider(m.provider))
	ctx, parent := tr.parent()
	mustExec(t, db, "create table t (a int)")
	read := func() {
		rows, err := db.QueryContext(ctx, "select * from t where a > $1", 0)
		require.NoError(t, err)
		require.NoError(t, rows.Close())
	}
	read()
	mustExec(t, db, "alter table t add b int")
	tr.Reset()
	read()
	require.Equal(t, []string{"PREPARE select t", "select t"}, tr.names())
	prepare, query := tr.Ended()[0], tr.Ended()[1]
	assert.Equal(t, query.SpanContext().SpanID(), prepare.Parent().SpanID())
	assert.Equal(t, parent.SpanContext().SpanID(), query.Parent().SpanID())
	assert.Equal(t, codes.Unset, query.Status().Code)
	assert.Empty(t, failures(t, m))
}

func TestAStatementThatIsTriedOnAnotherConnectionIsOneSpan(t *testing.T) {
	t.Parallel()
	tr, m := newTracing(t), newMetering(t)
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := warm(t, with(proxy.DSN(), "pool_pre_ping", "off", "pool_timeout", "3s", "begin", "eager"), tr, pgprod.WithMeterProvider(m.provider))
	ctx, parent := tr.parent()
	for name, run := range map[string]func() error{
		"select": func() error {
			_, err := db.ExecContext(ctx, "select")
			return err
		},
		"select pg_class": func() error {
			var n int
			return db.QueryRowContext(ctx, "select count(*) from pg_class where relname = $1", "x").Scan(&n)
		},
		"begin": func() error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			return tx.Rollback()
		},
	} {
		require.NoError(t, db.Ping())
		tr.Reset()
		dialled := proxy.Stats().Startups
		proxy.CloseAll(faultproxy.RST)
		require.NoError(t, run(), name)
		require.Greater(t, proxy.Stats().Startups, dialled, "it was tried on another connection")
		assert.Equal(t, parent.SpanContext().SpanID(), tr.one(t, name).Parent().SpanID())
		assert.Equal(t, codes.Unset, tr.one(t, name).Status().Code)
		tr.allEnd(t)
		assert.Empty(t, failures(t, m), name)
	}

	tr.Reset()
	proxy.CloseAll(faultproxy.RST)
	require.NoError(t, proxy.Refuse())
	_, err := db.ExecContext(ctx, "select")
	require.ErrorIs(t, err, pgprod.ErrPoolTimeout)
	assert.Equal(t, "timeout", asMap(tr.one(t, "select").Attributes())[semconv.ErrorTypeKey], "for good")
	assert.EqualValues(t, 1, failures(t, m)["timeout"])
	tr.allEnd(t)
}

// pgx doesn't tell its tracer of the end of a COPY for whose columns it asked in vain.
func TestACopyThatFailsBeforeItBeginsIsOverAndNothingOfItStays(t *testing.T) {
	t.Parallel()
	tr, m := newTracing(t), newMetering(t)
	var logs logBuffer
	db := warm(t, with(pgtest.NewDatabase(t), "command_timeout", "2s"), tr, pgprod.WithMeterProvider(m.provider),
		pgprod.WithLogger(logs.logger()))
	before := backendPID(t, db)
	tr.Reset()
	require.Equal(t, "42P01", sqlState(copyInto(db, "missing", 1)))
	assert.Len(t, tr.Started(), len(tr.Ended()))
	assert.Equal(t, "42P01", asMap(tr.one(t, `COPY "missing"`).Attributes())[semconv.ErrorTypeKey])
	assert.Contains(t, logs.String(), `db.query.summary="COPY \"missing\""`)

	tr.Reset()
	for range 8 { // beyond the COPY's command_timeout
		mustExec(t, db, "select pg_sleep(0.3)")
	}
	assert.Equal(t, slices.Repeat([]string{"select"}, 8), tr.names())
	assert.Equal(t, before, backendPID(t, db), "a failed COPY costs no connection")
	pgtest.Confirmed(t, func(t *pgtest.Trial) {
		requireCut(t, t.Cut(2*time.Second, func() error {
			_, err := db.Exec("select pg_sleep(30)")
			return err
		}), context.DeadlineExceeded)
	})
	mustExec(t, db, "set work_mem = '77MB'")
	assert.NotEqual(t, "77MB", get[string](t, db, "show work_mem"), "the next borrower's")
}

func TestWhatIsLeftOpenInRawEndsWhenTheConnectionIsGivenBack(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	const copies = `COPY "a"`
	for name, leave := range map[string]func(*pgx.Conn){
		"select": func(conn *pgx.Conn) { _, _ = conn.Query(ctx, "select * from generate_series(1, 100000)") },
		"BATCH select": func(conn *pgx.Conn) {
			b := &pgx.Batch{}
			b.Queue("select 1")
			b.Queue("select 2")
			conn.SendBatch(ctx, b)
		},
		copies: func(conn *pgx.Conn) { // fails for want of a cache, and pgx reports nothing
			_, _ = conn.CopyFrom(ctx, pgx.Identifier{"a"}, []string{"i"}, pgx.CopyFromRows(nil))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr, m := newTracing(t), newMetering(t)
			var logs logBuffer
			dsn := pgtest.NewDatabase(t)
			if name == copies {
				dsn = with(dsn, "statement_cache_capacity", "0")
			}
			db := warm(t, dsn, tr, pgprod.WithMeterProvider(m.provider),
				pgprod.WithLogger(logs.logger()))
			require.NoError(t, pgprod.Raw(ctx, db, func(conn *pgx.Conn) error {
				leave(conn)
				return nil
			}))
			assert.Len(t, tr.Started(), len(tr.Ended()))
			assert.Equal(t, "abandoned", asMap(tr.one(t, name).Attributes())[semconv.ErrorTypeKey])
			assert.Equal(t, codes.Error, tr.one(t, name).Status().Code)
			assert.Contains(t, logs.String(), "error.type=abandoned")
			assert.EqualValues(t, 1, statusOf(t, db).Closed["dirty"])
			assert.Equal(t, map[string]uint64{"abandoned": 1}, failures(t, m))
			require.NoError(t, db.Ping())
		})
	}
}

func TestAConnectAndTheWaitForItAreInTheTraceOfWhoAsked(t *testing.T) {
	t.Parallel()
	dsn, tr := pgtest.NewDatabase(t), newTracing(t)
	db := openPool(t, oneConn(dsn), pgprod.WithTracerProvider(tr.provider))
	ctx, parent := tr.parent()
	_, err := db.ExecContext(ctx, "select")
	require.NoError(t, err)
	require.Equal(t, []string{"CONNECT", "pgprod.wait", "select"}, tr.names())
	for _, s := range tr.Ended() {
		assert.Equal(t, parent.SpanContext().SpanID(), s.Parent().SpanID(), s.Name())
	}
	summary := semconv.DBQuerySummary("CONNECT")
	assert.Equal(t, plus(where(t, dsn), summary), tr.atCreation("CONNECT"))
	assert.Equal(t, plus(reached(t, dsn), summary), asMap(tr.one(t, "CONNECT").Attributes()))
	tr.Reset()
	_, err = db.ExecContext(ctx, "select")
	require.NoError(t, err)
	assert.Equal(t, []string{"select"}, tr.names(), "nothing was waited for")
}

func TestAWaitForABusyConnectionShowsInTheTrace(t *testing.T) {
	t.Parallel()
	tr := newTracing(t)
	db := openPool(t, oneConn(pgtest.NewDatabase(t), "pool_timeout", "50ms"), pgprod.WithTracerProvider(tr.provider))
	held := hold(t, db)
	ctx, parent := tr.parent()
	tr.Reset()
	_, err := db.ExecContext(ctx, "select")
	require.ErrorIs(t, err, pgprod.ErrPoolTimeout)
	wait := tr.one(t, "pgprod.wait")
	assert.Equal(t, parent.SpanContext().SpanID(), wait.Parent().SpanID())
	assert.GreaterOrEqual(t, wait.EndTime().Sub(wait.StartTime()), 50*time.Millisecond)
	assert.Equal(t, map[attribute.Key]any{
		semconv.DBClientConnectionPoolNameKey: statusOf(t, db).PoolName, semconv.ErrorTypeKey: "timeout",
	}, asMap(wait.Attributes()))
	assert.Equal(t, codes.Error, wait.Status().Code)
	assert.Equal(t, []string{"pgprod.wait"}, tr.names(), "no statement ran")
	require.NoError(t, held.Close())
}

func TestAWaitWithoutAParentIsAnEventOfItsStatement(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]func(*sql.DB) error{
		"select": func(db *sql.DB) error {
			_, err := db.Exec("select")
			return err
		},
		"PREPARE select": func(db *sql.DB) error {
			st, err := db.Prepare("select $1::int")
			if err == nil {
				err = st.Close()
			}
			return err
		},
		"BATCH select": func(db *sql.DB) error {
			return pgprod.Raw(context.Background(), db, func(conn *pgx.Conn) error {
				b := &pgx.Batch{}
				b.Queue("select 1")
				b.Queue("select 2")
				return conn.SendBatch(context.Background(), b).Close()
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := newTracing(t)
			db := warm(t, pgtest.NewDatabase(t), tr)
			held := hold(t, db)
			done := make(chan error, 1)
			before := time.Now()
			go func() { done <- run(db) }() // ends when it gets the connection
			eventually(t, db, func(s pgprod.PoolStatus) bool { return s.Waiting == 1 })
			mustExec(t, held, "select pg_sleep(0.1)")
			tr.Reset()
			until := time.Now()
			require.NoError(t, held.Close())
			require.NoError(t, <-done)
			events := tr.one(t, name).Events()
			require.Len(t, events, 1)
			assert.Equal(t, "pgprod.wait", events[0].Name)
			attrs := asMap(events[0].Attributes)
			assert.Equal(t, statusOf(t, db).PoolName, attrs[semconv.DBClientConnectionPoolNameKey])
			waited, _ := attrs["pgprod.wait.duration"].(float64)
			assert.GreaterOrEqual(t, waited, 0.1)
			const slack = 50 * time.Millisecond
			assert.WithinRange(t, events[0].Time, before.Add(-slack), until.Add(slack-100*time.Millisecond))
			end := events[0].Time.Add(time.Duration(waited * float64(time.Second)))
			assert.WithinRange(t, end, until.Add(-slack), tr.one(t, name).StartTime().Add(slack))
			assert.NotContains(t, tr.names(), "pgprod.wait")
			tr.Reset()
			mustExec(t, db, "select")
			assert.Empty(t, tr.one(t, "select").Events(), "the next didn't wait")
		})
	}
}

func TestAWaitInVainWithoutAParentIsARoot(t *testing.T) {
	t.Parallel()
	tr := newTracing(t)
	for _, roots := range []bool{true, false} {
		db := openPool(t, oneConn(pgtest.NewDatabase(t), "pool_timeout", "50ms"), pgprod.WithTracerProvider(tr.provider),
			pgprod.WithRootSpans(roots))
		hold(t, db)
		tr.Reset()
		require.ErrorIs(t, db.Ping(), pgprod.ErrPoolTimeout)
		if !roots {
			assert.Empty(t, tr.names())
			continue
		}
		wait := tr.one(t, "pgprod.wait")
		assert.False(t, wait.Parent().IsValid())
		assert.Equal(t, "timeout", asMap(wait.Attributes())[semconv.ErrorTypeKey])
	}
}

func TestAFailureIsTheServersMessageWithoutValues(t *testing.T) {
	t.Parallel()
	tr := newTracing(t)
	db := warm(t, pgtest.NewDatabase(t), tr)
	mustExec(t, db, "create table u (a text primary key)")
	mustExec(t, db, "insert into u values ('verysecret')")
	for _, c := range []struct {
		sql     string
		args    []any
		code    string
		message string
	}{
		{"select 1/0", nil, "22012", "division by zero"},
		{"select * from missing", nil, "42P01", `relation "missing" does not exist`},
		{"insert into u values ('verysecret')", nil, "23505", `duplicate key value violates unique constraint "u_pkey"`},
		{"select 'verysecret'::int", nil, "22P02", `invalid input syntax for type integer: "…"`},
		{"select ($1::text)::int", []any{"verysecret"}, "22P02", `invalid input syntax for type integer: "…"`},
		{"select '99999999999'::int", nil, "22003", `value "…" is out of range for type integer`},
		{"select 1 'verysecret' 'x'", nil, "42601", `syntax error at or near "…"`},
		{"select 'verysecret", nil, "42601", `unterminated quoted string at or near "…"`},
		{"select $1::int", []any{struct{ S string }{"verysecret"}}, "", "failed to encode args[0]: …"},
	} {
		tr.Reset()
		_, err := db.Exec(c.sql, c.args...)
		require.Error(t, err, c.sql)
		for _, s := range tr.Ended() {
			if s.Status().Code == codes.Unset {
				assert.True(t, strings.HasPrefix(s.Name(), "PREPARE"), "%s of %s", s.Name(), c.sql)
				continue
			}
			attrs := asMap(s.Attributes())
			assert.Equal(t, sdktrace.Status{Code: codes.Error, Description: c.message}, s.Status(), c.sql)
			if c.code != "" {
				assert.Equal(t, c.code, attrs[semconv.ErrorTypeKey], c.sql)
				assert.Equal(t, c.code, attrs[semconv.DBResponseStatusCodeKey], c.sql)
			} else {
				assert.NotEmpty(t, attrs[semconv.ErrorTypeKey])
				assert.NotContains(t, attrs, semconv.DBResponseStatusCodeKey)
			}
			assert.Empty(t, s.Events())
		}
		assertNoSecret(t, tr, "verysecret", "99999999999")
	}
}

func TestNoValueOfAStatementIsInItsMessage(t *testing.T) {
	t.Parallel()
	for _, mode := range eachExecMode {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			tr := newTracing(t)
			var logs logBuffer
			db := warm(t, with(pgtest.NewDatabase(t), "default_query_exec_mode", mode), tr, pgprod.WithLogger(logs.logger()))
			mustExec(t, db, "create type e as enum ('a')")
			tr.Reset()
			for _, query := range strings.Split(strings.TrimSpace(revealing), "\n") {
				_, _ = db.Exec(strings.TrimSpace(query)) // not all fail in every version of the server
				_, _ = db.Exec("rollback")
			}
			for _, args := range [][]any{{"SECRET"}, {pgx.NamedArgs{"long": "SECRET"}}} {
				query := "select $1::text::regclass, $1::regclass, a"
				if _, named := args[0].(pgx.NamedArgs); named {
					query = "select @long, @long::text::regclass, 'SECRET'::regclass, a"
				}
				_, err := db.Exec(query, args...)
				require.Error(t, err)
			}
			assertNoSecret(t, tr, "SECRET", "2071147114")
			assert.NotContains(t, logs.String(), "SECRET")
		})
	}
}

// revealing are statements whose errors quote a value. The number has more digits than a port, a process or a second's
// fraction, of which a span is full.
const revealing = `
	do $$begin assert false, 'balance of SECRET'; end$$
	do $$begin raise exception 'balance of SECRET'; end$$
	begin; alter type e add value 'SECRET'; select 'SECRET'::e; commit
	set work_mem = 'SECRET'
	set role 'SECRET'
	set session authorization 'SECRET'
	set timezone = 'SECRET'
	set datestyle = SECRET
	select set_config('SECRET', 'x', false)
	select current_setting('app.SECRET')
	select nextval('SECRET')
	select currval('SECRET')
	select 'SECRET'::regclass
	select '"SECRET"'::regclass
	select regclass 'SECRET'
	select cast('SECRET' as regclass)
	select $$SECRET$$::regrole
	select E'SECRET'::regtype
	select 'SECRET('::regtype
	select lo_get(2071147114)
	select lo_get(4071147114)
	select get_byte('x', 2071147114)
	select set_byte('x', 2071147114, 1)
	select setseed(2071147114)
	select percentile_cont(2071147114) within group (order by 1)
	select chr(-2071147114)
	select 2071147114::int2 * 2071147114::int2
	select make_date(2020, 13, 2071147114)
	select to_tsquery('SECRET', 'a')
	select pg_terminate_backend('SECRET')
	select * from json_to_recordset('SECRET') as x(a int)
	select '(SECRET'::point
	select xml '<SECRET'
	select timezone('SECRET', now())
	select to_date('SECRET', 'YYYY')
	select 'SECRET' ~ '('
	select regexp_replace('a', '(SECRET', 'b')
	select has_table_privilege('SECRET', 'pg_class', 'select')
	select has_column_privilege('pg_class', 'SECRET', 'select')
	select pg_get_serial_sequence('pg_class', 'SECRET')
	select pg_read_file('SECRET')
	select decode('SECRET', 'hex')
	select encode('a', 'SECRET')
	select format('%SECRET', 1)
	select interval 'SECRET'
	select jsonb_path_query('{}', 'strict $.SECRET')
	select jsonb_path_query('{}', 'strict $.a.SECRET(')
	select 'SECRET'::int4range
	select date_trunc('SECRET', now())
	select extract('SECRET' from now())
	create table x (a int check (a > 1)); insert into x values (-2071147114)
	copy pg_class to '/SECRET/x'
	select pg_ls_dir('/SECRET')
	select query_to_xml('select SECRET', true, true, '')
	alter role postgres valid until 'SECRETx'
	select pg_input_is_valid('SECRET', 'nope')
	prepare transaction 'SECRET'
	commit prepared 'SECRET'
	load 'SECRET'
	select lo_import('/SECRET')
	select 'SECRET'::uuid
	select U&'\SECRET'
	select E'\uSECR'
	select 'SECRET' 'x'
	select array[1, 2] || 'SECRET'
	select make_interval(secs => 'SECRET')
	select to_number('SECRET', '9')
`

// assertNoSecret looks for secrets in all that the spans say.
func assertNoSecret(t testing.TB, tr *tracing, secrets ...string) {
	t.Helper()
	for _, s := range tr.Ended() {
		said := fmt.Sprint(s.Name(), s.Status(), s.Events(), s.Attributes(), s.Links(), s.Resource())
		for _, secret := range secrets {
			assert.NotContains(t, said, secret)
		}
	}
}

func TestALostConnectionAndAnEndedContextAreErrorTypes(t *testing.T) {
	t.Parallel()
	tr := newTracing(t)
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := warm(t, proxy.DSN(), tr)
	proxy.SwallowReply(faultproxy.RST, 1, faultproxy.Containing("lostone"))
	_, err := db.Exec("select 1 as lostone")
	require.Error(t, err)
	assert.Equal(t, "connection_lost", asMap(tr.one(t, "select").Attributes())[semconv.ErrorTypeKey])

	pgtest.Confirmed(t, func(t *pgtest.Trial) {
		require.NoError(t, db.Ping())
		tr.Reset()
		requireCut(t, cutAfter(t, 50*time.Millisecond, db), context.DeadlineExceeded)
		assert.Equal(t, "57014", asMap(tr.one(t, "select").Attributes())[semconv.ErrorTypeKey], "the server has confirmed it")
	})
}

func TestAConnectThatFailsIsASpanWithoutThePassword(t *testing.T) {
	t.Parallel()
	tr := newTracing(t)
	u, err := url.Parse(pgtest.NewDatabase(t))
	require.NoError(t, err)
	u.Path = "/nosuchdatabase"
	db := openPool(t, oneConn(u.String()), pgprod.WithTracerProvider(tr.provider))
	require.Error(t, db.Ping())
	pgtest.Eventually(t, patience, func() bool { return len(tr.Ended()) > 0 })
	s := tr.one(t, "CONNECT")
	assert.Equal(t, "3D000", asMap(s.Attributes())[semconv.ErrorTypeKey])
	assert.Equal(t, `database "nosuchdatabase" does not exist`, s.Status().Description)
	if password, ok := u.User.Password(); ok && password != "" {
		assertNoSecret(t, tr, password)
	}

	tr = newTracing(t)
	db = openPool(t, oneConn(with(u.String(), "pool_timeout", "50ms")), pgprod.WithTracerProvider(tr.provider),
		pgprod.WithRootSpans(true))
	ctx, parent := tr.parent()
	require.Error(t, db.PingContext(ctx))
	parent.End()
	assertNoSecret(t, tr, u.String())
}

func TestASpanCoversTheRows(t *testing.T) {
	t.Parallel()
	tr := newTracing(t)
	db := warm(t, pgtest.NewDatabase(t), tr)
	rows, err := db.Query("select * from generate_series(1, 3)")
	require.NoError(t, err)
	require.True(t, rows.Next())
	assert.NotContains(t, tr.names(), "select")
	before := time.Now()
	require.NoError(t, rows.Close())
	assert.False(t, tr.one(t, "select").EndTime().Before(before))
}

func TestRootSpansCanBeSuppressed(t *testing.T) {
	t.Parallel()
	tr := newTracing(t)
	db := openPool(t, oneConn(pgtest.NewDatabase(t)), pgprod.WithTracerProvider(tr.provider), pgprod.WithRootSpans(false))
	mustExec(t, db, "select")
	assert.Empty(t, tr.names())
	ctx, _ := tr.parent()
	_, err := db.ExecContext(ctx, "select")
	require.NoError(t, err)
	assert.Equal(t, []string{"select"}, tr.names())
}

func TestTheServerIsNamedAsConfiguredAndThePeerAsReached(t *testing.T) {
	t.Parallel()
	dsn, tr, m := pgtest.NewDatabase(t), newTracing(t), newMetering(t)
	first, second := faultproxy.StartTB(t, dsn), faultproxy.StartTB(t, dsn)
	hosts := first.Addr().String() + "," + second.Addr().String()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	db := openPool(t, strings.Replace(oneConn(dsn), u.Host, hosts, 1), pgprod.WithTracerProvider(tr.provider),
		pgprod.WithMeterProvider(m.provider))
	check := func(proxy *faultproxy.Proxy) {
		t.Helper()
		mustExec(t, db, "select")
		for _, name := range []string{"CONNECT", "select"} {
			attrs := asMap(tr.one(t, name).Attributes())
			assert.Equal(t, hosts, attrs[semconv.ServerAddressKey], name)
			assert.NotContains(t, attrs, semconv.ServerPortKey, "the ports are in the list")
			peer := net.JoinHostPort(attrs[semconv.NetworkPeerAddressKey].(string), fmt.Sprint(attrs[semconv.NetworkPeerPortKey]))
			assert.Equal(t, proxy.Addr().String(), peer, name)
		}
		assert.NotContains(t, tr.atCreation("CONNECT"), semconv.NetworkPeerAddressKey, "not known yet")
		tr.Reset()
	}
	check(first)
	require.NoError(t, first.Refuse())
	first.CloseAll(faultproxy.RST)
	check(second)
	series := points[float64](t, m.collect(t)[dbconv.ClientOperationDuration{}.Name()])
	require.Len(t, series, 1, "a failover makes no new series")
	assert.EqualValues(t, 2, series[0].Count)
}

func TestTheErrorOfThePasswordFunctionIsNotShown(t *testing.T) {
	t.Parallel()
	tr := newTracing(t)
	db := openPool(t, oneConn("postgres://u@127.0.0.1:1/d?sslmode=disable", "pool_timeout", "50ms"),
		pgprod.WithTracerProvider(tr.provider), pgprod.WithPasswordFunc(func(context.Context) (string, error) {
			return "", errors.New("token verysecret has expired")
		}))
	ctx, _ := tr.parent()
	require.Error(t, db.PingContext(ctx))
	pgtest.Eventually(t, patience, func() bool { return slices.Contains(tr.names(), "CONNECT") })
	assert.Contains(t, tr.names(), "pgprod.wait")
	assertNoSecret(t, tr, "verysecret")
}

func TestASocketsDirectoryIsTheAddress(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	proxy, err := faultproxy.StartUnix(pgtest.NewDatabase(t), dir)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, proxy.Close()) })
	tr := newTracing(t)
	db := openPool(t, oneConn(proxy.DSN()), pgprod.WithTracerProvider(tr.provider))
	mustExec(t, db, "select")
	for _, name := range []string{"CONNECT", "select"} {
		attrs := asMap(tr.one(t, name).Attributes())
		assert.Equal(t, dir, attrs[semconv.ServerAddressKey])
		assert.NotContains(t, attrs, semconv.ServerPortKey, "it is 5432")
		assert.Equal(t, filepath.Join(dir, ".s.PGSQL.5432"), attrs[semconv.NetworkPeerAddressKey])
		assert.NotContains(t, attrs, semconv.NetworkPeerPortKey)
	}

	// One directory may have many servers' sockets, of which the port tells which is which.
	require.NoError(t, os.Symlink(filepath.Join(dir, ".s.PGSQL.5432"), filepath.Join(dir, ".s.PGSQL.5433")))
	tr.Reset()
	second := openPool(t, oneConn(proxy.DSN(), "host", dir+","+dir, "port", "5434,5433"), pgprod.WithTracerProvider(tr.provider))
	mustExec(t, second, "select")
	for _, name := range []string{"CONNECT", "select"} {
		assert.Equal(t, dir+":5434,"+dir+":5433", asMap(tr.one(t, name).Attributes())[semconv.ServerAddressKey])
	}
}

func TestADatabaseThatIsntNamedHasTheUsersName(t *testing.T) {
	t.Parallel()
	dsn, tr := pgtest.NewDatabase(t), newTracing(t)
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	u.Path = ""
	db := openPool(t, oneConn(u.String(), "pool_timeout", "2s"), pgprod.WithTracerProvider(tr.provider))
	_ = db.Ping() // the database may not exist
	pgtest.Eventually(t, patience, func() bool { return slices.Contains(tr.names(), "CONNECT") })
	assert.Equal(t, u.User.Username(), tr.atCreation("CONNECT")[semconv.DBNamespaceKey])
}

// It is not parallel: it sets what the whole process shares.
func TestTheGlobalTracerProviderServesWheneverItIsSet(t *testing.T) {
	dsn, old, tr := pgtest.NewDatabase(t), otel.GetTracerProvider(), newTracing(t)
	t.Cleanup(func() { otel.SetTracerProvider(old) })
	before := openPool(t, with(oneConn(dsn), "pool_name", "before"))
	mustExec(t, before, "select")
	assert.Empty(t, tr.names())
	otel.SetTracerProvider(tr.provider)
	mustExec(t, before, "select")
	assert.Equal(t, []string{"select"}, tr.names())
	tr.Reset()
	after := openPool(t, with(oneConn(dsn), "pool_name", "after"))
	mustExec(t, after, "select")
	assert.Equal(t, []string{"CONNECT", "select"}, tr.names())
}
