package drivertest

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

func prepare(t testing.TB, db *sql.DB, query string) *sql.Stmt {
	t.Helper()
	st, err := db.Prepare(query)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, st.Close()) })
	return st
}

func scanInt(t testing.TB, row *sql.Row) (n int) {
	t.Helper()
	require.NoError(t, row.Scan(&n))
	return n
}

// preparedOn counts what a connection has prepared by name, without preparing anything.
func preparedOn(t testing.TB, q querier) int {
	t.Helper()
	return get[int](t, q, "select count(*) from pg_prepared_statements", pgx.QueryExecModeSimpleProtocol)
}

func TestAStatementWorksOverAnyConnectionAndConcurrently(t *testing.T) {
	t.Parallel()
	db := openPool(t, with(pgtest.NewDatabase(t), "pool_size", "4", "max_overflow", "4"))
	st := prepare(t, db, "select $1::int + 1")
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for i := range 50 {
				var n int
				if err := st.QueryRow(100*worker + i).Scan(&n); !assert.NoError(t, err) {
					return
				}
				assert.Equal(t, 100*worker+i+1, n)
			}
		})
	}
	wg.Wait()
}

func TestAStatementSurvivesItsConnection(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	st := prepare(t, db, "select $1::int")
	for i := range 3 {
		assert.Equal(t, i, scanInt(t, st.QueryRow(i)))
		pid := backendPID(t, db)
		terminate(t, pid)
		pgtest.Eventually(t, patience, func() bool { // it has gone, and not only been told to
			return get[int](t, openPgx(t, pgtest.Shared(t).DSN("")), "select count(*) from pg_stat_activity where pid = $1", pid) == 0
		})
	}
}

func TestStatementsWorkInTransactions(t *testing.T) {
	t.Parallel()
	db := openPool(t, pgtest.NewDatabase(t))
	mustExec(t, db, "create table t (a int)")
	st := prepare(t, db, "insert into t values ($1)")

	tx, err := db.Begin()
	require.NoError(t, err)
	_, err = tx.Stmt(st).Exec(1)
	require.NoError(t, err)
	count, err := tx.Prepare("select count(*) from t")
	require.NoError(t, err)
	assert.Equal(t, 1, scanInt(t, count.QueryRow()), "sees the transaction's own row")
	assert.Zero(t, get[int](t, db, "select count(*) from t"), "and others don't")
	require.NoError(t, tx.Rollback())
	require.Error(t, count.QueryRow().Err(), "the statement ended with its transaction")

	_, err = st.Exec(2)
	require.NoError(t, err)
	assert.Equal(t, 2, get[int](t, db, "select a from t"))
}

func TestAStatementMayHaveNoArguments(t *testing.T) {
	t.Parallel()
	db := openPool(t, pgtest.NewDatabase(t))
	mustExec(t, db, "create table t (a int)")
	for range 3 {
		_, err := prepare(t, db, "insert into t default values").Exec()
		require.NoError(t, err)
	}
	assert.Equal(t, 3, scanInt(t, prepare(t, db, "select count(*) from t").QueryRow()))
	_, err := prepare(t, db, "").Exec()
	require.NoError(t, err)
}

func TestAWrongNumberOfArgumentsIsRefusedBeforeTheServerSeesIt(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, proxy.DSN())
	st := prepare(t, db, "select $1::int")
	proxy.Reset()
	for _, args := range [][]any{{}, {1, 2}} {
		_, err := st.Exec(args...)
		require.ErrorContains(t, err, "expected 1 arguments")
	}
	assert.Zero(t, proxy.Stats().RoundTrips)
}

func TestAWrongStatementFailsAtPrepare(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	pid := backendPID(t, db)
	for range 2 {
		_, err := db.Prepare("selec 1")
		assert.Equal(t, "42601", sqlState(err), "%v", err)
		_, err = db.Prepare("select * from nowhere")
		assert.Equal(t, "42P01", sqlState(err), "%v", err)
	}
	tx, err := db.Begin()
	require.NoError(t, err)
	_, err = tx.Prepare("selec 1")
	assert.Equal(t, "42601", sqlState(err), "%v", err)
	require.NoError(t, tx.Rollback())
	assert.Equal(t, pid, backendPID(t, db))
	assert.LessOrEqual(t, preparedOn(t, db), 2, "nothing of it is left")
}

