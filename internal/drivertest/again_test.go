package drivertest

import (
	"context"
	"database/sql"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

func TestWhatBeginsAgainIsTold(t *testing.T) {
	t.Parallel()
	var log logged
	meters, tr := newMetering(t), newTracing(t)
	db := openPool(t, with(pgtest.NewDatabase(t), "echo", "on"), log.option(slog.LevelInfo),
		pgprod.WithMeterProvider(meters.provider), pgprod.WithTracerProvider(tr.provider))
	before := meters.collect(t)["pgprod.transaction.retries"]
	pool := semconv.DBClientConnectionPoolName(statusOf(t, db).PoolName)
	for _, usual := range []string{"40001", "40P01", "57P01", "connection_lost"} {
		assert.Zero(t, sum(before, pool, semconv.ErrorTypeKey.String(usual)), "%s: without a zero a rate misses the first", usual)
	}
	live := pgprod.DebugHandler(db)
	attempts := 0
	require.NoError(t, pgprod.InTx(t.Context(), db, func(tx *sql.Tx) error {
		if _, err := tx.Exec("select 1"); err != nil {
			return err
		}
		if attempts++; attempts < 3 {
			_, err := tx.Exec(conflict)
			return err
		}
		return nil
	}))
	assert.Equal(t, map[string]int64{"40001": 2}, pools(t, live)[0].Snapshot.BegunAgain)
	assert.Contains(t, page(t, live, "/"), `<dt>Begun again</dt><dd><b>2</b></dd><dd class="more">transactions, after 40001</dd>`)
	lines := log.lines(t, "pgprod: a transaction begins again")
	require.Len(t, lines, 2)
	assert.Equal(t, "40001", lines[1]["error.type"])
	assert.EqualValues(t, 3, lines[1]["attempt"])
	var told []int64
	for _, s := range tr.Ended() {
		for _, a := range s.Attributes() {
			if a.Key == "pgprod.transaction.attempt" {
				told = append(told, a.Value.AsInt64())
				assert.Contains(t, s.Attributes(), attribute.String("pgprod.transaction.retry_reason", "40001"))
			}
		}
	}
	assert.Equal(t, []int64{2, 3}, told, "the spans of the statements that BEGIN travels with")
	assert.EqualValues(t, 2, sum(meters.collect(t)["pgprod.transaction.retries"], pool, semconv.ErrorTypeKey.String("40001")))
}

// TestInTxBeginsAgainIfWhatTravelsIsNotPreparedAnyMore has a function deallocate what pgprod has prepared, which pgprod can't see.
func TestInTxBeginsAgainIfWhatTravelsIsNotPreparedAnyMore(t *testing.T) {
	t.Parallel()
	for what, opts := range map[string][]pgprod.TxOption{"key": {pgprod.TxOnce("second")}, "settings": nil} {
		for _, begin := range []string{"lazy", "eager"} {
			t.Run(what+"/"+begin, func(t *testing.T) {
				t.Parallel()
				db := openPool(t, with(onceDatabase(t), "pool_size", "1", "max_overflow", "0", "begin", begin))
				mustExec(t, db, `create function forget() returns void language plpgsql as $$
					declare name text;
					begin
						for name in select s.name from pg_prepared_statements s where s.name like 'pgprod%' and s.statement !~ '^begin' loop
							execute 'deallocate ' || quote_ident(name);
						end loop;
					end $$`)
				ctx := t.Context()
				if what == "settings" {
					ctx = pgprod.ContextWithSettings(ctx, map[string]string{"app.tenant": "A"})
				}
				require.NoError(t, pgprod.InTx(ctx, db, note("x"), pgprod.TxOnce("first")))
				mustExec(t, db, "select forget()")
				ran := 0
				require.NoError(t, pgprod.InTx(ctx, db, func(tx *sql.Tx) error {
					ran++
					return note("y")(tx)
				}, opts...))
				assert.Equal(t, 2, ran)
				assert.Equal(t, "x y", notes(t, db))
			})
		}
	}
}

// conflict fails as a statement does that the server ends in favour of another transaction.
const conflict = "do $$ begin raise exception 'conflict' using errcode = '40001'; end $$"

func TestInTxBeginsAgainAfterAConflictThatItsFunctionIgnores(t *testing.T) {
	t.Parallel()
	db := openPool(t, onceDatabase(t))
	for what, opts := range map[string][]pgprod.TxOption{"plain": nil, "with a key": {pgprod.TxOnce("k")}} {
		ran := 0
		require.NoError(t, pgprod.InTx(t.Context(), db, func(tx *sql.Tx) error {
			if err := note(what)(tx); err != nil {
				return err
			}
			if ran++; ran == 1 {
				_, err := tx.Exec(conflict)
				require.Error(t, err)
				_, err = tx.Exec("select 1")
				require.ErrorContains(t, err, "25P02")
			}
			return nil
		}, opts...))
		assert.Equal(t, 2, ran, what)
		assert.Equal(t, 1, get[int](t, db, "select count(*) from notes where note = $1", what))
	}
}

// TestACommitThatIsAnsweredByRollbackHasTheConflictThatLedToIt, but none that the application has dealt with, by a savepoint.
func TestACommitThatIsAnsweredByRollbackHasTheConflictThatLedToIt(t *testing.T) {
	t.Parallel()
	db := openPool(t, pgtest.NewDatabase(t))
	for _, c := range []struct {
		statements []string
		state      string // of Commit's error
		ran        int    // how often InTx runs the statements, with one repetition
	}{
		{[]string{"select 1", conflict}, "40001", 2},
		{[]string{"savepoint a", conflict, "rollback to a", "select 1/0"}, "", 1},
		{[]string{"savepoint a", "select 1/0", "rollback to a", conflict}, "40001", 2},
		{[]string{"select 1/0", conflict}, "", 1},
	} {
		run := func(tx *sql.Tx) error {
			for _, text := range c.statements {
				_, _ = tx.Exec(text)
			}
			return nil
		}
		tx, err := db.Begin()
		require.NoError(t, err)
		require.NoError(t, run(tx))
		err = tx.Commit()
		require.ErrorIs(t, err, pgx.ErrTxCommitRollback)
		require.NotErrorIs(t, err, pgprod.ErrCommitUnknown)
		assert.Equal(t, c.state, sqlState(err), c.statements)

		ran := 0
		err = pgprod.InTx(t.Context(), db, func(tx *sql.Tx) error { ran++; return run(tx) }, pgprod.TxRetries(1))
		require.ErrorIs(t, err, pgx.ErrTxCommitRollback)
		assert.Equal(t, c.ran, ran, c.statements)
	}
}

// TestAnUnknownCommitIsCountedAndToldByItsReason has no commit that isn't replicated, which needs a server of its own:
// faulttest has one.
func TestAnUnknownCommitIsCountedAndToldByItsReason(t *testing.T) {
	t.Parallel()
	isCommit := faultproxy.Containing("commit")
	for reason, c := range map[string]struct {
		fault func(*faultproxy.Proxy) // is called when COMMIT comes next
		text  string
	}{
		"reply_lost": {
			func(p *faultproxy.Proxy) { p.Inject(faultproxy.Rule{Match: isCommit, End: faultproxy.FIN}) },
			"the reply to COMMIT was lost, the outcome is unknown",
		},
		"timeout": {
			func(p *faultproxy.Proxy) {
				p.Inject(faultproxy.Rule{Match: isCommit, Unsent: true, End: faultproxy.Hold})
			},
			"the reply to COMMIT didn't come in time, the outcome is unknown",
		},
		"session_ended": { // the proxy says what a pooler would
			func(p *faultproxy.Proxy) { p.Arm(faultproxy.Cut{Word: faultproxy.Fatal("08006", "gone", "")}) },
			"the session was ended at COMMIT, the outcome is unknown",
		},
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			var log logged
			meters := newMetering(t)
			proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
			db := openPool(t, with(proxy.DSN(), "command_timeout", "1s"), log.option(slog.LevelInfo), pgprod.WithMeterProvider(meters.provider))
			page := pgprod.DebugHandler(db)
			err := pgprod.InTx(t.Context(), db, func(tx *sql.Tx) error {
				_, err := tx.Exec("create table a ()")
				c.fault(proxy)
				return err
			})
			require.ErrorIs(t, err, pgprod.ErrCommitUnknown)
			require.ErrorContains(t, err, c.text)
			status := statusOf(t, db)
			assert.EqualValues(t, 1, status.CommitsUnknown)
			pool := semconv.DBClientConnectionPoolName(status.PoolName)
			counted := meters.collect(t)["pgprod.commit.unknown"]
			assert.EqualValues(t, 1, sum(counted, pool, attribute.String("pgprod.reason", reason)))
			assert.EqualValues(t, 0, sum(counted, pool, attribute.String("pgprod.reason", "not_replicated")))
			lines := log.lines(t, "COMMIT")
			require.Len(t, lines, 1)
			assert.Equal(t, "pgprod: "+c.text, lines[0]["msg"])
			assert.Equal(t, reason, lines[0]["reason"])
			told := slices.IndexFunc(pools(t, page)[0].Snapshot.Errors, func(e activity.Event) bool {
				return e.Kind == "commit" && strings.HasPrefix(e.Text, c.text+": ")
			})
			assert.GreaterOrEqual(t, told, 0, "the live page has it")
		})
	}
}

