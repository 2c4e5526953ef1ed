package tools

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// sums are a metric's values by the pool's name.
func sums(t *testing.T, r *sdkmetric.ManualReader, metric string) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(t, r.Collect(t.Context(), &all))
	values := map[string]int64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			data, ok := m.Data.(metricdata.Sum[int64])
			if !ok || m.Name != metric {
				continue
			}
			for _, p := range data.DataPoints {
				name, _ := p.Attributes.Value(semconv.DBClientConnectionPoolNameKey)
				values[name.AsString()] += p.Value
			}
		}
	}
	return values
}

// poolNames are those in the metrics that r collects, with each pool's largest number of connections.
func poolNames(t *testing.T, r *sdkmetric.ManualReader) map[string]int64 {
	t.Helper()
	return sums(t, r, "db.client.connection.limit")
}

// bothHosts is a URL that names both servers, the primary first.
func bothHosts(primary, standby *pgtest.Server) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d,127.0.0.1:%d/postgres?sslmode=disable", primary.Port(), standby.Port())
}

func TestAProcessHasAPoolForThePrimaryAndOneForTheStandby(t *testing.T) {
	primary := pgtest.StartTB(t, pgtest.Config{})
	standby := pgtest.StartTB(t, pgtest.Config{StandbyOf: primary})
	hosts := bothHosts(primary, standby)
	t.Setenv("DB_DSN", hosts+"&target_session_attrs=read-write")
	t.Setenv("DB_POOL_SIZE", "3")
	t.Setenv("DB_MAX_OVERFLOW", "0")
	t.Setenv("REPLICA_DSN", hosts+"&target_session_attrs=prefer-standby&env_prefix=REPLICA_")
	t.Setenv("REPLICA_POOL_SIZE", "5")
	t.Setenv("REPLICA_MAX_OVERFLOW", "2")
	t.Setenv("REPLICA_POOL_NAME", "replica")
	reader := sdkmetric.NewManualReader()
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	defer func() { require.NoError(t, provider.Shutdown(context.Background())) }()

	writes, err := pgprod.Open("", pgprod.WithMeterProvider(provider), pgprod.WithPoolName("writes"))
	require.NoError(t, err)
	defer writes.Close()
	reads, err := pgprod.Open("", pgprod.WithMeterProvider(provider), pgprod.WithEnvPrefix("REPLICA_"))
	require.NoError(t, err)
	defer reads.Close()

	mustExec(t, writes, "create table t as select 42 as a")
	require.NoError(t, standby.CatchUp(t.Context()))
	assert.Equal(t, 42, get[int](t, reads, "select a from t"))
	assert.False(t, get[bool](t, writes, "select pg_is_in_recovery()"))
	assert.True(t, get[bool](t, reads, "select pg_is_in_recovery()"))
	_, err = reads.Exec("insert into t values (43)")
	require.ErrorContains(t, err, "25006")

	assert.Equal(t, map[string]int64{"writes": 3, "replica": 7}, poolNames(t, reader))
	conn, err := reads.Conn(t.Context())
	require.NoError(t, err)
	require.NoError(t, conn.PingContext(t.Context()))
	w, r := statusOf(t, writes), statusOf(t, reads)
	assert.Equal(t, []any{"writes", 3, 0, 0}, []any{w.PoolName, w.PoolSize, w.MaxOverflow, w.CheckedOut})
	assert.Equal(t, []any{"replica", 5, 2, 1}, []any{r.PoolName, r.PoolSize, r.MaxOverflow, r.CheckedOut})
	require.NoError(t, conn.Close())

	require.NoError(t, standby.Shutdown(t.Context(), pgtest.Fast))
	pgtest.Eventually(t, patience, func() bool {
		var inRecovery bool
		err := reads.QueryRow("select pg_is_in_recovery()").Scan(&inRecovery)
		return err == nil && !inRecovery
	}, "without a standby the primary serves")
}

// failures are the dials that failed in each pool, by its metrics.
func failures(t *testing.T, r *sdkmetric.ManualReader) map[string]int64 {
	t.Helper()
	return sums(t, r, "pgprod.connection.failures")
}

