package drivertest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// requireReaches checks that a pool works, and that it reaches the database of dsn.
func requireReaches(t *testing.T, db *sql.DB, dsn string) {
	t.Helper()
	require.Equal(t, pgtest.DatabaseName(dsn), get[string](t, db, "select current_database()"))
}

// keywords writes a URL as keyword/value pairs.
func keywords(t *testing.T, dsn string) string {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	return fmt.Sprintf("host='%s' port=%d user='%s' password='%s' dbname='%s' sslmode=disable",
		cfg.Host, cfg.Port, cfg.User, cfg.Password, cfg.Database)
}

func TestSQLOpenTakesAURLOrKeywordsAndValues(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	for _, text := range []string{with(dsn, "pool_size", "3"), keywords(t, dsn) + " pool_size = 3"} {
		db, err := sql.Open("pgprod", text)
		require.NoError(t, err)
		requireReaches(t, db, dsn)
		assert.Equal(t, 3, statusOf(t, db).PoolSize)
		require.NoError(t, db.Close())
	}
}

func TestAnEmptyDSNComesFromTheEnvironment(t *testing.T) {
	dsn := pgtest.NewDatabase(t)
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	wrong := "postgres://127.0.0.1:1/wrong"
	for name, vars := range map[string]map[string]string{
		"DB_DSN":       {"DB_DSN": dsn, "DATABASE_URL": wrong, "PGHOST": "192.0.2.1"},
		"DATABASE_URL": {"DATABASE_URL": dsn, "PGHOST": "192.0.2.1"},
		"PG*": {"PGHOST": cfg.Host, "PGPORT": fmt.Sprint(cfg.Port), "PGUSER": cfg.User, "PGPASSWORD": cfg.Password,
			"PGDATABASE": cfg.Database, "PGSSLMODE": "disable"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, unset := range []string{"DB_DSN", "DATABASE_URL"} {
				t.Setenv(unset, "")
			}
			for key, value := range vars {
				t.Setenv(key, value)
			}
			t.Setenv("DB_POOL_SIZE", "4")
			db, err := sql.Open("pgprod", "")
			require.NoError(t, err)
			defer db.Close()
			requireReaches(t, db, dsn)
			assert.Equal(t, 4, statusOf(t, db).PoolSize)
		})
	}
}

func TestWhereNoDSNIsGivenTheErrorOfADialSaysSo(t *testing.T) {
	for _, name := range []string{"DB_DSN", "DATABASE_URL", "PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGSERVICE"} {
		t.Setenv(name, "")
	}
	var logged logBuffer
	db := openPool(t, "", pgprod.WithLogger(logged.logger()), pgprod.WithPoolTimeout(100*time.Millisecond),
		pgprod.WithConnectTimeout(time.Nanosecond)) // there may be a server on this machine that would let us in
	assert.Empty(t, logged.String(), "libraries open it so to get at the driver")
	require.ErrorContains(t, db.Ping(), "neither DB_DSN nor DATABASE_URL nor PGHOST is set")
}

func TestOpenTakesOptionsOverTheDSNOverTheEnvironment(t *testing.T) {
	dsn := with(pgtest.NewDatabase(t), "pool_size", "3", "max_overflow", "5")
	t.Setenv("DB_POOL_SIZE", "2")
	t.Setenv("DB_MAX_OVERFLOW", "2")
	t.Setenv("DB_POOL_NAME", "from the environment")
	db := openPool(t, dsn, pgprod.WithPoolSize(4))
	requireReaches(t, db, dsn)
	status := statusOf(t, db)
	assert.Equal(t, []any{4, 5, "from the environment"}, []any{status.PoolSize, status.MaxOverflow, status.PoolName})
}