// TestAStatementThatTheServerHasEndedIsTriedAgain ends the session of a statement that waits. The statement runs again, its
// caller sees nothing of it, and there is one span.
func TestAStatementThatTheServerHasEndedIsTriedAgain(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	admin := openPool(t, dsn)
	mustExec(t, admin, "create table notes (note text)")
	mustExec(t, admin, "create procedure wait() language sql as 'select pg_sleep(0.3)'")
	const wait = "select pg_sleep(0.3)"
	for name, c := range map[string]struct {
		again bool
		run   func(*sql.DB) error
	}{
		"query":              {true, func(db *sql.DB) error { return db.QueryRow(wait+", $1::int", 1).Scan(new(any), new(any)) }},
		"query without rows": {true, func(db *sql.DB) error { _, err := db.Exec(wait); return err }},
		"insert": {true, func(db *sql.DB) error {
			_, err := db.Exec("insert into notes select $1 from pg_sleep(0.3)", "x")
			return err
		}},
		"prepared": {true, func(db *sql.DB) error {
			return withStatement(db, wait, func(s *sql.Stmt) error { return s.QueryRow().Scan(new(any)) })
		}},
		"first of a transaction": {true, func(db *sql.DB) error {
			tx, err := db.Begin()
			if err != nil {
				return err
			}
			if _, err = tx.Exec("insert into notes select $1 from pg_sleep(0.3)", "x"); err != nil {
				_ = tx.Rollback()
				return err
			}
			return tx.Commit()
		}},
		"CALL":       {false, func(db *sql.DB) error { _, err := db.Exec("call wait()"); return err }},
		"DO":         {false, func(db *sql.DB) error { _, err := db.Exec("do $$ begin perform pg_sleep(0.3); end $$"); return err }},
		"two in one": {false, func(db *sql.DB) error { _, err := db.Exec("select 1; " + wait); return err }},
		"own session": {false, func(db *sql.DB) error {
			_, err := db.Exec("select pg_terminate_backend(pg_backend_pid()), pg_sleep(1)")
			return err
		}},
		"rows are out": {false, func(db *sql.DB) error {
			return drained(db.Query("select repeat('x', 10000), pg_sleep(i * 0.3) from generate_series(0, 1) i"))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTracing(t)
			db := openPool(t, dsn, pgprod.WithTracerProvider(tr.provider), pgprod.WithPoolName(name))
			require.NoError(t, db.Ping())
			tr.Reset()
			mustExec(t, admin, "truncate notes")
			done := make(chan error, 1)
			go func() { done <- c.run(db) }() // ends with its statement
			const others = "from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep' and pid <> pg_backend_pid()"
			pgtest.Eventually(t, patience, func() bool {
				return len(done) > 0 || get[int](t, admin, "select count(*) "+others) > 0
			})
			_, err := admin.Exec("select pg_terminate_backend(pid) " + others)
			require.NoError(t, err)
			err = <-done
			if c.again {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, "57P01")
			}
			if c.again {
				for _, s := range tr.Ended() {
					assert.NotEqual(t, codes.Error, s.Status().Code, s.Name())
				}
			}
			assert.LessOrEqual(t, get[int](t, admin, "select count(*) from notes"), 1)
		})
	}
}