func TestWhenOneServerIsDownOnlyItsPoolIsUnhealthy(t *testing.T) {
	primary := pgtest.StartTB(t, pgtest.Config{})
	standby := pgtest.StartTB(t, pgtest.Config{StandbyOf: primary})
	t.Setenv("DB_DSN", with(primary.DSN(""), "target_session_attrs", "read-write"))
	t.Setenv("DB_POOL_NAME", "writes")
	t.Setenv("REPLICA_DSN", with(standby.DSN(""), "target_session_attrs", "prefer-standby"))
	t.Setenv("REPLICA_POOL_NAME", "replica")
	t.Setenv("REPLICA_POOL_TIMEOUT", "1s")
	reader := sdkmetric.NewManualReader()
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	defer func() { require.NoError(t, provider.Shutdown(context.Background())) }()
	pools := map[string]*sql.DB{}
	for name, prefix := range map[string]string{"writes": "DB_", "replica": "REPLICA_"} {
		db, err := pgprod.Open("", pgprod.WithEnvPrefix(prefix), pgprod.WithMeterProvider(provider),
			pgprod.WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		defer db.Close()
		pools[name] = db
		var health pgprod.Health
		pgtest.Eventually(t, patience, func() bool {
			health = pgprod.Check(t.Context(), db)
			return health.Status == "healthy"
		}, "%s is not healthy", name)
		assert.Equal(t, []any{name, name == "replica"}, []any{health.Pool.PoolName, health.InRecovery})
	}
	assert.Zero(t, failures(t, reader)["replica"])

	require.NoError(t, standby.Shutdown(t.Context(), pgtest.Fast))
	pgtest.Eventually(t, patience, func() bool { return pgprod.Check(t.Context(), pools["replica"]).Status == "unhealthy" },
		"a check repeats an answer for a second")
	require.ErrorIs(t, pools["replica"].Ping(), pgprod.ErrPoolTimeout)
	assert.Equal(t, "healthy", pgprod.Check(t.Context(), pools["writes"]).Status)
	require.NoError(t, pools["writes"].Ping())
	assert.Positive(t, failures(t, reader)["replica"])
	assert.Zero(t, failures(t, reader)["writes"])
	assert.Positive(t, sums(t, reader, "db.client.connection.timeouts")["replica"])
	assert.Zero(t, sums(t, reader, "db.client.connection.timeouts")["writes"])
}

func TestTheEnvironmentOfOnePrefixSaysNothingToAnother(t *testing.T) {
	orders, audit := pgtest.NewDatabase(t), pgtest.NewDatabase(t)
	t.Setenv("DB_DSN", orders)
	t.Setenv("DB_POOL_SIZE", "3")
	t.Setenv("AUDIT_POOL_SIZE", "5")
	first := open(t, pgprod.DriverName, "")
	second := open(t, pgprod.DriverName, with(audit, "env_prefix", "AUDIT_"))
	for db, want := range map[*sql.DB]string{first: orders, second: audit} {
		assert.Equal(t, pgtest.DatabaseName(want), get[string](t, db, "select current_database()"))
	}
	assert.Equal(t, 3, statusOf(t, first).PoolSize)
	assert.Equal(t, 5, statusOf(t, second).PoolSize)

	_, err := pgprod.Open("", pgprod.WithEnvPrefix("OTHER_"))
	require.ErrorContains(t, err, "OTHER_DSN", "it is not DB_DSN that is taken instead")
}

func TestTwoPoolsOnOneDatabaseHaveDifferentNames(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	database := pgtest.DatabaseName(dsn)
	reader := sdkmetric.NewManualReader()
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	var names []string
	for size := range 2 {
		db, err := pgprod.Open(dsn, pgprod.WithMeterProvider(provider), pgprod.WithPoolSize(size+1))
		require.NoError(t, err)
		defer db.Close()
		require.NoError(t, db.PingContext(t.Context()))
		names = append(names, statusOf(t, db).PoolName)
	}
	assert.Equal(t, []string{database, database + "#2"}, names)
	assert.Equal(t, map[string]int64{names[0]: 11, names[1]: 12}, poolNames(t, reader))
}
