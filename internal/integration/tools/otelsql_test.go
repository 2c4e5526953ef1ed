package tools

import (
	"database/sql"
	"database/sql/driver"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/XSAM/otelsql"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// XSAM's otelsql makes a driver of its own around ours: the pool works below it, and can't be seen through it.
func TestOtelsqlWorksAroundPgprod(t *testing.T) {
	t.Parallel()
	for _, way := range []struct {
		name string
		open func(dsn string, opts ...otelsql.Option) (*sql.DB, error)
	}{
		{"Open", func(dsn string, opts ...otelsql.Option) (*sql.DB, error) {
			return otelsql.Open(pgprod.DriverName, dsn, opts...)
		}},
		{"Register", func(dsn string, opts ...otelsql.Option) (*sql.DB, error) {
			name, err := otelsql.Register(pgprod.DriverName, opts...)
			if err != nil {
				return nil, err
			}
			return sql.Open(name, dsn)
		}},
		{"OpenDB", func(dsn string, opts ...otelsql.Option) (*sql.DB, error) {
			connector, err := pgprod.NewConnector(dsn)
			if err != nil {
				return nil, err
			}
			return otelsql.OpenDB(connector, opts...), nil
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			recorder := tracetest.NewSpanRecorder()
			traces := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
			db, err := way.open(pgtest.NewDatabase(t), otelsql.WithTracerProvider(traces),
				otelsql.WithSpanOptions(otelsql.SpanOptions{Ping: true}))
			require.NoError(t, err)
			defer db.Close()
			useThrough(t, db)

			spans := map[string]int{}
			for _, s := range recorder.Ended() {
				spans[s.Name()]++
			}
			for _, name := range []string{"sql.conn.exec", "sql.conn.query", "sql.conn.prepare", "sql.stmt.query", "sql.conn.begin_tx",
				"sql.tx.commit", "sql.tx.rollback", "sql.rows", "sql.conn.ping"} {
				assert.NotZero(t, spans[name], "%s in %v", name, spans)
			}
			requireHidden(t, db)
		})
	}
}

// useThrough does what programs do.
func useThrough(t *testing.T, db *sql.DB) {
	t.Helper()
	require.NoError(t, db.PingContext(t.Context()))
	mustExec(t, db, "create table t (a int[], b jsonb)")
	mustExec(t, db, "insert into t values ($1, $2)", []int{1, 2}, map[string]int{"a": 1}) // arguments that only pgx knows
	assert.Equal(t, "{1,2}", get[string](t, db, "select a from t"))

	for _, commit := range []bool{true, false} {
		tx, err := db.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelSerializable})
		require.NoError(t, err)
		assert.Equal(t, "serializable", get[string](t, tx, "show transaction_isolation"))
		mustExec(t, tx, "insert into t values ('{}')")
		if commit {
			require.NoError(t, tx.Commit())
		} else {
			require.NoError(t, tx.Rollback())
		}
	}
	assert.Equal(t, 2, get[int](t, db, "select count(*) from t"))

	st, err := db.PrepareContext(t.Context(), "select $1::int * 2")
	require.NoError(t, err)
	for i := range 3 {
		var double int
		require.NoError(t, st.QueryRowContext(t.Context(), i).Scan(&double))
		assert.Equal(t, 2*i, double)
	}
	require.NoError(t, st.Close())
}

// requireHidden checks that pgprod says that it can't see its pool.
func requireHidden(t *testing.T, db *sql.DB) {
	t.Helper()
	const want = "pgprod: this *sql.DB belongs to driver *otelsql.otDriver, not to pgprod (or pgprod is wrapped by it)"
	_, err := pgprod.Status(db)
	require.EqualError(t, err, want)
	require.EqualError(t, pgprod.Raw(t.Context(), db, func(*pgx.Conn) error { return nil }), want)
	require.EqualError(t, pgprod.InTx(t.Context(), db, func(*sql.Tx) error { return nil }), want)

	health := pgprod.Check(t.Context(), db)
	assert.Equal(t, []string{"unhealthy", "disconnected", want}, []string{health.Status, health.Database, health.Reason})
	probe := httptest.NewRecorder()
	pgprod.HealthHandler(db).ServeHTTP(probe, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	assert.Equal(t, http.StatusServiceUnavailable, probe.Code)
	assert.Contains(t, probe.Body.String(), want)
}

func TestBesideOtelsqlAnotherHandleOnTheConnectorSeesThePool(t *testing.T) {
	t.Parallel()
	connector, err := pgprod.NewConnector(pgtest.NewDatabase(t))
	require.NoError(t, err)
	seen, wrapped := sql.OpenDB(connector), otelsql.OpenDB(connector)
	defer func() {
		require.NoError(t, wrapped.Close())
		require.NoError(t, seen.Close())
	}()
	conn, err := wrapped.Conn(t.Context())
	require.NoError(t, err)
	require.NoError(t, conn.PingContext(t.Context()))
	assert.Equal(t, 1, statusOf(t, seen).CheckedOut)
	assert.Equal(t, "healthy", pgprod.Check(t.Context(), seen).Status)
	require.NoError(t, conn.Close())
}

func TestThroughOtelsqlTheConnectionBelowIsReachedByItsRaw(t *testing.T) {
	t.Parallel()
	db, err := otelsql.Open(pgprod.DriverName, pgtest.NewDatabase(t))
	require.NoError(t, err)
	defer db.Close()
	mustExec(t, db, "create table t (a int)")
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.Raw(func(dc any) error {
		below := dc.(interface{ Raw() driver.Conn }).Raw().(interface{ Conn() *pgx.Conn }).Conn()
		n, err := below.CopyFrom(t.Context(), pgx.Identifier{"t"}, []string{"a"}, pgx.CopyFromRows([][]any{{1}, {2}}))
		assert.EqualValues(t, 2, n)
		return err
	}))
	assert.Equal(t, 2, get[int](t, conn, "select count(*) from t"))
}
