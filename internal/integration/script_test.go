package integration

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// The names of the script's pools. The small one is there for its timeouts, the next one for what is asked about the server, and
// the last one has several hosts.
const (
	mainPool    = "main"
	smallPool   = "small"
	askedPool   = "asked"
	severalPool = "several"
)

// A script is what an application does to a database, so that each span and metric is seen at least once.
type script struct {
	t    *testing.T
	dsn  string
	opts []pgprod.Option // where telemetry goes

	timeouts int    // how often the small pool's callers got ErrPoolTimeout
	refused  string // the server's words for the statement that fails
}

func newScript(t *testing.T, opts ...pgprod.Option) *script {
	t.Helper()
	s := &script{t: t, dsn: pgtest.NewDatabase(t), opts: opts}
	conn, err := pgx.Connect(t.Context(), s.dsn) // what makes the tables is not to be seen
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `create table items (id int primary key, name text);
		insert into items values (1, 'a'), (2, 'b'), (3, 'c');
		create table labels (id int primary key); insert into labels values (1)`)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	return s
}

// open opens a pool that the end of the test closes.
func (s *script) open(opts ...pgprod.Option) *sql.DB {
	s.t.Helper()
	opts = slices.Concat([]pgprod.Option{pgprod.WithPreflight(false)}, opts, s.opts) // it would take a connection meanwhile
	db, err := pgprod.Open(s.dsn, opts...)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { assert.NoError(s.t, db.Close()) })
	return db
}

// run runs it all. full is called while the main pool is full and one caller waits.
func (s *script) run(ctx context.Context, full func()) {
	s.t.Helper()
	db := s.open(pgprod.WithPoolName(mainPool), pgprod.WithPoolSize(1), pgprod.WithMaxOverflow(1))
	s.statements(ctx, db)
	s.raw(ctx, db)
	s.queue(ctx, db, full)
	s.timeout(ctx)
	s.ask()
}

// several opens a pool that has two hosts, of which the first refuses, and waits until the metrics have what is known of the
// other one.
func (s *script) several() {
	s.t.Helper()
	u, err := url.Parse(s.dsn)
	require.NoError(s.t, err)
	u.Host = "127.0.0.1:1," + u.Host
	opts := append([]pgprod.Option{pgprod.WithPreflight(false), pgprod.WithPoolName(severalPool)}, s.opts...)
	db, err := pgprod.Open(u.String(), opts...)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { assert.NoError(s.t, db.Close()) })
	require.NoError(s.t, db.PingContext(s.t.Context()))
	pgtest.Eventually(s.t, 20*time.Second, func() bool {
		status, err := pgprod.Status(db)
		return err == nil && status.Hosts[0].State == "down" && status.Hosts[1].Latency > 0
	}, "nobody asks the hosts")
}

func (s *script) exec(ctx context.Context, db interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, query string, args ...any) {
	s.t.Helper()
	_, err := db.ExecContext(ctx, query, args...)
	require.NoError(s.t, err, query)
}

func (s *script) statements(ctx context.Context, db *sql.DB) {
	s.t.Helper()
	rows, err := db.QueryContext(ctx, "SELECT id, name FROM items WHERE id > $1", 0)
	require.NoError(s.t, err)
	n := 0
	for ; rows.Next(); n++ {
		var id int
		var name string
		require.NoError(s.t, rows.Scan(&id, &name))
	}
	require.NoError(s.t, rows.Err())
	require.Equal(s.t, 3, n)

	s.exec(ctx, db, "INSERT INTO items VALUES (10, 'secret')")

	stmt, err := db.PrepareContext(ctx, "UPDATE items SET name = $1 WHERE id = $2")
	require.NoError(s.t, err)
	for range 2 {
		_, err = stmt.ExecContext(ctx, "secret", 1)
		require.NoError(s.t, err)
	}
	require.NoError(s.t, stmt.Close())

	tx, err := db.BeginTx(ctx, nil)
	require.NoError(s.t, err)
	s.exec(ctx, tx, "DELETE FROM items WHERE id = $1", 3)
	require.NoError(s.t, tx.Commit())

	s.beginsAgain(ctx, db)

	_, err = db.ExecContext(ctx, "INSERT INTO labels VALUES (1)")
	refused, ok := errors.AsType[*pgconn.PgError](err)
	require.True(s.t, ok, "%v", err)
	require.Equal(s.t, "23505", refused.Code)
	s.refused = refused.Message
}