func withStatement(db *sql.DB, text string, do func(*sql.Stmt) error) error {
	s, err := db.Prepare(text)
	if err != nil {
		return err
	}
	defer s.Close()
	return do(s)
}

func TestAStatementIsTriedAgainNoLongerThanPoolTimeout(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	db := openPool(t, with(server.DSN(""), "pool_timeout", "500ms"))
	require.NoError(t, db.Ping())
	done := make(chan error, 1)
	go func() { // ends with its statement
		_, err := db.ExecContext(context.Background(), "select pg_sleep(60), $1::int", 1)
		done <- err
	}()
	pgtest.Eventually(t, patience, func() bool {
		return get[int](t, db, "select count(*) from pg_stat_activity where wait_event = 'PgSleep'") > 0
	})
	require.NoError(t, server.Shutdown(t.Context(), pgtest.Fast))
	start := time.Now()
	err := <-done
	require.ErrorIs(t, err, pgprod.ErrPoolTimeout)
	require.ErrorContains(t, err, "tried before")
	require.ErrorContains(t, err, "57P01")
	require.NotErrorIs(t, err, io.EOF)
	assert.GreaterOrEqual(t, time.Since(start)+100*time.Millisecond, 400*time.Millisecond)
}

func TestWhatDependsOnItsConnectionIsNotTriedOnAnother(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	admin := openPool(t, dsn)
	proxy := faultproxy.StartTB(t, dsn)
	for _, begin := range []string{"lazy", "eager"} {
		for _, mode := range []string{"cache_statement", "simple_protocol"} {
			db := openPool(t, with(proxy.DSN(), "begin", begin, "default_query_exec_mode", mode))
			conn, err := db.Conn(t.Context())
			require.NoError(t, err)
			mustExec(t, conn, "create temp table mine (i int)")
			for _, statement := range []string{"begin", "mine"} {
				proxy.Inject(faultproxy.Rule{Match: faultproxy.Containing(statement), Unsent: true, End: faultproxy.FIN})
			}
			tx, err := conn.BeginTx(t.Context(), nil)
			if err == nil {
				_, err = tx.Exec("insert into mine values (1)")
				require.ErrorContains(t, err, "rolled back", "%s %s", begin, mode)
				assert.NotContains(t, err.Error(), "42P01")
				require.Error(t, tx.Commit())
			}
			require.Error(t, err)
			proxy.ClearRules()
			require.NoError(t, conn.Close())
		}
	}
	mustExec(t, admin, "create table notes (note text unique)")
	db := openPool(t, proxy.DSN())
	proxy.SwallowReply(faultproxy.FIN, 1, faultproxy.Containing("notes"))
	_, err := db.ExecContext(pgprod.ContextRepeatable(t.Context()), "insert into notes values ($1)", "x")
	require.ErrorContains(t, err, "23505", "the first attempt has run")
	require.ErrorContains(t, err, "whether it ran is unknown")
}
