package drivertest

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// short is a pool's command_timeout that the statements of these tests exceed; servers is the server's limit then. slow is a
// statement that takes longer than both.
const (
	short   = "500ms"
	servers = "1500ms"
	slow    = "select pg_sleep(1.8)"
)

// longLimit returns a context whose statements may take a minute.
func longLimit(t testing.TB) context.Context {
	return pgprod.ContextWithCommandTimeout(t.Context(), time.Minute)
}

// shortPool opens a pool of one connection with a short command_timeout.
func shortPool(t testing.TB, dsn string, keysAndValues ...string) *sql.DB {
	t.Helper()
	return openPool(t, oneConn(dsn, append([]string{"command_timeout", short}, keysAndValues...)...))
}

// slowIndex makes a table of one row, and an expression which takes longer for it than the server's limit.
const slowIndex = `create table t (a int); insert into t values (1);
	create function slowly(a int) returns int immutable language plpgsql as $$ begin perform pg_sleep(1.8); return a; end $$`

// slowOnes are ways in which a statement can be slow, each with the context of its caller.
var slowOnes = map[string]func(ctx context.Context, db *sql.DB) error{
	"Exec": func(ctx context.Context, db *sql.DB) error { return second(db.ExecContext(ctx, slow)) },
	"Exec with arguments": func(ctx context.Context, db *sql.DB) error {
		return second(db.ExecContext(ctx, "select pg_sleep($1)", 1.8))
	},
	"several statements": func(ctx context.Context, db *sql.DB) error { return second(db.ExecContext(ctx, "select 1; "+slow)) },
	"QueryRow": func(ctx context.Context, db *sql.DB) error {
		var void any
		return db.QueryRowContext(ctx, slow).Scan(&void)
	},
	"a prepared statement": func(ctx context.Context, db *sql.DB) error {
		st, err := db.PrepareContext(context.Background(), "select pg_sleep($1)")
		if err != nil {
			return err
		}
		defer st.Close()
		return second(st.ExecContext(ctx, 1.8))
	},
	"in a transaction": func(ctx context.Context, db *sql.DB) error {
		return pgprod.InTx(context.Background(), db, func(tx *sql.Tx) error { return second(tx.ExecContext(ctx, slow)) })
	},
	"several statements in a transaction": func(ctx context.Context, db *sql.DB) error {
		return pgprod.InTx(context.Background(), db, func(tx *sql.Tx) error { return second(tx.ExecContext(ctx, "select 1; "+slow)) })
	},
	"CALL": func(ctx context.Context, db *sql.DB) error {
		return second(db.ExecContext(ctx, "do $$ begin commit; perform pg_sleep(1.8); end $$"))
	},
	"CREATE INDEX CONCURRENTLY": func(ctx context.Context, db *sql.DB) error {
		return second(db.ExecContext(ctx, "create index concurrently on t (slowly(a))"))
	},
	"VACUUM ANALYZE": func(ctx context.Context, db *sql.DB) error {
		if _, err := db.ExecContext(ctx, "create index on t (slowly(a))"); err != nil {
			return err
		}
		return second(db.ExecContext(ctx, "vacuum analyze t"))
	},
	"Raw": func(ctx context.Context, db *sql.DB) error {
		return pgprod.Raw(ctx, db, func(conn *pgx.Conn) error { return second(conn.Exec(ctx, slow)) })
	},
	"a statement in Raw": func(ctx context.Context, db *sql.DB) error {
		return pgprod.Raw(context.Background(), db, func(conn *pgx.Conn) error { return second(conn.Exec(ctx, slow, pgx.QueryExecModeExec)) })
	},
	"a transaction in Raw": func(ctx context.Context, db *sql.DB) error {
		return pgprod.Raw(context.Background(), db, func(conn *pgx.Conn) error {
			return pgx.BeginFunc(context.Background(), conn, func(tx pgx.Tx) error { return second(tx.Exec(ctx, slow)) })
		})
	},
	"a batch in Raw": func(ctx context.Context, db *sql.DB) error {
		return pgprod.Raw(context.Background(), db, func(conn *pgx.Conn) error {
			batch := &pgx.Batch{}
			batch.Queue(slow)
			return conn.SendBatch(ctx, batch).Close()
		})
	},
}