// conflict raises what a server says to one of two transactions that wait for each other.
const conflict = "DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '40P01'; END $$"

// beginsAgain has InTx run a transaction whose first attempt is rolled back.
func (s *script) beginsAgain(ctx context.Context, db *sql.DB) {
	s.t.Helper()
	attempts := 0
	require.NoError(s.t, pgprod.InTx(ctx, db, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "UPDATE labels SET id = id"); err != nil {
			return err
		}
		if attempts++; attempts > 1 {
			return nil
		}
		_, err := tx.ExecContext(ctx, conflict)
		return err
	}))
	require.Equal(s.t, 2, attempts)
}

func (s *script) raw(ctx context.Context, db *sql.DB) {
	s.t.Helper()
	require.NoError(s.t, pgprod.Raw(ctx, db, func(conn *pgx.Conn) error {
		alike, mixed := &pgx.Batch{}, &pgx.Batch{}
		for i := range 3 {
			alike.Queue("UPDATE items SET name = $1 WHERE id = $2", "secret", i)
		}
		mixed.Queue("UPDATE items SET name = $1 WHERE id = $2", "secret", 1)
		mixed.Queue("DELETE FROM items WHERE id = $1", 2)
		if err := errors.Join(conn.SendBatch(ctx, alike).Close(), conn.SendBatch(ctx, mixed).Close()); err != nil {
			return err
		}
		_, err := conn.CopyFrom(ctx, pgx.Identifier{"labels"}, []string{"id"}, pgx.CopyFromRows([][]any{{2}, {3}}))
		return err
	}))
}

// queue has three callers want one of two connections.
func (s *script) queue(ctx context.Context, db *sql.DB, full func()) {
	s.t.Helper()
	var held []*sql.Conn
	for range 2 { // the second is an overflow connection
		conn, err := db.Conn(ctx)
		require.NoError(s.t, err)
		require.NoError(s.t, conn.PingContext(ctx)) // it is borrowed now
		held = append(held, conn)
	}
	done := make(chan error, 1)
	go func() { // ended by a connection given back
		_, err := db.ExecContext(ctx, "TRUNCATE labels")
		done <- err
	}()
	pgtest.Eventually(s.t, patience, func() bool {
		status, err := pgprod.Status(db)
		return err == nil && status.Waiting == 1
	}, "nobody waits")
	full()
	require.NoError(s.t, held[0].Close())
	require.NoError(s.t, <-done)
	require.NoError(s.t, held[1].Close())
}

// ask has the preflight and a health check look at the server.
func (s *script) ask() {
	s.t.Helper()
	db := s.open(pgprod.WithPoolName(askedPool), pgprod.WithPreflight(true))
	require.NoError(s.t, db.PingContext(context.Background()))
	pgtest.Eventually(s.t, patience, func() bool { // there is one at least: the role is a superuser
		return len(pgprod.Check(context.Background(), db).Warnings) > 0
	}, "no preflight")
}

// timeout has a caller wait in vain.
func (s *script) timeout(ctx context.Context) {
	s.t.Helper()
	db := s.open(pgprod.WithPoolName(smallPool), pgprod.WithPoolSize(1), pgprod.WithMaxOverflow(0),
		pgprod.WithPoolTimeout(2*time.Second))
	holder, err := db.Conn(context.Background())
	require.NoError(s.t, err)
	pgtest.Eventually(s.t, patience, func() bool { // on a busy machine the dial may take longer than pool_timeout
		err = holder.PingContext(context.Background())
		if errors.Is(err, pgprod.ErrPoolTimeout) {
			s.timeouts++
			return false
		}
		return true
	}, "no connection")
	require.NoError(s.t, err)
	require.ErrorIs(s.t, db.PingContext(ctx), pgprod.ErrPoolTimeout)
	s.timeouts++
	require.NoError(s.t, holder.Close())
}
