package drivertest

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/dbconv"
	nooptrace "go.opentelemetry.io/otel/trace/noop"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// metering collects metrics when it is asked.
type metering struct {
	reader   *sdkmetric.ManualReader
	provider *sdkmetric.MeterProvider
}

func newMetering(t testing.TB) *metering {
	reader := sdkmetric.NewManualReader()
	m := &metering{reader, sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))}
	t.Cleanup(func() { assert.NoError(t, m.provider.Shutdown(context.Background())) })
	return m
}

func (m *metering) collect(t testing.TB) map[string]metricdata.Metrics {
	t.Helper()
	var rm metricdata.ResourceMetrics
	require.NoError(t, m.reader.Collect(context.Background(), &rm))
	all := map[string]metricdata.Metrics{}
	for _, scope := range rm.ScopeMetrics {
		for _, one := range scope.Metrics {
			all[one.Name] = one
		}
	}
	return all
}

// ofServer are the attributes of each series of a pool that name its server.
var ofServer = []attribute.Key{semconv.DBSystemNameKey, semconv.DBNamespaceKey, semconv.ServerAddressKey, semconv.ServerPortKey}

// sum is the value of a series of a counter, told by its attributes without those of the server; -1 if there is none.
func sum(m metricdata.Metrics, attrs ...attribute.KeyValue) int64 {
	data, _ := m.Data.(metricdata.Sum[int64])
	want := attribute.NewSet(attrs...)
	for _, p := range data.DataPoints {
		if got := withoutServer(p.Attributes); got.Equals(&want) {
			return p.Value
		}
	}
	return -1
}

// withoutServer returns attributes without those of the server.
func withoutServer(attrs attribute.Set) attribute.Set {
	rest, _ := attrs.Filter(func(a attribute.KeyValue) bool { return !slices.Contains(ofServer, a.Key) })
	return rest
}

// points are a histogram's series.
func points[N int64 | float64](t testing.TB, m metricdata.Metrics) []metricdata.HistogramDataPoint[N] {
	t.Helper()
	data, ok := m.Data.(metricdata.Histogram[N])
	require.True(t, ok, "%s: %T", m.Name, m.Data)
	return data.DataPoints
}

// requirePool compares what a collection says with Status.
func requirePool(t testing.TB, m *metering, db *sql.DB, used, idle, pending, timeouts, overflows int64) {
	t.Helper()
	s, all := statusOf(t, db), m.collect(t)
	name := semconv.DBClientConnectionPoolName(s.PoolName)
	for _, c := range []struct {
		want, status int64
		metric       string
		attrs        []attribute.KeyValue
	}{
		{used, int64(s.CheckedOut), dbconv.ClientConnectionCount{}.Name(), []attribute.KeyValue{semconv.DBClientConnectionStateUsed}},
		{idle, int64(s.CheckedIn), dbconv.ClientConnectionCount{}.Name(), []attribute.KeyValue{semconv.DBClientConnectionStateIdle}},
		{pending, int64(s.Waiting), dbconv.ClientConnectionPendingRequests{}.Name(), nil},
		{timeouts, s.Timeouts, dbconv.ClientConnectionTimeouts{}.Name(), nil},
		{int64(s.PoolSize), int64(s.PoolSize), dbconv.ClientConnectionIdleMax{}.Name(), nil},
		{0, 0, dbconv.ClientConnectionIdleMin{}.Name(), nil},
		{int64(s.PoolSize + s.MaxOverflow), int64(s.PoolSize + s.MaxOverflow), "db.client.connection.limit", nil},
		{s.FailedConnects, s.FailedConnects, "pgprod.connection.failures", nil},
		{overflows, overflows, "pgprod.connection.overflows", nil},
	} {
		assert.Equal(t, c.want, c.status, c.metric)
		assert.Equal(t, c.want, sum(all[c.metric], append(c.attrs, name)...), "%s %v", c.metric, c.attrs)
	}
	for reason, n := range s.Closed {
		assert.Equal(t, n, sum(all["pgprod.connection.closed"], name, attribute.String("pgprod.reason", reason)), reason)
	}
}

