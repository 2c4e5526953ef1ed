package drivertest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx, to compare with
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// patience is how long a test waits for what must happen at some time.
const patience = 20 * time.Second

// openPool opens a pool that the end of the test closes. It has no preflight, which would take a connection and ask
// things half a second after the first was made: in the midst of a test, if the machine is busy.
func openPool(t testing.TB, dsn string, opts ...pgprod.Option) *sql.DB {
	t.Helper()
	db, err := pgprod.Open(dsn, append([]pgprod.Option{pgprod.WithPreflight(false)}, opts...)...)
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

// oneConn limits a pool to one connection, so that a test knows which one it gets.
func oneConn(dsn string, keysAndValues ...string) string {
	return with(dsn, append([]string{"pool_size", "1", "max_overflow", "0"}, keysAndValues...)...)
}

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

// mustExec runs a statement that must not fail.
func mustExec(t testing.TB, q querier, query string, args ...any) {
	t.Helper()
	_, err := q.ExecContext(context.Background(), query, args...)
	require.NoError(t, err, query)
}

func backendPID(t testing.TB, q querier) uint32 {
	t.Helper()
	return get[uint32](t, q, "select pg_backend_pid()")
}

func statusOf(t testing.TB, db *sql.DB) pgprod.PoolStatus {
	t.Helper()
	s, err := pgprod.Status(db)
	require.NoError(t, err)
	return s
}

// hold takes a connection, which is borrowed, out of the pool.
func hold(t testing.TB, db *sql.DB) *sql.Conn {
	t.Helper()
	conn, err := db.Conn(context.Background())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })       // it may have been closed
	pgtest.Eventually(t, patience, func() bool { // on a busy machine a dial may take longer than a test's pool_timeout
		err = conn.PingContext(context.Background())
		return !errors.Is(err, pgprod.ErrPoolTimeout)
	}, "no connection")
	require.NoError(t, err)
	return conn
}

// fill makes the pool hold n idle connections, and returns their backends.
func fill(t testing.TB, db *sql.DB, n int) (pids []uint32) {
	t.Helper()
	conns := make([]*sql.Conn, n)
	for i := range conns {
		conns[i] = hold(t, db)
		pids = append(pids, backendPID(t, conns[i]))
	}
	for _, conn := range conns {
		require.NoError(t, conn.Close())
	}
	require.Equal(t, n, statusOf(t, db).CheckedIn)
	return pids
}

// terminate ends backends of the shared server.
func terminate(t testing.TB, pids ...uint32) {
	t.Helper()
	require.NoError(t, pgtest.Shared(t).Terminate(context.Background(), pids...))
}

// requireCut checks the error of a statement that was ended before its time: it is the context's error and, since the
// server has answered, the server's as well.
func requireCut(t testing.TB, err error, cause error) {
	t.Helper()
	requireEnded(t, err, cause)
	require.Equal(t, "57014", sqlState(err), "%v", err)
}

// requireEnded checks the error of what the end of a context, or command_timeout, has ended: for whoever knows contexts,
// and for whoever knows pgx.
func requireEnded(t testing.TB, err error, cause error) {
	t.Helper()
	require.ErrorIs(t, err, cause)
	require.Equal(t, cause == context.DeadlineExceeded, pgconn.Timeout(err), "%v", err)
	require.False(t, pgconn.SafeToRetry(err), "%v", err)
}

// within fails the test if f takes longer than limit.
func within(t testing.TB, limit time.Duration, f func()) {
	t.Helper()
	start := time.Now()
	f()
	assert.Less(t, time.Since(start), limit)
}

// logBuffer collects what is logged, as text with all attributes.
type logBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// sqlState is the SQLSTATE in an error, "" if it has none.
func sqlState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}