// second is the error of a result that doesn't matter.
func second[T any](_ T, err error) error { return err }

func TestOneCallsLongerLimitHoldsAgainstThePoolsAndTheServers(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup // all at once, since they do nothing but wait
	for mode, limit := range map[string]time.Duration{"cache_statement": time.Minute, "exec": time.Minute, "simple_protocol": 0} {
		for name, run := range slowOnes {
			dsn := pgtest.NewDatabase(t)
			mustExec(t, openPgx(t, dsn), slowIndex)
			db := shortPool(t, dsn, "default_query_exec_mode", mode)
			wg.Go(func() { tryLonger(t, name+", "+mode, db, limit, run) })
		}
	}
	wg.Wait()
}

// tryLonger runs a statement that is slow with a limit of its own, and without.
func tryLonger(t *testing.T, name string, db *sql.DB, limit time.Duration, run func(context.Context, *sql.DB) error) {
	const ask = "select pg_backend_pid(), current_setting('statement_timeout')"
	var before, after struct {
		pid   int
		limit string
	}
	assert.NoError(t, db.QueryRow(ask).Scan(&before.pid, &before.limit), name)
	assert.NoError(t, run(pgprod.ContextWithCommandTimeout(t.Context(), limit), db), name)
	assert.NoError(t, db.QueryRow(ask).Scan(&after.pid, &after.limit), name)
	assert.Equal(t, servers, before.limit, name)
	assert.Equal(t, before, after, name)
	err := run(context.Background(), db)
	assert.ErrorIs(t, err, context.DeadlineExceeded, "%s, without a limit of its own", name)
	assert.ErrorContains(t, err, "exceeded command_timeout ("+short+")", name)
}

func TestOneCallsShorterLimitEndsIt(t *testing.T) {
	t.Parallel()
	for name, run := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.NewDatabase(t)
			slowTable(t, dsn)
			db := openPool(t, oneConn(dsn, "command_timeout", "1h"))
			pid := backendPID(t, db)
			err := run(pgprod.ContextWithCommandTimeout(t.Context(), 300*time.Millisecond), db)
			requireCut(t, err, context.DeadlineExceeded)
			assert.ErrorContains(t, err, "the statement exceeded the command_timeout of its context (300ms)")
			assert.Equal(t, pid, backendPID(t, db))
		})
	}
}

func TestOfSeveralStatementsInRawTheErrorIsThatOfTheOneThatWasCut(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	err := pgprod.Raw(t.Context(), db, func(conn *pgx.Conn) error {
		_, err := conn.Exec(pgprod.ContextWithCommandTimeout(t.Context(), 100*time.Millisecond), forever)
		_, commitErr := conn.Exec(t.Context(), "commit") // of no transaction: the server only warns
		require.NoError(t, commitErr)
		return err
	})
	requireCut(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, "the command_timeout of its context (100ms)")
	assert.NotContains(t, err.Error(), "COMMIT")
}