func TestThePoolsMetricsAreExact(t *testing.T) {
	t.Parallel()
	m := newMetering(t)
	db := openPool(t, with(pgtest.NewDatabase(t), "pool_size", "1", "max_overflow", "1", "pool_timeout", "1m"),
		pgprod.WithMeterProvider(m.provider))
	requirePool(t, m, db, 0, 0, 0, 0, 0)
	conns := holdMany(t, db, 2)
	requirePool(t, m, db, 2, 0, 0, 0, 1)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	waiting := make(chan error, 3)
	for range cap(waiting) {
		go func() { waiting <- db.PingContext(ctx) }() // ends with ctx
	}
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.Waiting == 3 })
	requirePool(t, m, db, 2, 0, 3, 0, 1)
	cancel()
	for range cap(waiting) {
		require.ErrorIs(t, <-waiting, context.Canceled)
	}
	giveBack(t, conns)
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.CheckedIn == 1 && s.Closed["overflow"] == 1 })
	requirePool(t, m, db, 0, 1, 0, 0, 1)

	all := m.collect(t)
	name := attribute.NewSet(semconv.DBClientConnectionPoolName(statusOf(t, db).PoolName))
	for metric, count := range map[string]uint64{
		dbconv.ClientConnectionCreateTime{}.Name(): 2,
		dbconv.ClientConnectionWaitTime{}.Name():   2,
		dbconv.ClientConnectionUseTime{}.Name():    2,
	} {
		series := points[float64](t, all[metric])
		require.Len(t, series, 1, metric)
		assert.Equal(t, "s", all[metric].Unit)
		assert.Equal(t, count, series[0].Count, metric)
		assert.Equal(t, name, withoutServer(series[0].Attributes))
		assert.Positive(t, series[0].Sum, metric)
	}
}

func TestTimeoutsAndFailedConnectsAreCountedInMetrics(t *testing.T) {
	t.Parallel()
	m, proxy := newMetering(t), faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, oneConn(proxy.DSN(), "pool_timeout", "100ms"), pgprod.WithMeterProvider(m.provider))
	require.NoError(t, proxy.Refuse())
	require.ErrorIs(t, db.Ping(), pgprod.ErrPoolTimeout)
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.FailedConnects > 0 && s.Connecting == 0 })
	requirePool(t, m, db, 0, 0, 0, 1, 0)
}

func TestAWaitThatTheCallersDeadlineEndsIsATimeoutInMetrics(t *testing.T) {
	t.Parallel()
	m := newMetering(t)
	db := openPool(t, oneConn(pgtest.NewDatabase(t)), pgprod.WithMeterProvider(m.provider))
	hold(t, db)
	for range 3 {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		require.ErrorIs(t, db.PingContext(ctx), context.DeadlineExceeded)
		cancel()
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancelled := make(chan error, 1)
	go func() { cancelled <- db.PingContext(ctx) }() // ends with ctx
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.Waiting == 1 })
	cancel()
	require.ErrorIs(t, <-cancelled, context.Canceled)
	s := statusOf(t, db)
	name := semconv.DBClientConnectionPoolName(s.PoolName)
	assert.EqualValues(t, 3, sum(m.collect(t)[dbconv.ClientConnectionTimeouts{}.Name()], name))
	assert.Zero(t, s.Timeouts, "those with ErrPoolTimeout")
}

func TestUnlimitedOverflowHasNoMaximum(t *testing.T) {
	t.Parallel()
	m := newMetering(t)
	openPool(t, with(pgtest.NewDatabase(t), "max_overflow", "-1"), pgprod.WithMeterProvider(m.provider))
	assert.NotContains(t, m.collect(t), "db.client.connection.limit")
}