func TestAConnectorServesSQLOpenDB(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	connector, err := pgprod.NewConnector(dsn, pgprod.WithPoolSize(3))
	require.NoError(t, err)
	db := sql.OpenDB(connector)
	requireReaches(t, db, dsn)
	assert.Equal(t, 3, statusOf(t, db).PoolSize)
	require.NoError(t, db.Close(), "closes the connector")
	require.NoError(t, connector.Close(), "a second time")
	session, err := connector.Connect(t.Context())
	require.NoError(t, err)
	require.ErrorContains(t, session.(driver.Pinger).Ping(t.Context()), "closed")
}

func TestAConnectorThatNoDBUsedCanBeClosed(t *testing.T) {
	t.Parallel()
	connector, err := pgprod.NewConnector("host=localhost")
	require.NoError(t, err)
	require.NoError(t, connector.Close())
}

func TestRegisterServesUnderAnotherNameAndMayBeRepeated(t *testing.T) {
	t.Parallel()
	const name = "pgprod under another name"
	pgprod.Register(name)
	pgprod.Register(name)
	pgprod.Register(pgprod.DriverName)
	dsn := pgtest.NewDatabase(t)
	db, err := sql.Open(name, dsn)
	require.NoError(t, err)
	defer db.Close()
	requireReaches(t, db, dsn)
	assert.Positive(t, statusOf(t, db).PoolSize)
}

func TestRegisterPanicsIfAnotherDriverHasTheNameAndWorksAfterwards(t *testing.T) {
	t.Parallel()
	require.Panics(t, func() { pgprod.Register("pgx") })
	require.Panics(t, func() { pgprod.Register("pgx") }, "not taken for one of ours")
	pgprod.Register("pgprod after a panic")
	assert.Contains(t, sql.Drivers(), "pgprod after a panic")
}

func TestDriverOpenGivesAConnectionWithAPoolOfItsOwn(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	db := openPool(t, dsn)
	for _, d := range []driver.Driver{db.Driver(), registeredDriver(t)} {
		conn, err := d.Open(dsn)
		require.NoError(t, err)
		_, err = conn.(driver.ExecerContext).ExecContext(t.Context(), "select 1", nil)
		require.NoError(t, err)
		require.NoError(t, conn.Close(), "or NewDatabase finds its backend")
		require.Zero(t, statusOf(t, db).CheckedIn)

		_, err = d.Open("pool_size=none")
		require.ErrorContains(t, err, "pool_size")
	}
}

// registeredDriver is what database/sql knows under our name.
func registeredDriver(t *testing.T) driver.Driver {
	t.Helper()
	db, err := sql.Open("pgprod", "host=localhost")
	require.NoError(t, err)
	defer db.Close()
	return db.Driver()
}

func TestWhatIsWrongFailsAtOpenInOneErrorWithoutASecretAndOpensNothing(t *testing.T) {
	listener, accepted := countingListener(t)
	t.Setenv("DB_MAX_OVERFLOW", "many")
	t.Setenv("DB_PASSWORD", "s3cret-env")
	host, port, err := net.SplitHostPort(listener)
	require.NoError(t, err)
	dsn := fmt.Sprintf("postgres://me:s3cret-dsn@%s:%s/db?sslmode=disable&pool_timeout=soon&pool_pre_ping=maybe", host, port)

	_, sqlOpen := sql.Open("pgprod", dsn)
	_, open := pgprod.Open(dsn, pgprod.WithPoolSize(0), pgprod.WithPoolRecycle(-time.Second))
	_, connector := pgprod.NewConnector(dsn)
	for _, err := range []error{sqlOpen, open, connector} {
		require.Error(t, err)
		for _, key := range []string{"pgprod: ", "pool_timeout", "pool_pre_ping", "DB_MAX_OVERFLOW"} {
			assert.ErrorContains(t, err, key)
		}
		assert.NotContains(t, err.Error(), "s3cret")
	}
	assert.ErrorContains(t, open, "WithPoolSize")
	assert.ErrorContains(t, open, "WithPoolRecycle")
	assert.Zero(t, accepted(), "nothing was opened")
}