// TestWhatIsLeftOnTheServerIsBounded prepares many texts in each of the ways that there are, and then runs them all
// again, so that what the driver believes to be prepared must be.
func TestWhatIsLeftOnTheServerIsBounded(t *testing.T) {
	t.Parallel()
	const texts, bound = 1000, 512 + 32
	execute := func(t *testing.T, db *sql.DB, query string, args ...any) {
		t.Helper()
		_, err := db.Exec(query, args...)
		require.NoError(t, err)
	}
	for name, c := range map[string]struct {
		text string
		args []any
		use  func(t *testing.T, db *sql.DB, st *sql.Stmt, query string, args ...any)
	}{
		"never executed, without arguments": {"select %d", nil, nil},
		"never executed":                    {"select $1::int + %d", []any{1}, nil},
		"executed": {"select $1::int + %d", []any{1},
			func(t *testing.T, _ *sql.DB, st *sql.Stmt, _ string, args ...any) {
				_, err := st.Exec(args...)
				require.NoError(t, err)
			}},
		"executed, without arguments": {"select %d", nil,
			func(t *testing.T, _ *sql.DB, st *sql.Stmt, _ string, _ ...any) {
				_, err := st.Exec()
				require.NoError(t, err)
			}},
		"queried, without arguments": {"select %d", nil,
			func(t *testing.T, _ *sql.DB, st *sql.Stmt, _ string, _ ...any) {
				var n int
				require.NoError(t, st.QueryRow().Scan(&n))
			}},
		"executed without the statement": {"select $1::int + %d", []any{1},
			func(t *testing.T, db *sql.DB, _ *sql.Stmt, query string, args ...any) {
				execute(t, db, query, args...)
			}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := openPool(t, oneConn(pgtest.NewDatabase(t)))
			pid := backendPID(t, db)
			most := 0
			for i := range texts {
				query := fmt.Sprintf(c.text, i)
				st, err := db.Prepare(query)
				require.NoError(t, err)
				if c.use != nil {
					c.use(t, db, st, query, c.args...)
				}
				require.NoError(t, st.Close())
				if i%100 == 99 {
					most = max(most, preparedOn(t, db))
				}
			}
			assert.LessOrEqual(t, most, bound)
			if c.use == nil {
				assert.LessOrEqual(t, most, 80, "what was never executed goes sooner")
			}
			for i := range texts {
				execute(t, db, fmt.Sprintf(c.text, i), c.args...)
			}
			assert.LessOrEqual(t, preparedOn(t, db), bound)
			assert.Equal(t, pid, backendPID(t, db))
		})
	}
}

// TestAnEmptyStatementTakesNoArguments, as with pgx, not even the way in which to send it.
func TestAnEmptyStatementTakesNoArguments(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	for _, db := range []*sql.DB{openPgx(t, dsn), openPool(t, dsn)} {
		st := prepare(t, db, "")
		_, err := st.Exec()
		require.NoError(t, err)
		_, err = st.Exec(pgx.QueryExecModeExec)
		require.EqualError(t, err, "sql: expected 0 arguments, got 1")
	}
}

func TestTextsThatWereQueriedFirstCanBePrepared(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	const texts = 600 // more than pgx keeps
	for i := range texts {
		query := fmt.Sprintf("select $1::int + %d", i)
		assert.Equal(t, i, scanInt(t, db.QueryRow(query, 0)))
		st, err := db.Prepare(query)
		require.NoError(t, err)
		assert.Equal(t, i+1, scanInt(t, st.QueryRow(1)))
		require.NoError(t, st.Close())
	}
	for i := range texts {
		assert.Equal(t, i, scanInt(t, prepare(t, db, fmt.Sprintf("select $1::int + %d", i)).QueryRow(0)))
	}
	assert.LessOrEqual(t, preparedOn(t, db), 512)
}

