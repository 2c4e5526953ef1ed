package conventions

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/XSAM/otelsql"
	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// What the program's statements have and nobody may report: a literal, and a parameter.
const (
	literal   = "verysecret"
	parameter = "moresecret"
	mixed     = "UPDATE items SET name = 'fixed' WHERE id = $1" // a statement with both
)

// A client is a way for the program to get a *sql.DB that reports to a record. The end of the test closes it.
type client struct {
	name  string
	open  func(t *testing.T, dsn string, to *Record) *sql.DB
	extra func(t *testing.T, dsn string, to *Record) // what only this one can do; nil: nothing
}

var clients = []client{
	{"pgprod", openPgprod, pgprodsOwn},
	{"XSAM/otelsql", openOtelsql, nil},
	{"otelpgx", openOtelpgx, nil},
}

func openPgprod(t *testing.T, dsn string, to *Record) *sql.DB {
	db, err := pgprod.Open(dsn, pgprod.WithTracerProvider(to.Tracers), pgprod.WithMeterProvider(to.Meters),
		pgprod.WithPoolSize(2), pgprod.WithPoolTimeout(2*time.Second))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return db
}

// openOtelsql sets it up as its documentation advises.
func openOtelsql(t *testing.T, dsn string, to *Record) *sql.DB {
	opts := []otelsql.Option{otelsql.WithTracerProvider(to.Tracers), otelsql.WithMeterProvider(to.Meters),
		otelsql.WithAttributes(append(otelsql.AttributesFromDSN(dsn), semconv.DBSystemNamePostgreSQL)...)}
	db, err := otelsql.Open("pgx", dsn, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	metrics, err := otelsql.RegisterDBStatsMetrics(db, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, metrics.Unregister()) })
	return db
}

func openOtelpgx(t *testing.T, dsn string, to *Record) *sql.DB {
	config, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	config.ConnConfig.Tracer = otelpgx.NewTracer(otelpgx.WithTracerProvider(to.Tracers), otelpgx.WithMeterProvider(to.Meters))
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.NoError(t, otelpgx.RecordStats(pool, otelpgx.WithStatsMeterProvider(to.Meters)))
	db := stdlib.OpenDBFromPool(pool)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return db
}

// newDatabase returns the DSN of a database with the program's table.
func newDatabase(t *testing.T) string {
	t.Helper()
	dsn := pgtest.NewDatabase(t)
	conn, err := pgx.Connect(t.Context(), dsn) // what makes the table is not to be seen
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "create table items (id int primary key, name text); insert into items values (1, 'a'), (2, 'b')")
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	return dsn
}

// run runs the program with a client, and returns what that has reported.
func run(t *testing.T, c client, dsn string) *Record {
	t.Helper()
	to := NewRecord()
	ctx, parent := to.Tracers.Tracer(Program).Start(t.Context(), "program")
	db := c.open(t, dsn, to)
	statements(ctx, t, db)
	transactions(ctx, t, db)
	failures(ctx, t, db)
	nowhere := c.open(t, pgtest.With(dsn, "dbname", "nosuchdatabase"), to)
	require.Error(t, nowhere.PingContext(ctx))
	if c.extra != nil {
		c.extra(t, dsn, to)
	}
	parent.End()
	return to
}

func statements(ctx context.Context, t *testing.T, db *sql.DB) {
	exec := func(query string, args ...any) {
		t.Helper()
		_, err := db.ExecContext(ctx, query, args...)
		require.NoError(t, err, query)
	}
	rows, err := db.QueryContext(ctx, "SELECT id, name FROM items WHERE id > $1", 0)
	require.NoError(t, err)
	for rows.Next() {
	}
	require.NoError(t, errors.Join(rows.Err(), rows.Close()))
	exec("INSERT INTO items VALUES (3, '" + literal + "')")
	exec("UPDATE items SET name = $1 WHERE id = $2", parameter, 3)
	exec(mixed, 3)
	exec("-- nothing")
	stmt, err := db.PrepareContext(ctx, "DELETE FROM items WHERE id = $1")
	require.NoError(t, err)
	for id := range 2 {
		_, err := stmt.ExecContext(ctx, 10+id)
		require.NoError(t, err)
	}
	require.NoError(t, stmt.Close())
	require.NoError(t, db.PingContext(ctx))
}

