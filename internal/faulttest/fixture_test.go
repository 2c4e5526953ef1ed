package faulttest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx, to compare with
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// patience is how long a test waits for what must happen at some time. It is no promise of the driver's: on a busy
// machine anything may take long.
const patience = 30 * time.Second

// quiet drops the log lines of pools that are expected to have much to say.
var quiet = pgprod.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))

// openPool opens a pool that the end of the test closes.
func openPool(t testing.TB, dsn string, opts ...pgprod.Option) *sql.DB {
	t.Helper()
	db, err := pgprod.Open(dsn, append([]pgprod.Option{quiet}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return db
}

// openPgx opens a pool of pgx's own driver, to compare with.
func openPgx(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return db
}

// with adds keys and values to a DSN that is a URL.
var with = pgtest.With

// querier is a *sql.DB, *sql.Conn or *sql.Tx.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// get runs a query for one value.
func get[T any](t testing.TB, q querier, query string, args ...any) (value T) {
	t.Helper()
	require.NoError(t, q.QueryRowContext(context.Background(), query, args...).Scan(&value), query)
	return value
}

// exec runs a statement that must not fail.
func exec(t testing.TB, q querier, query string, args ...any) {
	t.Helper()
	_, err := q.ExecContext(context.Background(), query, args...)
	require.NoError(t, err, query)
}

func statusOf(t testing.TB, db *sql.DB) pgprod.PoolStatus {
	t.Helper()
	s, err := pgprod.Status(db)
	require.NoError(t, err)
	return s
}

// fill makes the pool hold n idle connections, and returns their backends.
func fill(t testing.TB, db *sql.DB, n int) (pids []uint32) {
	t.Helper()
	conns := make([]*sql.Conn, n)
	for i := range conns {
		conn, err := db.Conn(context.Background())
		require.NoError(t, err)
		conns[i] = conn
		pids = append(pids, get[uint32](t, conn, "select pg_backend_pid()"))
	}
	for _, conn := range conns {
		require.NoError(t, conn.Close())
	}
	return pids
}

// requireHonest checks an error that a caller may see: it says something, and it doesn't make database/sql or the
// caller repeat what may have run.
func requireHonest(t testing.TB, err error) {
	t.Helper()
	require.Error(t, err)
	require.NotErrorIs(t, err, driver.ErrBadConn)
	require.NotContains(t, err.Error(), driver.ErrBadConn.Error())
}

// sqlState is the SQLSTATE in an error, "" if it has none.
func sqlState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}