func TestOneTextCanBePreparedQueriedAndBatched(t *testing.T) {
	t.Parallel()
	batch := func(t *testing.T, db *sql.DB, query string) {
		err := pgprod.Raw(t.Context(), db, func(conn *pgx.Conn) error {
			var b pgx.Batch
			b.Queue(query, 1)
			b.Queue(query, 2)
			return conn.SendBatch(t.Context(), &b).Close()
		})
		require.NoError(t, err)
	}
	prepareOnly := func(t *testing.T, db *sql.DB, query string) { prepare(t, db, query) }
	query := func(t *testing.T, db *sql.DB, query string) { scanInt(t, db.QueryRow(query, 1)) }
	ways := map[string]func(*testing.T, *sql.DB, string){"batch": batch, "prepare": prepareOnly, "query": query}
	for first := range ways {
		for second := range ways {
			for third := range ways {
				t.Run(first+", "+second+", "+third, func(t *testing.T) {
					db := openPool(t, oneConn(pgtest.NewDatabase(t)))
					for _, way := range []string{first, second, third} {
						ways[way](t, db, "select $1::int")
					}
				})
			}
		}
	}
}

func TestRoundTripsOfAPreparedStatement(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, oneConn(proxy.DSN()))
	backendPID(t, db)

	proxy.Reset()
	st := prepare(t, db, "select $1::int")
	assert.Equal(t, 1, proxy.Stats().RoundTrips, "prepare")
	scanInt(t, st.QueryRow(1))
	assert.Equal(t, 2, proxy.Stats().RoundTrips, "prepare and the first execution")

	for range 10 {
		proxy.Reset()
		scanInt(t, st.QueryRow(1))
		stats := proxy.Stats()
		assert.Equal(t, 1, stats.RoundTrips, "each further execution")
		assert.Zero(t, stats.Messages['P'])
	}

	proxy.Reset()
	again := prepare(t, db, "select $1::int")
	assert.Zero(t, proxy.Stats().RoundTrips, "the same text once more")
	scanInt(t, again.QueryRow(1))
	require.NoError(t, again.Close())
	assert.Equal(t, 1, proxy.Stats().RoundTrips)
}

func TestPreparingAgainForAnotherSessionCostsNoRoundTrip(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, oneConn(proxy.DSN()))
	st := prepare(t, db, "select $1::int")
	scanInt(t, st.QueryRow(1))
	session, err := db.Conn(t.Context()) // takes the session, and no connection
	require.NoError(t, err)
	defer session.Close()

	proxy.Reset()
	scanInt(t, st.QueryRow(1)) // database/sql prepares it for a new session
	assert.Equal(t, 1, proxy.Stats().RoundTrips)
	assert.Zero(t, proxy.Stats().Messages['P'])
}

func TestNothingIsPreparedByNameInTheModesForPoolers(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"simple_protocol", "exec", "describe_exec", "cache_describe"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
			db := openPool(t, oneConn(proxy.DSN(), "default_query_exec_mode", mode))
			mustExec(t, db, "create table t (a int)")

			proxy.Reset()
			insert := prepare(t, db, "insert into t values ($1)")
			nothing := prepare(t, db, "selec 1")
			assert.Zero(t, proxy.Stats().RoundTrips, "prepare asks nobody")
			_, err := nothing.Exec()
			require.Equal(t, "42601", sqlState(err), "and so a wrong statement fails only when it is run")
			for i := range 3 {
				_, err := insert.Exec(i)
				require.NoError(t, err)
				tx, err := db.Begin()
				require.NoError(t, err)
				_, err = tx.Stmt(insert).Exec(i)
				require.NoError(t, err)
				require.NoError(t, tx.Commit())
				assert.Equal(t, i, scanInt(t, prepare(t, db, "select $1::int").QueryRow(i)))
				assert.Equal(t, i, get[int](t, db, "select $1::int", i))
			}
			assert.Equal(t, 6, get[int](t, db, "select count(*) from t"))
			assert.Zero(t, preparedOn(t, db))
			assert.Zero(t, proxy.Stats().Messages['C'], "nor was it closed meanwhile")
		})
	}
}