func TestADSNThatCannotBeReadFailsAtOpenWithoutASecret(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{
		"postgres://me:s3cret@host:port/db",
		"postgres://me:s3cret%@host/db",
		"postgres://me:s3cret@host/db?sslmode=s3cret",
		"host=localhost password='s3cret",
		"s3cret",
		"postgres://me:p@s3cret@127.0.0.1/db",
		"postgres://me:12/s3cret@127.0.0.1/db",
	} {
		_, err := sql.Open("pgprod", dsn)
		require.Error(t, err)
		assert.ErrorContains(t, err, "pgprod: ")
		assert.NotContains(t, err.Error(), "s3cret")
	}
}

func TestOpenMakesNoConnectionBeforeTheFirstUse(t *testing.T) {
	t.Parallel()
	listener, accepted := countingListener(t)
	db, err := sql.Open("pgprod", "postgres://"+listener+"/db?sslmode=disable")
	require.NoError(t, err)
	_ = statusOf(t, db)
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.NoError(t, db.Close())
	assert.Zero(t, accepted())
}

// countingListener accepts connections, closes them, and counts them.
func countingListener(t *testing.T) (address string, accepted func() int) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	count := make(chan int, 1)
	go func() { // ends when the function returned has closed the listener
		n := 0
		for {
			conn, err := listener.Accept()
			if err != nil {
				count <- n
				return
			}
			n++
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String(), func() int {
		_ = listener.Close()
		return <-count
	}
}

func TestPoolNamesAreUniqueAndFreedByClose(t *testing.T) {
	t.Parallel()
	dsn := with(pgtest.NewDatabase(t), "pool_name", t.Name())
	open := func() (*sql.DB, string) {
		db, err := sql.Open("pgprod", dsn)
		require.NoError(t, err)
		t.Cleanup(func() { _ = db.Close() })
		return db, statusOf(t, db).PoolName
	}
	_, first := open()
	db, second := open()
	_, third := open()
	assert.Equal(t, []string{t.Name(), t.Name() + "#2", t.Name() + "#3"}, []string{first, second, third})

	require.NoError(t, db.Close())
	_, again := open()
	assert.Equal(t, second, again)
	_, err := pgprod.Open(dsn, pgprod.WithPoolSize(0))
	require.Error(t, err)
	_, next := open()
	assert.Equal(t, t.Name()+"#4", next, "what couldn't be opened has taken no name")
}

func TestThePoolIsNamedAfterItsDatabase(t *testing.T) {
	t.Parallel()
	db := openPool(t, "postgres://db.example.com:6432/shop")
	assert.Equal(t, "shop", statusOf(t, db).PoolName)
}

func TestStatusAndRawOfAForeignDBSayWhoseItIs(t *testing.T) {
	t.Parallel()
	foreign := openPgx(t, "postgres://127.0.0.1:1/nowhere")
	connector, err := pgprod.NewConnector("postgres://127.0.0.1:1/elsewhere")
	require.NoError(t, err)
	wrapped := sql.OpenDB(wrappingConnector{connector})
	defer wrapped.Close()

	for db, name := range map[*sql.DB]string{foreign: "*stdlib.Driver", wrapped: "wrappingDriver"} {
		_, err := pgprod.Status(db)
		require.ErrorContains(t, err, "pgprod: ")
		require.ErrorContains(t, err, name)
		err = pgprod.Raw(t.Context(), db, func(*pgx.Conn) error { t.Error("called"); return nil })
		require.ErrorContains(t, err, name)
	}
}

// wrappingConnector is what instrumentation libraries make of a connector.
type wrappingConnector struct{ *pgprod.Connector }

func (c wrappingConnector) Driver() driver.Driver { return wrappingDriver{c.Connector.Driver()} }

func (c wrappingConnector) Connect(ctx context.Context) (driver.Conn, error) {
	return c.Connector.Connect(ctx)
}

type wrappingDriver struct{ driver.Driver }