func transactions(ctx context.Context, t *testing.T, db *sql.DB) {
	for _, end := range []func(*sql.Tx) error{(*sql.Tx).Commit, (*sql.Tx).Rollback} {
		tx, err := db.BeginTx(ctx, nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(ctx, "INSERT INTO items SELECT 100 + max(id), 'c' FROM items")
		require.NoError(t, err)
		require.NoError(t, end(tx))
	}
}

// failures has the server refuse statements, and the client give one up.
func failures(ctx context.Context, t *testing.T, db *sql.DB) {
	for _, query := range []string{"INSERT INTO items VALUES (1, '" + literal + "')", "SELEC 1", "SELECT * FROM missing"} {
		_, err := db.ExecContext(ctx, query)
		require.Error(t, err, query)
	}
	soon, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err := db.ExecContext(soon, "SELECT pg_sleep(100)")
	require.Error(t, err)
}

// pgprodsOwn sends batches and a COPY, has a transaction begin again, and has callers wait.
func pgprodsOwn(t *testing.T, dsn string, to *Record) {
	db, err := pgprod.Open(dsn, pgprod.WithTracerProvider(to.Tracers), pgprod.WithMeterProvider(to.Meters), pgprod.WithPoolName("own"),
		pgprod.WithPoolSize(1), pgprod.WithMaxOverflow(0), pgprod.WithPoolTimeout(10*time.Second), pgprod.WithPreflight(false))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	ctx, parent := to.Tracers.Tracer(Program).Start(t.Context(), "own")
	defer parent.End()
	require.NoError(t, pgprod.Raw(ctx, db, func(conn *pgx.Conn) error {
		alike, mixed := &pgx.Batch{}, &pgx.Batch{}
		alike.Queue("UPDATE items SET name = $1 WHERE id = $2", parameter, 1)
		alike.Queue("UPDATE items SET name = $1 WHERE id = $2", parameter, 2)
		mixed.Queue("UPDATE items SET name = $1 WHERE id = $2", parameter, 1)
		mixed.Queue("DELETE FROM items WHERE id = $1", 2)
		if err := errors.Join(conn.SendBatch(ctx, alike).Close(), conn.SendBatch(ctx, mixed).Close()); err != nil {
			return err
		}
		_, err := conn.CopyFrom(ctx, pgx.Identifier{"items"}, []string{"id", "name"}, pgx.CopyFromRows([][]any{{7, parameter}}))
		return err
	}))
	attempts := 0
	require.NoError(t, pgprod.InTx(ctx, db, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "UPDATE items SET id = id"); err != nil {
			return err
		}
		if attempts++; attempts > 1 {
			return nil
		}
		_, err := tx.ExecContext(ctx, "DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '40P01'; END $$")
		return err
	}))
	require.Equal(t, "connected", pgprod.Check(ctx, db).Database)
	wait(t, db, context.Background())
	wait(t, db, ctx)
	slow(ctx, t, dsn, to)
	pgtest.Eventually(t, 20*time.Second, func() bool { return to.has("pgprod.server.connection.limit") }, "no preflight")
}

// several opens a pool that has two hosts, of which the first refuses. It isn't part of the program, whose server.address is that
// of one.
func several(t *testing.T, dsn string, to *Record) {
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	u.Host = "127.0.0.1:1," + u.Host
	db, err := pgprod.Open(u.String(), pgprod.WithTracerProvider(to.Tracers), pgprod.WithMeterProvider(to.Meters), pgprod.WithPreflight(false))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	require.NoError(t, db.PingContext(t.Context()))
	pgtest.Eventually(t, 20*time.Second, func() bool { return to.has("pgprod.host.latency") }, "nobody asks the hosts")
}

// slow has a statement wait for another program's lock until the pool has found out.
func slow(ctx context.Context, t *testing.T, dsn string, to *Record) {
	db, err := pgprod.Open(pgtest.With(dsn, "compute_query_id", "on"), pgprod.WithTracerProvider(to.Tracers), pgprod.WithMeterProvider(to.Meters),
		pgprod.WithSlowQuery(100*time.Millisecond), pgprod.WithPreflight(false))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	other, err := pgx.Connect(ctx, dsn)
	require.NoError(t, err)
	_, err = other.Exec(ctx, "truncate items; insert into items values (1, 'a'); commit; begin; update items set id = id")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { // ended by the end of the lock
		_, err := db.ExecContext(ctx, "UPDATE items SET name = $1", parameter)
		done <- err
	}()
	page := pgprod.DebugHandler(db)
	pgtest.Eventually(t, 20*time.Second, func() bool {
		answer := httptest.NewRecorder()
		page.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/?format=json", nil))
		return strings.Contains(answer.Body.String(), "waits for Lock/transactionid held by")
	}, "no cause")
	require.NoError(t, other.Close(ctx))
	require.NoError(t, <-done)
}

// wait has a caller wait for the pool's only connection.
func wait(t *testing.T, db *sql.DB, ctx context.Context) {
	held, err := db.Conn(context.Background())
	require.NoError(t, err)
	require.NoError(t, held.PingContext(context.Background())) // it is borrowed now
	done := make(chan error, 1)
	go func() { // ended by the connection given back
		_, err := db.ExecContext(ctx, "TRUNCATE items")
		done <- err
	}()
	pgtest.Eventually(t, 20*time.Second, func() bool {
		status, err := pgprod.Status(db)
		return err == nil && status.Waiting == 1
	}, "nobody waits")
	require.NoError(t, held.Close())
	require.NoError(t, <-done)
}