// TestASchemaChangeUnderACachedStatementCostsNoError is where we are better than pgx, which runs the same.
func TestASchemaChangeUnderACachedStatementCostsNoError(t *testing.T) {
	t.Parallel()
	outcome := func(t *testing.T, db *sql.DB) (states []string) {
		mustExec(t, db, "drop table if exists t")
		mustExec(t, db, "create table t (a int)")
		mustExec(t, db, "insert into t values (1)")
		run := func() {
			rows, err := db.Query("select * from t where a = $1", 1)
			if err == nil {
				columns, _ := rows.Columns()
				states = append(states, fmt.Sprint(len(columns), " columns"))
				err = rows.Close()
			}
			if err != nil {
				states = append(states, sqlState(err))
			}
		}
		run()
		mustExec(t, db, "alter table t add b int")
		run()
		run()
		mustExec(t, db, "alter table t add c int")
		run()
		run()
		return states
	}
	dsn := pgtest.NewDatabase(t)
	theirs := openPgx(t, dsn)
	theirs.SetMaxOpenConns(1)
	ours := openPool(t, oneConn(dsn))
	assert.Contains(t, outcome(t, theirs), "0A000", "cached plan must not change result type")
	assert.Equal(t, []string{"1 columns", "2 columns", "2 columns", "3 columns", "3 columns"}, outcome(t, ours))
}

// TestAStalePlanInTheMiddleOfAStatementIsNotAskedAgain: what went before it may have been committed.
func TestAStalePlanInTheMiddleOfAStatementIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	mustExec(t, db, "create table t (a int)")
	mustExec(t, db, "create table log (n int)")
	mustExec(t, db, `create procedure p(n int) language plpgsql as $$
		begin insert into log values (n); commit; execute 'execute foo'; end $$`)
	mustExec(t, db, `create function f(n int) returns int language plpgsql as $$
		begin insert into log values (n); execute 'execute foo'; return n; end $$`)
	for n, c := range []struct {
		sql  string
		args []any
		rows int
	}{
		{"insert into log values (1); commit; execute foo", nil, 1},
		{"begin; insert into log values (1); commit; execute foo", nil, 1},
		{"do $$ begin insert into log values (1); commit; execute 'execute foo'; end $$", nil, 1},
		{"call p($1)", []any{1}, 1},
		{"/* a comment */ call p($1)", []any{1}, 1},
		{"/* /* nested */ select */ call p($1)", []any{1}, 1},
		{"select f($1)", []any{1}, 0},
	} {
		conn := hold(t, db)
		mustExec(t, conn, "truncate log")
		mustExec(t, conn, "prepare foo as select * from t")
		mustExec(t, conn, "execute foo")
		mustExec(t, conn, fmt.Sprintf("alter table t add c%d int", n))
		_, err := conn.ExecContext(context.Background(), c.sql, c.args...)
		assert.Equal(t, "0A000", sqlState(err), c.sql)
		assert.Equal(t, c.rows, get[int](t, conn, "select count(*) from log"), c.sql)
		mustExec(t, conn, "deallocate foo")
		require.NoError(t, conn.Close())
	}
}

// TestAStatementHealsAfterASchemaChange is where we are better than pgx, whose *sql.Stmt keeps its plan for ever.
func TestAStatementHealsAfterASchemaChange(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	mustExec(t, db, "create table t (a int)")
	mustExec(t, db, "insert into t values (1)")
	st := prepare(t, db, "select * from t where a = $1")
	scan := func() error {
		rows, err := st.Query(1)
		if err != nil {
			return err
		}
		return rows.Close()
	}
	require.NoError(t, scan())
	mustExec(t, db, "alter table t add b int")
	require.NoError(t, scan())
	require.NoError(t, scan())
}

func TestASchemaChangeBetweenPrepareAndTheFirstExecutionHealsToo(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	mustExec(t, db, "create table t (a int)")
	mustExec(t, db, "insert into t values (1)")
	st := prepare(t, db, "select * from t")
	mustExec(t, db, "alter table t add b int")
	failed := 0
	for range 3 {
		rows, err := st.Query()
		if err != nil {
			require.Equal(t, "0A000", sqlState(err), "%v", err)
			failed++
			continue
		}
		require.NoError(t, rows.Close())
	}
	assert.LessOrEqual(t, failed, 1)
}

func TestDiscardAllCostsTheConnectionAndNotTheNextStatement(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	st := prepare(t, db, "select $1::int")
	scanInt(t, st.QueryRow(1))
	for _, query := range []string{"discard all", "deallocate all", "discard plans"} {
		mustExec(t, db, query)
		var n int
		require.NoError(t, st.QueryRow(1).Scan(&n), query)
	}
}

