// Package tools tests that pgprod drops into the tools of the trade by the way that their manuals show: query builders,
// migrations, a job queue, scanners, types and another instrumentation, all on a real PostgreSQL. Its tests of lib/pq are
// the proof of the table for who comes from there.
//
// Linking lib/pq registers the driver "postgres", which is lib/pq itself here, to compare with.
package tools

import (
	"context"
	"database/sql"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// patience is how long a test waits for what must happen at some time.
const patience = 20 * time.Second

// open opens a pool of any driver by sql.Open, as a program does. The end of the test closes it.
func open(t testing.TB, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return db
}

// newPool opens a pool of pgprod on a database of its own.
func newPool(t testing.TB) *sql.DB {
	t.Helper()
	return open(t, pgprod.DriverName, pgtest.NewDatabase(t))
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
	require.NoError(t, q.QueryRowContext(t.Context(), query, args...).Scan(&value), query)
	return value
}

// mustExec runs a statement that must not fail.
func mustExec(t testing.TB, q querier, query string, args ...any) {
	t.Helper()
	_, err := q.ExecContext(t.Context(), query, args...)
	require.NoError(t, err, query)
}

// raw runs f on a connection of db by pgprod.Raw.
func raw(t testing.TB, db *sql.DB, f func(*pgx.Conn) error) {
	t.Helper()
	require.NoError(t, pgprod.Raw(t.Context(), db, f))
}

func statusOf(t testing.TB, db *sql.DB) pgprod.PoolStatus {
	t.Helper()
	s, err := pgprod.Status(db)
	require.NoError(t, err)
	return s
}

// requireNothingLeft checks that nobody holds a connection or an advisory lock. database/sql takes a moment to put away
// what a context ended.
func requireNothingLeft(t testing.TB, db *sql.DB) {
	t.Helper()
	pgtest.Eventually(t, patience, func() bool { return statusOf(t, db).CheckedOut == 0 }, "a connection is held")
	require.Zero(t, advisoryLocks(t, db))
}

// advisoryLocks counts those that are held or waited for in the database of db.
func advisoryLocks(t testing.TB, db *sql.DB) int {
	t.Helper()
	return get[int](t, db, `select count(*) from pg_locks where locktype = 'advisory'
		and database = (select oid from pg_database where datname = current_database())`)
}
