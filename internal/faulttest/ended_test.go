package faulttest

import (
	"database/sql"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// gated makes statements that wait, until nobody has locked the table gate.
const gated = `
create table runs (note text);
create table gate (x int);
create function wait() returns text language plpgsql as $$ begin perform from gate; return 'x'; end $$;
create procedure waiting() language plpgsql as $$ begin perform wait(); end $$;
create function wait_and_pass() returns trigger language plpgsql as $$ begin perform wait(); return new; end $$;
create table slow (note text);
create trigger slow before insert on slow for each row execute function wait_and_pass();
create table deferred (note text);
create constraint trigger deferred after insert on deferred deferrable initially deferred for each row
  execute function wait_and_pass()`

// TestAStatementWhoseSessionIsEndedWhileItWaits: pg_terminate_backend ends it. What has left nothing then runs again, and its
// caller doesn't notice. What may have left something doesn't, and its error says so.
func TestAStatementWhoseSessionIsEndedWhileItWaits(t *testing.T) {
	t.Parallel()
	run := func(query string, args ...any) func(*sql.DB) error {
		return func(db *sql.DB) error { _, err := db.Exec(query, args...); return err }
	}
	one := func(query string, args ...any) func(*sql.DB) error {
		return func(db *sql.DB) error { return db.QueryRow(query, args...).Scan(new(string)) }
	}
	for name, c := range map[string]struct {
		run  func(*sql.DB) error
		text string // the statement, in part
		want answer
		rows int
	}{
		"select":                  {one("select wait()"), "select wait", wasDone, 0},
		"select with an argument": {one("select wait() where $1::int = 1", 1), "select wait", wasDone, 0},
		"insert":                  {run("insert into runs select wait()"), "insert", wasDone, 1},
		"insert … returning":      {one("insert into runs select wait() where $1::int = 1 returning note", 1), "insert", wasDone, 1},
		"CTE that writes":         {one("with i as (insert into runs select wait() returning note) select note from i"), "with", wasDone, 1},
		"prepared": {func(db *sql.DB) error {
			return prepared(db, "insert into runs select wait() where $1::int = 1", func(s *sql.Stmt) error { _, err := s.Exec(1); return err })
		}, "insert", wasDone, 1},
		"first of a transaction": {func(db *sql.DB) error {
			return inTx(db, func(tx *sql.Tx) error { _, err := tx.Exec("insert into runs select wait()"); return err })
		}, "insert", wasDone, 1},
		"second of a transaction": {func(db *sql.DB) error {
			return inTx(db, func(tx *sql.Tx) error {
				if _, err := tx.Exec("insert into runs values ('y')"); err != nil {
					return err
				}
				_, err := tx.Exec("select wait()")
				return err
			})
		}, "select wait", notDone, 0},
		"InTx": {func(db *sql.DB) error {
			return pgprod.InTx(t.Context(), db, func(tx *sql.Tx) error {
				if _, err := tx.Exec("insert into runs values ('y')"); err != nil {
					return err
				}
				_, err := tx.Exec("select wait()")
				return err
			})
		}, "select wait", wasDone, 1},
		"LISTEN, NOTIFY": {run("select pg_notify('x', wait())"), "notify", wasDone, 0},

		"completed, and not committed":    {run("with r as (insert into runs values ($1)) insert into deferred values ('x')", "x"), "with r", wasDone, 1},
		"the same by the simple protocol": {run("with r as (insert into runs values ('x')) insert into deferred values ('x')"), "with r", wasDone, 1},
		"the same, prepared": {func(db *sql.DB) error {
			return prepared(db, "with r as (insert into runs values ($1)) insert into deferred values ('x')",
				func(s *sql.Stmt) error { _, err := s.Exec("x"); return err })
		}, "with r", wasDone, 1},
		"the same, returning": {one("with r as (insert into runs values ($1)) insert into deferred values ('x') returning note", "x"), "with r", notDone, 0},

		"rows were handed out": {func(db *sql.DB) error {
			const text = "select repeat('x', 1000) || case i when 99 then wait() end from generate_series(1, 100) i"
			return drain(db.Query(text))
		}, "select repeat", notDone, 0},

		"CALL":                      {run("call waiting()"), "call", perhaps, 0},
		"DO":                        {run("do $$ begin insert into runs values ('x'); commit; perform wait(); end $$"), "do $$", perhaps, 1},
		"several statements":        {run("insert into runs values ('x'); commit; select wait()"), "select wait", perhaps, 1},
		"COPY TO":                   {run("copy (select wait()) to stdout"), "copy", perhaps, 0},
		"VACUUM":                    {run("vacuum gate"), "vacuum", perhaps, 0},
		"CREATE INDEX CONCURRENTLY": {run("create index concurrently i on gate (x)"), "create index", perhaps, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn, proxy := gatedDatabase(t)
			admin := openPgx(t, dsn)
			err := endedWhileItWaits(t, admin, openPool(t, proxy.DSN()), c.run)
			assert.Equal(t, c.want, answerOf(err), "%v", err)
			if err != nil {
				assert.Equal(t, "57P01", sqlState(err), "the server's reason")
			}
			want := 1
			if c.want == wasDone {
				want = 2
			}
			assert.Equal(t, want, executed(proxy, c.text), "how often it was sent")
			assert.Equal(t, c.rows, get[int](t, admin, "select count(*) from runs"))
		})
	}
}

// TestACopyWhoseSessionIsEndedWhileItWaits: it is pgx's own, in Raw, and nobody does it again.
func TestACopyWhoseSessionIsEndedWhileItWaits(t *testing.T) {
	t.Parallel()
	dsn, proxy := gatedDatabase(t)
	admin := openPgx(t, dsn)
	times := 0
	err := endedWhileItWaits(t, admin, openPool(t, proxy.DSN()), func(db *sql.DB) error {
		return pgprod.Raw(t.Context(), db, func(conn *pgx.Conn) error {
			times++
			_, err := conn.CopyFrom(t.Context(), pgx.Identifier{"slow"}, []string{"note"}, pgx.CopyFromRows([][]any{{"x"}}))
			return err
		})
	})
	assert.Equal(t, "57P01", sqlState(err))
	assert.Equal(t, 1, times)
	assert.Equal(t, 1, executed(proxy, `copy "slow"`))
	assert.Zero(t, get[int](t, admin, "select count(*) from slow"))
}

// gatedDatabase makes a database with what gated makes, behind a proxy.
func gatedDatabase(t *testing.T) (dsn string, proxy *faultproxy.Proxy) {
	t.Helper()
	dsn = pgtest.NewDatabase(t)
	exec(t, openPgx(t, dsn), gated)
	return dsn, faultproxy.StartTB(t, dsn)
}

// endedWhileItWaits locks the gate, calls run, and ends the session that waits for the lock. When that has gone it gives the
// lock up, and returns the error of run.
func endedWhileItWaits(t *testing.T, admin, db *sql.DB, run func(*sql.DB) error) error {
	t.Helper()
	lock, err := admin.Begin()
	require.NoError(t, err)
	defer func() { _ = lock.Rollback() }()
	exec(t, lock, "lock table gate in access exclusive mode")
	result := make(chan error, 1)
	go func() { result <- run(db) }() // ends with its session, or when the lock is given up
	const waiting = "select coalesce(max(pid), 0) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
	var pid int
	pgtest.Eventually(t, patience, func() bool { pid = get[int](t, admin, waiting); return pid != 0 })
	require.True(t, get[bool](t, admin, "select pg_terminate_backend($1, 10000)", pid), "it has gone")
	require.NoError(t, lock.Rollback())
	return <-result
}