func TestWhatRawRunsAndWhatIsPreparedDoNotGetInEachOthersWay(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	prepare(t, db, "select 4711")
	raw(t, db, func(conn *pgx.Conn) error { return conn.QueryRow(t.Context(), "select 4711").Scan(new(int)) })
	for i := range 40 { // more than are kept without being executed
		prepare(t, db, fmt.Sprintf("select %d", i))
	}
	assert.Equal(t, 4711, get[int](t, db, "select 4711"))

	prepare(t, db, "select $1::int")
	assert.Equal(t, 1, get[int](t, db, "select $1::int", pgx.QueryExecModeExec, 1))
	rawBatch("select 1")(t, db)
	raw(t, db, func(conn *pgx.Conn) error {
		var batch pgx.Batch
		batch.Queue("select $1::int", 1)
		return conn.SendBatch(t.Context(), &batch).Close()
	})
}

func TestRawBesideOpenRowsForgetsNothingThatIsPrepared(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	conn := hold(t, db)
	lent := func(fn func(*pgx.Conn) error) error {
		return conn.Raw(func(dc any) error { return fn(dc.(interface{ Conn() *pgx.Conn }).Conn()) })
	}
	_, err := conn.PrepareContext(t.Context(), "select 41 + $1::int")
	require.NoError(t, err)
	rows, err := conn.QueryContext(t.Context(), "select generate_series(1, 3)")
	require.NoError(t, err)
	require.NoError(t, lent(func(*pgx.Conn) error { return nil }))
	require.NoError(t, rows.Close())
	require.NoError(t, lent(func(conn *pgx.Conn) error {
		var batch pgx.Batch
		batch.Queue("select 41 + $1::int", 1)
		return conn.SendBatch(t.Context(), &batch).Close()
	}))
}

func TestRawOnAServerThatHasGoneSilentIsBoundedByCommandTimeout(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, oneConn(proxy.DSN(), "command_timeout", "1s"))
	conn := hold(t, db)
	_, err := conn.PrepareContext(t.Context(), "select $1::text")
	require.NoError(t, err)
	proxy.BlackHole(faultproxy.ToClient, true)
	within(t, patience/2, func() { _ = conn.Raw(func(dc any) error { dc.(interface{ Conn() *pgx.Conn }).Conn(); return nil }) })
	proxy.CloseAll(faultproxy.RST)
}

func TestAFinishedContextPreparesNothing(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	pid := backendPID(t, db)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := db.PrepareContext(ctx, "select 1")
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, pid, backendPID(t, db))
}
func TestAPreparedNameIsNotTheNextBorrowers(t *testing.T) {
	t.Parallel()
	named := func(conn *pgx.Conn) error { _, err := conn.Prepare(t.Context(), "mine", "select 1"); return err }
	for name, leave := range map[string]func(*testing.T, *sql.DB){
		"by Raw":       func(t *testing.T, db *sql.DB) { raw(t, db, named) },
		"in a batch":   rawBatch("prepare mine as select 1"),
		"by PREPARE":   func(t *testing.T, db *sql.DB) { mustExec(t, db, "prepare mine as select 1") },
		"among others": func(t *testing.T, db *sql.DB) { mustExec(t, db, "select 1; PREPARE mine AS select 1; select 2") },
		"by a held conn": func(t *testing.T, db *sql.DB) {
			conn := hold(t, db)
			mustExec(t, conn, "prepare mine as select 1")
			require.NoError(t, conn.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := openPool(t, oneConn(pgtest.NewDatabase(t)))
			leave(t, db)
			assert.Zero(t, get[int](t, db, "select count(*) from pg_prepared_statements where name = 'mine'", pgx.QueryExecModeExec))
			leave(t, db)
		})
	}
}

// TestANameStaysForTheConnectionThatIsHeld, also where the schema has changed.
func TestANameStaysForTheConnectionThatIsHeld(t *testing.T) {
	t.Parallel()
	db := openPool(t, with(pgtest.NewDatabase(t), "pool_size", "2", "max_overflow", "0"))
	conn := hold(t, db)
	require.NoError(t, conn.Raw(func(dc any) error {
		_, err := dc.(interface{ Conn() *pgx.Conn }).Conn().Prepare(t.Context(), "mine", "select 4711")
		return err
	}))
	mustExec(t, db, "create table t (a int)")
	tx, err := conn.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, 4711, get[int](t, tx, "mine"))
	require.NoError(t, tx.Commit())
}