func TestAStatementsMetricIsItsSpan(t *testing.T) {
	t.Parallel()
	m, tr := newMetering(t), newTracing(t)
	db := warm(t, pgtest.NewDatabase(t), tr, pgprod.WithMeterProvider(m.provider))
	mustExec(t, db, "CREATE TABLE a (i int)")
	var i int
	require.NoError(t, db.QueryRow("SELECT count(*) FROM pg_am WHERE oid > 0").Scan(&i))
	_, err := db.Exec("SELECT 1/0 FROM pg_class")
	require.Error(t, err)
	rows, err := db.Query("VALUES (1), (2), (3)")
	require.NoError(t, err)
	require.NoError(t, rows.Close())

	all := m.collect(t)
	durations := all[dbconv.ClientOperationDuration{}.Name()]
	assert.Equal(t, "s", durations.Unit)
	byName := map[string]metricdata.HistogramDataPoint[float64]{}
	for _, p := range points[float64](t, durations) {
		assert.Equal(t, []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10}, p.Bounds)
		name, _ := p.Attributes.Value(semconv.DBQuerySummaryKey)
		byName[name.AsString()] = p
	}
	for _, s := range tr.Ended() {
		p, measured := byName[s.Name()]
		if strings.HasPrefix(s.Name(), "PREPARE ") {
			assert.False(t, measured, "it is part of the statement's")
			continue
		}
		require.EqualValues(t, 1, p.Count, s.Name())
		want := withoutParts(asMap(s.Attributes()))
		for _, key := range []attribute.Key{semconv.DBQueryTextKey, semconv.NetworkPeerAddressKey, semconv.NetworkPeerPortKey} {
			delete(want, key)
		}
		assert.Equal(t, want, asMap(p.Attributes.ToSlice()))
		assert.Equal(t, s.EndTime().Sub(s.StartTime()).Seconds(), p.Sum, s.Name())
	}
	returned := map[string]int64{}
	for _, p := range points[int64](t, all[dbconv.ClientResponseReturnedRows{}.Name()]) {
		assert.Equal(t, []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000}, p.Bounds)
		name, _ := p.Attributes.Value(semconv.DBQuerySummaryKey)
		returned[name.AsString()] = p.Sum
	}
	assert.Equal(t, map[string]int64{"SELECT pg_am": 1, "VALUES": 3}, returned)
	_, err = db.Exec("SELECT 'verysecret'::int + $1", 1)
	require.Error(t, err)
	assert.NotContains(t, fmt.Sprint(m.collect(t)), "verysecret")
}

func TestTheRowsOfEveryKindOfStatementAreCounted(t *testing.T) {
	t.Parallel()
	m := newMetering(t)
	db := openPool(t, oneConn(pgtest.NewDatabase(t)), pgprod.WithMeterProvider(m.provider))
	mustExec(t, db, "create table t (a int)")
	tx, err := db.Begin()
	require.NoError(t, err)
	mustExec(t, tx, "DECLARE c CURSOR FOR SELECT generate_series(1, 10)")
	for _, query := range []string{
		"INSERT INTO t VALUES (1), (2), (3) RETURNING a",
		"INSERT INTO t VALUES (4)",
		"UPDATE t SET a = a + 1 WHERE a < 3 RETURNING a",
		"UPDATE t SET a = a",
		"WITH x AS (UPDATE t SET a = a RETURNING a) SELECT a FROM x WHERE a = 4",
		"FETCH 7 FROM c",
		"DELETE FROM t RETURNING a",
		"DELETE FROM t",
	} {
		rows, err := tx.Query(query)
		require.NoError(t, err, query)
		require.NoError(t, rows.Close())
	}
	require.NoError(t, tx.Rollback())
	sums := map[string]int64{}
	for _, p := range points[int64](t, m.collect(t)[dbconv.ClientResponseReturnedRows{}.Name()]) {
		name, _ := p.Attributes.Value(semconv.DBQuerySummaryKey)
		sums[name.AsString()] = p.Sum
	}
	assert.Equal(t, map[string]int64{"INSERT t": 3, "UPDATE t": 2, "UPDATE t SELECT": 1, "FETCH": 7, "DELETE t": 4}, sums)
}

func TestTwoPoolsOnOneDSNAreTwoSeriesAndCloseEndsThem(t *testing.T) {
	t.Parallel()
	m, dsn := newMetering(t), pgtest.NewDatabase(t)
	one, err := pgprod.Open(dsn, pgprod.WithMeterProvider(m.provider))
	require.NoError(t, err)
	two := openPool(t, dsn, pgprod.WithMeterProvider(m.provider))
	count := func() int {
		data, _ := m.collect(t)["db.client.connection.limit"].Data.(metricdata.Sum[int64])
		return len(data.DataPoints)
	}
	assert.Equal(t, 2, count())
	assert.NotEqual(t, statusOf(t, one).PoolName, statusOf(t, two).PoolName)
	require.NoError(t, one.Close())
	assert.Equal(t, 1, count())
}