func TestTheCallersShorterDeadlineWinsOverItsLimit(t *testing.T) {
	t.Parallel()
	db := openPool(t, pgtest.NewDatabase(t))
	ctx, cancel := context.WithTimeout(longLimit(t), 100*time.Millisecond)
	defer cancel()
	_, err := db.ExecContext(ctx, forever)
	requireCut(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, "the caller's deadline ended the statement after")
	_, err = db.ExecContext(pgprod.ContextWithCommandTimeout(ctx, 0), forever)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestTheInnerOfTwoLimitsCounts(t *testing.T) {
	t.Parallel()
	db := openPool(t, pgtest.NewDatabase(t))
	_, err := db.ExecContext(pgprod.ContextWithCommandTimeout(longLimit(t), 100*time.Millisecond), forever)
	assert.ErrorContains(t, err, "the command_timeout of its context (100ms)")
}

func TestANegativeLimitIsAnErrorAndNothingIsSent(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	mustExec(t, db, "create table t (a int)")
	ctx := pgprod.ContextWithCommandTimeout(t.Context(), -time.Second)
	const insert = "insert into t values (1)"
	for name, err := range map[string]error{
		"Exec":    second(db.ExecContext(ctx, insert)),
		"Query":   db.QueryRowContext(ctx, insert+" returning a").Scan(new(int)),
		"Prepare": second(db.PrepareContext(ctx, insert)),
		"Begin":   second(db.BeginTx(ctx, nil)),
		"Raw":     pgprod.Raw(ctx, db, func(conn *pgx.Conn) error { return second(conn.Exec(t.Context(), insert)) }),
		"in Raw":  pgprod.Raw(t.Context(), db, func(conn *pgx.Conn) error { return second(conn.Exec(ctx, insert)) }),
	} {
		assert.ErrorContains(t, err, "pgprod: ContextWithCommandTimeout: the duration is negative, nothing was sent", name)
	}
	assert.Zero(t, get[int](t, db, "select count(*) from t"))
}

func TestTheServersLimitIsRaisedOnlyAsFarAsAndWhereACallNeedsIt(t *testing.T) {
	t.Parallel()
	const ask = "select current_setting('statement_timeout') where $1"
	within := func(d time.Duration) context.Context { return pgprod.ContextWithCommandTimeout(t.Context(), d) }
	for _, c := range []struct {
		settings []string
		limit    time.Duration
		want     string // the server's limit for the call
		later    string // for the next one
	}{
		{nil, 400 * time.Millisecond, servers, servers},
		{nil, 1500 * time.Millisecond, servers, servers},
		{nil, 1501 * time.Millisecond, "2501ms", servers},
		{nil, time.Minute, "61s", servers},
		{nil, 0, "0", servers},
		{nil, 1e6 * time.Hour, "2147483647ms", servers},
		{[]string{"statement_timeout", "0"}, time.Minute, "0", "0"},
		{[]string{"statement_timeout", "1min"}, time.Minute, "1min", "1min"},
		{[]string{"statement_timeout", "59 s"}, time.Minute, "61s", "59s"},
		{[]string{"options", "-c statement_timeout=5s"}, 10 * time.Second, "11s", "5s"},
		{[]string{"server_settings", "statement_timeout=2min"}, time.Minute, "2min", "2min"},
		{[]string{"command_timeout", "0"}, time.Minute, "61s", "0"}, // the server's own may be shorter, and nobody knows it
	} {
		for _, mode := range []string{"startup", "set"} {
			db := shortPool(t, pgtest.NewDatabase(t), append([]string{"server_settings_mode", mode}, c.settings...)...)
			_ = db.Ping()
			name := fmt.Sprint(c.settings, c.limit, mode)
			limited := within(c.limit)
			assert.Equal(t, c.want, getIn[string](t, limited, db, ask, true), name)
			assert.Equal(t, c.later, get[string](t, db, ask, true), name)
			require.NoError(t, pgprod.InTx(t.Context(), db, func(tx *sql.Tx) error {
				assert.Equal(t, c.later, get[string](t, tx, ask, true), name)
				assert.Equal(t, c.want, getIn[string](t, limited, tx, ask, true), name)
				assert.Equal(t, c.want, getIn[string](t, limited, tx, ask, true), name)
				assert.Equal(t, c.later, get[string](t, tx, ask, true), name)
				return nil
			}))
			require.NoError(t, pgprod.Raw(limited, db, func(conn *pgx.Conn) error {
				var got string
				err := conn.QueryRow(t.Context(), ask, true).Scan(&got)
				assert.Equal(t, c.want, got, name)
				return err
			}))
			assert.Equal(t, c.later, get[string](t, db, ask, true), "%s, after Raw", name)
		}
	}
}

// getIn is get under a context.
func getIn[T any](t testing.TB, ctx context.Context, q querier, query string, args ...any) (value T) {
	t.Helper()
	require.NoError(t, q.QueryRowContext(ctx, query, args...).Scan(&value), query)
	return value
}

func TestALimitInATransactionSurvivesWhatChangesItsSettings(t *testing.T) {
	t.Parallel()
	const ask = "select current_setting('statement_timeout')"
	db := shortPool(t, pgtest.NewDatabase(t))
	tx, err := db.Begin()
	require.NoError(t, err)
	defer func() { _ = tx.Rollback() }()
	mustExec(t, tx, "savepoint s")
	assert.Equal(t, "61s", getIn[string](t, longLimit(t), tx, ask))
	mustExec(t, tx, "rollback to s")
	assert.Equal(t, "61s", getIn[string](t, longLimit(t), tx, ask), "the savepoint has brought the old one back")
	mustExec(t, tx, "set local statement_timeout = '3s'")
	assert.Equal(t, "61s", getIn[string](t, longLimit(t), tx, ask))
	_, err = tx.ExecContext(longLimit(t), "select 1/0")
	require.Equal(t, "22012", sqlState(err))
	_, err = tx.ExecContext(longLimit(t), "rollback to s")
	require.NoError(t, err)
	assert.Equal(t, "61s", getIn[string](t, longLimit(t), tx, ask))
	assert.Equal(t, servers, get[string](t, tx, ask))
	own := pgprod.ContextWithSettings(longLimit(t), map[string]string{"statement_timeout": "7s"})
	assert.Equal(t, "7s", getIn[string](t, own, tx, ask), "what the application sets by name counts")
	assert.Equal(t, "61s", getIn[string](t, longLimit(t), tx, ask))
	assert.Equal(t, "7s", getIn[string](t, own, tx, ask))
	assert.Equal(t, servers, get[string](t, tx, ask))
	require.NoError(t, tx.Commit())
	assert.Equal(t, servers, get[string](t, db, ask))
}

func TestALockIsWaitedForAsLongAsItsCallMayTake(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	other := openPgx(t, dsn)
	mustExec(t, other, "create table t (a int)")
	holder, err := other.Begin()
	require.NoError(t, err)
	mustExec(t, holder, "lock table t")
	released := time.AfterFunc(1800*time.Millisecond, func() { _ = holder.Rollback() }) // longer than the server's limit
	defer released.Stop()
	db := shortPool(t, dsn)
	require.NoError(t, pgprod.InTx(t.Context(), db, func(tx *sql.Tx) error {
		return second(tx.ExecContext(longLimit(t), "lock table t"))
	}, pgprod.TxIsolation(sql.LevelRepeatableRead)))
}

// TestCommitHasTheLimitOfTheContextThatItsTransactionBeganWith has a constraint that is slow to check at COMMIT.
func TestCommitHasTheLimitOfTheContextThatItsTransactionBeganWith(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	mustExec(t, openPgx(t, dsn), `create table t (a int);
		create function late() returns trigger language plpgsql as $$ begin perform pg_sleep(1.8); return null; end $$;
		create constraint trigger late after insert on t deferrable initially deferred for each row execute function late()`)
	db := shortPool(t, dsn)
	insert := func(begin, statement context.Context) error {
		tx, err := db.BeginTx(begin, nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(statement, "insert into t values (1)")
		require.NoError(t, err)
		return tx.Commit()
	}
	require.NoError(t, insert(longLimit(t), longLimit(t)))
	require.NoError(t, insert(longLimit(t), t.Context()), "whatever limit the last statement has")
	err := insert(pgprod.ContextWithCommandTimeout(t.Context(), 100*time.Millisecond), longLimit(t))
	require.ErrorIs(t, err, pgprod.ErrCommitUnknown)
	assert.ErrorContains(t, err, "the command_timeout of its transaction's context (100ms)")
}

func TestALimitsTraceIsGoneWhateverPoolResetSays(t *testing.T) {
	t.Parallel()
	for _, reset := range []string{"auto", "always", "off"} {
		db := shortPool(t, pgtest.NewDatabase(t), "pool_reset", reset)
		mustExec(t, db, "create table t (a int)")
		conn := hold(t, db)
		mustExec(t, conn, "set work_mem = '5MB'")
		for range 2 { // the second finds it raised already
			_, err := conn.ExecContext(longLimit(t), "vacuum t")
			require.NoError(t, err)
		}
		assert.Equal(t, servers, get[string](t, conn, "show statement_timeout"), reset)
		assert.Equal(t, "5MB", get[string](t, conn, "show work_mem"), "%s: the same borrower's setting", reset)
		_, err := conn.ExecContext(longLimit(t), "vacuum nonesuch")
		require.Equal(t, "42P01", sqlState(err))
		require.NoError(t, conn.Close())
		assert.Equal(t, servers, get[string](t, db, "show statement_timeout"), reset)
	}
}