func TestMetricsMayBeCollectedWhilePoolsAreOpenedAndClosed(t *testing.T) {
	t.Parallel()
	m, dsn := newMetering(t), pgtest.NewDatabase(t)
	over := make(chan struct{})
	var collector sync.WaitGroup
	collector.Go(func() { // ends with over
		for {
			select {
			case <-over:
				return
			default:
				m.collect(t)
			}
		}
	})
	for range 300 {
		db, err := pgprod.Open(dsn, pgprod.WithMeterProvider(m.provider))
		require.NoError(t, err)
		require.NoError(t, db.Close())
	}
	close(over)
	collector.Wait()
}

func TestOpeningAndClosingAThousandPoolsLeaksNothing(t *testing.T) {
	m, dsn := newMetering(t), pgtest.NewDatabase(t)
	cycle := func(n int) {
		for range n {
			db, err := pgprod.Open(dsn, pgprod.WithMeterProvider(m.provider))
			require.NoError(t, err)
			mustExec(t, db, "select 1")
			require.NoError(t, db.Close())
		}
	}
	heap := func() uint64 {
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	cycle(10)
	goroutines, before := runtime.NumGoroutine(), heap()
	cycle(1000)
	pgtest.Eventually(t, patience, func() bool { return runtime.NumGoroutine() <= goroutines+5 })
	assert.Less(t, heap(), before+4<<20)
	assert.NotContains(t, m.collect(t), dbconv.ClientConnectionCount{}.Name(), "a callback was left")
	admin := openPgx(t, dsn)
	pgtest.Eventually(t, patience, func() bool {
		return get[int](t, admin, "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()") == 0
	}, "a connection was left")
}

func TestCardinalityIsBoundedWhateverIsAsked(t *testing.T) {
	t.Parallel()
	m := newMetering(t)
	db := openPool(t, oneConn(pgtest.NewDatabase(t), "default_query_exec_mode", "simple_protocol"),
		pgprod.WithMeterProvider(m.provider))
	conn := hold(t, db)
	for i := range 1000 { // 100 000 are asked of package instruments, without a server
		_, err := conn.ExecContext(context.Background(), fmt.Sprintf("select %d -- %d", i, i))
		require.NoError(t, err)
	}
	assert.LessOrEqual(t, len(points[float64](t, m.collect(t)[dbconv.ClientOperationDuration{}.Name()])), 3)
	for i := range 1500 {
		_, err := conn.ExecContext(context.Background(), fmt.Sprintf("select * from no_%d", i))
		require.Error(t, err)
	}
	assert.LessOrEqual(t, len(points[float64](t, m.collect(t)[dbconv.ClientOperationDuration{}.Name()])), 1010)
}

func TestAFunctionThatRaisesAnySQLSTATEIsFewSeries(t *testing.T) {
	t.Parallel()
	m := newMetering(t)
	db := openPool(t, oneConn(pgtest.NewDatabase(t), "default_query_exec_mode", "simple_protocol"),
		pgprod.WithMeterProvider(m.provider))
	ctx := context.Background()
	raise := func(i int) string {
		return fmt.Sprintf("do $$begin raise exception using errcode = 'X%04d'; end$$", i)
	}
	require.NoError(t, pgprod.Raw(ctx, db, func(conn *pgx.Conn) error {
		for i := range 200 {
			_, err := conn.Exec(ctx, raise(i))
			require.Error(t, err)
			b := &pgx.Batch{}
			b.Queue(raise(i))
			b.Queue("select 1")
			require.Error(t, conn.SendBatch(ctx, b).Close())
		}
		return nil
	}))
	const most = 2 * 51 // of each summary, with the rest
	assert.LessOrEqual(t, len(points[float64](t, m.collect(t)[dbconv.ClientOperationDuration{}.Name()])), most)
}

// The global meter provider goes to the first SDK that is set, for ever: the test needs a process of its own.
func TestTheGlobalMeterProviderServesWheneverItIsSet(t *testing.T) {
	const alone = "PGPROD_TEST_ALONE"
	if os.Getenv(alone) == "" {
		t.Parallel()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		child := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
		child.Env = append(os.Environ(), alone+"=1", "DB_TEST_DSN="+pgtest.Shared(t).DSN("postgres"))
		out, err := child.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return
	}
	m, dsn := newMetering(t), pgtest.NewDatabase(t)
	before := openPool(t, with(oneConn(dsn), "pool_name", "opened before"))
	mustExec(t, before, "select")
	otel.SetMeterProvider(m.provider)
	after := openPool(t, with(oneConn(dsn), "pool_name", "opened after"))
	mustExec(t, before, "select")
	mustExec(t, after, "select")
	all := m.collect(t)
	for _, db := range []*sql.DB{before, after} {
		name := semconv.DBClientConnectionPoolName(statusOf(t, db).PoolName)
		assert.EqualValues(t, 1, sum(all["db.client.connection.limit"], name))
	}
	var statements uint64
	for _, p := range points[float64](t, all[dbconv.ClientOperationDuration{}.Name()]) {
		if name, _ := p.Attributes.Value(semconv.DBQuerySummaryKey); name.AsString() == "select" {
			statements += p.Count
		}
	}
	assert.EqualValues(t, 2, statements)
}

// plainProvider samples everything and exports nothing.
func plainProvider(t testing.TB) *sdktrace.TracerProvider {
	p := sdktrace.NewTracerProvider()
	t.Cleanup(func() { assert.NoError(t, p.Shutdown(context.Background())) })
	return p
}

// allocs are the allocations of one query of one row.
func allocs(t *testing.T, db *sql.DB, ctx context.Context, query string) float64 {
	t.Helper()
	db.SetMaxOpenConns(1)
	return testing.AllocsPerRun(500, func() {
		var n int
		if err := db.QueryRowContext(ctx, query, 1).Scan(&n); err != nil {
			t.Error(err)
		}
	})
}

// It is not parallel: AllocsPerRun counts those of all goroutines.
func TestTelemetryCostsFewAllocations(t *testing.T) {
	dsn := pgtest.NewDatabase(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	const one = "select $1::int"
	cost := func(ctx context.Context, opts ...pgprod.Option) float64 {
		return allocs(t, openPool(t, oneConn(dsn), opts...), ctx, one)
	}
	m := newMetering(t)
	meters, sampled := pgprod.WithMeterProvider(m.provider), plainProvider(t)
	under, parent := sampled.Tracer("application").Start(ctx, "parent")
	defer parent.End()
	plain := allocs(t, openPgx(t, dsn), ctx, one)
	none := cost(ctx, pgprod.WithMeterProvider(noopmetric.NewMeterProvider()), pgprod.WithTracerProvider(nooptrace.NewTracerProvider()))
	noSDK, metrics := cost(ctx), cost(ctx, meters)
	root := cost(ctx, meters, pgprod.WithTracerProvider(sampled))
	child := cost(under, meters, pgprod.WithTracerProvider(sampled))
	t.Logf("pgx %v, no telemetry %v, no SDK %v, metrics %v, and spans %v, below a parent %v", plain, none, noSDK, metrics, root, child)
	assert.LessOrEqual(t, none, plain+4)
	assert.LessOrEqual(t, noSDK, none+1)
	assert.LessOrEqual(t, metrics, none+1)
	assert.LessOrEqual(t, root, none+8)
	assert.LessOrEqual(t, child, none+8)
}

// It is not parallel, see above.
func TestTelemetryCostsNothingPerRow(t *testing.T) {
	dsn := pgtest.NewDatabase(t)
	m := newMetering(t)
	read := func(db *sql.DB) float64 {
		return testing.AllocsPerRun(5, func() {
			rows, err := db.Query("select i from generate_series(1, 10000) i")
			require.NoError(t, err)
			n := 0
			for rows.Next() {
				n++
			}
			require.NoError(t, rows.Close())
			require.Equal(t, 10000, n)
		})
	}
	plain := read(openPgx(t, dsn))
	ours := read(openPool(t, oneConn(dsn), pgprod.WithMeterProvider(m.provider), pgprod.WithTracerProvider(plainProvider(t))))
	t.Logf("pgx %v, pgprod %v", plain, ours)
	assert.Less(t, ours, plain+100, "of 10000 rows")
}
