package drivertest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

func TestEachIsolationLevelReachesTheServer(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	for level, expected := range map[sql.IsolationLevel]string{
		sql.LevelDefault:         "read committed",
		sql.LevelReadUncommitted: "read uncommitted",
		sql.LevelReadCommitted:   "read committed",
		sql.LevelRepeatableRead:  "repeatable read",
		sql.LevelSnapshot:        "repeatable read",
		sql.LevelSerializable:    "serializable",
	} {
		for _, readOnly := range []bool{false, true} {
			tx, err := db.BeginTx(t.Context(), &sql.TxOptions{Isolation: level, ReadOnly: readOnly})
			require.NoError(t, err)
			assert.Equal(t, expected, get[string](t, tx, "show transaction_isolation"))
			assert.Equal(t, readOnly, get[bool](t, tx, "select current_setting('transaction_read_only')::bool"))
			require.NoError(t, tx.Commit())
		}
	}
}

func TestAnIsolationLevelThatPostgreSQLHasNotIsAnErrorThatNamesIt(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	for _, level := range []sql.IsolationLevel{sql.LevelLinearizable, sql.LevelWriteCommitted, 99} {
		_, err := db.BeginTx(t.Context(), &sql.TxOptions{Isolation: level})
		require.ErrorContains(t, err, level.String())
		require.ErrorContains(t, err, "Serializable", "what there is")
	}
	assert.Zero(t, statusOf(t, db).CheckedOut)
}

func TestAReadOnlyTransactionRefusesWrites(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	pid := backendPID(t, db)
	tx, err := db.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true})
	require.NoError(t, err)
	_, err = tx.Exec("create table t (a int)")
	require.Equal(t, "25006", sqlState(err))
	require.NoError(t, tx.Rollback())
	mustExec(t, db, "create table t (a int)")
	assert.Equal(t, pid, backendPID(t, db), "which is no sign of a demoted server")
}

func TestAContextThatEndsMidTransactionRollsBackAndKeepsTheConnection(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	mustExec(t, db, "create table t (a int)")
	for name, use := range map[string]func(*sql.Tx) error{
		"between statements": func(*sql.Tx) error { return nil },
		"while rows are open": func(tx *sql.Tx) error {
			rows, err := tx.Query("select repeat('x', 10000) from generate_series(1, 1000)")
			if err != nil {
				return err
			}
			rows.Next()
			return nil
		},
	} {
		pgtest.Confirmed(t, func(t *pgtest.Trial) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			tx, err := db.BeginTx(ctx, nil)
			require.NoError(t, err, name)
			pid := backendPID(t, tx)
			mustExec(t, tx, "insert into t values (1)")
			require.NoError(t, use(tx), name)
			require.Error(t, t.Cut(0, func() error {
				cancel()
				pgtest.Eventually(t, patience, func() bool { return statusOf(t, db).CheckedOut == 0 }, name)
				return tx.Commit()
			}), name)
			assert.Zero(t, get[int](t, db, "select count(*) from t"), name)
			assert.Equal(t, pid, backendPID(t, db), name)
		})
	}
}

func TestADeadlineInAStatementOfATransactionRollsBackAndKeepsTheConnection(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	mustExec(t, db, "create table t (a int)")
	pgtest.Confirmed(t, func(t *pgtest.Trial) {
		pid := backendPID(t, db)
		require.ErrorIs(t, t.Cut(time.Second, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			tx, err := db.BeginTx(ctx, nil)
			require.NoError(t, err)
			mustExec(t, tx, "insert into t values (1)")
			_, err = tx.ExecContext(ctx, "select pg_sleep(60)")
			require.Error(t, tx.Rollback(), "database/sql has done it")
			return err
		}), context.DeadlineExceeded)
		pgtest.Eventually(t, patience, func() bool { return statusOf(t, db).CheckedOut == 0 })
		assert.Zero(t, get[int](t, db, "select count(*) from t"))
		assert.Equal(t, pid, backendPID(t, db))
	})
}

func TestAStatementsContextEndsTheStatementAndLeavesTheTransactionToTheCaller(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	pgtest.Confirmed(t, func(t *pgtest.Trial) {
		mustExec(t, db, "drop table if exists t; create table t (a int)")
		pid := backendPID(t, db)
		tx, err := db.Begin()
		require.NoError(t, err)
		defer func() { _ = tx.Rollback() }()
		mustExec(t, tx, "insert into t values (1)")
		mustExec(t, tx, "savepoint s")
		requireCut(t, cutAfter(t, 100*time.Millisecond, tx), context.DeadlineExceeded)
		mustExec(t, tx, "rollback to s")
		require.NoError(t, tx.Commit())
		assert.Equal(t, 1, get[int](t, db, "select count(*) from t"))
		assert.Equal(t, pid, backendPID(t, db))
	})
}

// TestACommitTellsTheTruthWhenItsContextEndsAtThatMoment races the two: whatever wins, the row is there exactly if
// Commit says so, and the connection lives on.
func TestACommitTellsTheTruthWhenItsContextEndsAtThatMoment(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	mustExec(t, db, "create table t (a int)")
	pid := backendPID(t, db)
	committed := 0
	for i := range 300 {
		ctx, cancel := context.WithCancel(t.Context())
		tx, err := db.BeginTx(ctx, nil)
		require.NoError(t, err)
		mustExec(t, tx, "insert into t values ($1)", i)
		var wg sync.WaitGroup
		if i%2 == 0 {
			wg.Go(cancel)
			err = tx.Commit()
		} else {
			wg.Go(func() { err = tx.Commit() })
			cancel()
		}
		wg.Wait()
		cancel()
		if err != nil {
			require.True(t, errors.Is(err, context.Canceled) || errors.Is(err, sql.ErrTxDone), "%v", err)
			require.NotErrorIs(t, err, pgprod.ErrCommitUnknown)
		} else {
			committed++
		}
		there := get[int](t, db, "select count(*) from t where a = $1", i) == 1
		require.Equal(t, err == nil, there, "Commit said %v", err)
	}
	t.Logf("%d of 300 committed", committed)
	assert.Equal(t, pid, backendPID(t, db))
}

// handled is a log that calls a function for each line.
type handled func(message string)

func (handled) Enabled(context.Context, slog.Level) bool        { return true }
func (f handled) Handle(_ context.Context, r slog.Record) error { f(r.Message); return nil }
func (f handled) WithAttrs([]slog.Attr) slog.Handler            { return f }
func (f handled) WithGroup(string) slog.Handler                 { return f }

func TestAContextThatEndsBetweenCheckoutAndBeginCostsNoConnection(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var armed atomic.Bool // lines come from other goroutines, too
	db := openPool(t, with(pgtest.NewDatabase(t), "echo_pool", "true"), pgprod.WithLogger(slog.New(handled(func(line string) {
		if armed.Load() && strings.Contains(line, "checkout") {
			cancel()
		}
	}))))
	pids := fill(t, db, 5)
	armed.Store(true)
	_, err := db.BeginTx(ctx, nil)
	require.ErrorIs(t, err, context.Canceled)
	armed.Store(false)
	assert.ElementsMatch(t, pids, fill(t, db, 5))
}

func TestABeginThatIsCutShortLeavesNoTransaction(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	begun := 0
	for range 300 {
		ctx, cancel := context.WithTimeout(t.Context(), rand.N(300*time.Microsecond))
		tx, err := db.BeginTx(ctx, nil)
		if err == nil {
			begun++
			_ = tx.Rollback()
		} else {
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.NotErrorIs(t, err, driver.ErrBadConn)
		}
		cancel()
		raw(t, db, func(conn *pgx.Conn) error {
			require.Equal(t, byte('I'), conn.PgConn().TxStatus())
			return nil
		})
	}
	t.Logf("%d of 300 begun", begun)
	mustExec(t, db, "select 1")
}

func TestRollbackAfterAnErrorKeepsTheConnection(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	mustExec(t, db, "create table t (a int primary key)")
	pid := backendPID(t, db)
	tx, err := db.Begin()
	require.NoError(t, err)
	mustExec(t, tx, "insert into t values (1)")
	_, err = tx.Exec("insert into t values (1)")
	require.Equal(t, "23505", sqlState(err))
	_, err = tx.Exec("insert into t values (2)")
	require.Equal(t, "25P02", sqlState(err))
	require.NoError(t, tx.Rollback())
	assert.Zero(t, get[int](t, db, "select count(*) from t"))
	assert.Equal(t, pid, backendPID(t, db))
	require.ErrorIs(t, tx.Rollback(), sql.ErrTxDone)
	require.ErrorIs(t, tx.Commit(), sql.ErrTxDone)
}

func TestTheCommitOfAFailedTransactionSaysThatItWasRolledBack(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	mustExec(t, db, "create table t (a int)")
	pid := backendPID(t, db)
	tx, err := db.Begin()
	require.NoError(t, err)
	mustExec(t, tx, "insert into t values (1)")
	_, err = tx.Exec("select 1/0")
	require.Error(t, err)
	err = tx.Commit()
	require.ErrorIs(t, err, pgx.ErrTxCommitRollback)
	require.NotErrorIs(t, err, pgprod.ErrCommitUnknown)
	assert.Zero(t, get[int](t, db, "select count(*) from t"))
	assert.Equal(t, pid, backendPID(t, db))
}

func TestADeferredConstraintFailsTheCommitAndItIsKnown(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	mustExec(t, db, "create table t (a int unique deferrable initially deferred)")
	pid := backendPID(t, db)
	tx, err := db.Begin()
	require.NoError(t, err)
	mustExec(t, tx, "insert into t values (1), (1)")
	err = tx.Commit()
	require.Equal(t, "23505", sqlState(err))
	require.NotErrorIs(t, err, pgprod.ErrCommitUnknown)
	assert.Equal(t, pid, backendPID(t, db))
}

// raw calls f with the *pgx.Conn of a connection.
func raw(t *testing.T, db *sql.DB, f func(conn *pgx.Conn) error) {
	t.Helper()
	require.NoError(t, pgprod.Raw(context.Background(), db, f))
}

func TestNothingDirtyIsLentAgain(t *testing.T) {
	t.Parallel()
	const discarded, kept = true, false
	onConn := func(statements ...string) func(*testing.T, *sql.DB) {
		return func(t *testing.T, db *sql.DB) {
			conn := hold(t, db)
			for _, statement := range statements {
				_, _ = conn.ExecContext(t.Context(), statement)
			}
			require.NoError(t, conn.Close())
		}
	}
	rawExec := func(statements ...string) func(*testing.T, *sql.DB) {
		return func(t *testing.T, db *sql.DB) {
			raw(t, db, func(conn *pgx.Conn) error {
				for _, statement := range statements {
					if _, err := conn.Exec(t.Context(), statement); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	for name, c := range map[string]struct {
		use       func(t *testing.T, db *sql.DB)
		discarded bool
	}{
		"BEGIN by Exec":           {func(t *testing.T, db *sql.DB) { mustExec(t, db, "begin") }, discarded},
		"BEGIN on a Conn":         {onConn("begin", "create table dirty (a int)"), discarded},
		"a failed transaction":    {onConn("begin", "select 1/0"), discarded},
		"BEGIN and COMMIT":        {onConn("begin", "select 1", "commit"), kept},
		"an error":                {onConn("select 1/0"), kept},
		"SET":                     {onConn("set random_page_cost = 7"), kept},
		"SET SESSION":             {onConn("set session random_page_cost = 7"), kept},
		"SET, and RESET":          {onConn("set random_page_cost = 7", "reset random_page_cost"), kept},
		"SET in a transaction":    {onConn("begin", "set random_page_cost = 7", "commit"), kept},
		"SET of several":          {onConn("set random_page_cost = 7; select 1"), kept},
		"SET after SET LOCAL":     {onConn("begin; set local jit = on; set random_page_cost = 7; commit"), kept},
		"SET behind a comment":    {onConn("/* a; b */ set random_page_cost = 7"), kept},
		"SET behind comments":     {onConn("-- a\nset/**/random_page_cost = 7; select 1"), kept},
		"SET, and an error":       {onConn("begin; set random_page_cost = 7; commit; select 1/0"), kept},
		"LISTEN behind a comment": {onConn("/* a; b */ listen channel"), kept},
		"SET in a literal":        {onConn("select 'a; set b'; select 1"), kept},
		"SET of a column":         {onConn("create temp table c (a int); update c set a = 1; drop table c"), kept},
		"SET that fails":          {onConn("set random_page_cost = banana"), kept},
		"SET LOCAL":               {onConn("begin", "set local random_page_cost = 7", "commit"), kept},
		"set local, in one":       {onConn("begin; set\nlocal random_page_cost = 7; select 1; commit;"), kept},
		"SET TRANSACTION":         {onConn("begin", "set transaction isolation level serializable", "commit"), kept},
		"SET ROLE":                {onConn("set role pg_monitor"), kept},
		"SET TIME ZONE":           {onConn("set time zone 'Asia/Tokyo'"), kept},
		"SET SESSION CHARACT.":    {onConn("set session characteristics as transaction read only"), kept},
		"RESET ALL":               {onConn("reset all"), kept},
		"DISCARD ALL":             {onConn("discard all"), discarded},
		"DEALLOCATE ALL":          {onConn("deallocate all"), discarded},
		"LISTEN":                  {onConn("listen channel"), kept},
		"several, harmless":       {onConn("select 1; select ';'"), kept},
		"LISTEN through Raw":      {rawExec("listen channel"), kept},
		"SET through Raw":         {rawExec("set random_page_cost = 7"), kept},
		"BEGIN through Raw":       {rawExec("begin"), discarded},
		"nothing through Raw":     {rawExec("select 1"), kept},
		"SET in a batch":          {rawBatch("select 1", "set random_page_cost = 7", "select 1"), kept},
		"nothing in a batch":      {rawBatch("select 1", "select 2"), kept},
		"a leaked pgx.Tx":         {leakedTx, discarded},
		"leaked pgx.Rows":         {leakedRows, discarded},
		"leaked driver.Rows":      {leakedDriverRows, discarded},
		"a closed *pgx.Conn":      {func(t *testing.T, db *sql.DB) { raw(t, db, closeConn) }, discarded},
		"an error from Raw":       {errorInRaw, kept},
		"a panic in Raw":          {panicInRaw, discarded},
		"a panic in Conn.Raw":     {panicInConnRaw, discarded},
		"ErrBadConn from Raw":     {badConnInConnRaw, discarded},
		"rows closed early":       {rowsClosedEarly, kept},
		"a transaction cut short": {contextEndsInTx, kept},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := openPool(t, oneConn(pgtest.NewDatabase(t)))
			pid, zone := backendPID(t, db), get[string](t, db, "show timezone")
			c.use(t, db)
			pgtest.Eventually(t, patience, func() bool { return statusOf(t, db).CheckedOut == 0 }, "not given back")

			conn := hold(t, db)
			assert.Equal(t, c.discarded, backendPID(t, conn) != pid, "discarded")
			assert.Equal(t, "1.1", get[string](t, conn, "show random_page_cost"))
			assert.Equal(t, "off", get[string](t, conn, "show jit"))
			assert.Equal(t, zone, get[string](t, conn, "show timezone"))
			assert.Equal(t, "read committed", get[string](t, conn, "show transaction_isolation"))
			assert.Equal(t, "off", get[string](t, conn, "show default_transaction_read_only"))
			assert.True(t, get[bool](t, conn, "select session_user = current_user"))
			assert.False(t, get[bool](t, conn, "select exists (select from pg_listening_channels())"))
			assert.True(t, get[bool](t, conn, "select to_regclass('dirty') is null"))
			require.NoError(t, conn.Raw(func(dc any) error {
				assert.Equal(t, byte('I'), dc.(interface{ Conn() *pgx.Conn }).Conn().PgConn().TxStatus(), "no transaction")
				return nil
			}))
			closed := statusOf(t, db).Closed
			assert.Equal(t, c.discarded, closed["dirty"]+closed["invalid"] == 1, "%v", closed)
		})
	}
}

func rawBatch(statements ...string) func(*testing.T, *sql.DB) {
	return func(t *testing.T, db *sql.DB) {
		raw(t, db, func(conn *pgx.Conn) error {
			var batch pgx.Batch
			for _, statement := range statements {
				batch.Queue(statement)
			}
			return conn.SendBatch(t.Context(), &batch).Close()
		})
	}
}

func leakedTx(t *testing.T, db *sql.DB) {
	raw(t, db, func(conn *pgx.Conn) error {
		_, err := conn.Begin(t.Context())
		return err
	})
}

func leakedRows(t *testing.T, db *sql.DB) {
	raw(t, db, func(conn *pgx.Conn) error {
		rows, err := conn.Query(t.Context(), "select generate_series(1, 100000)")
		rows.Next()
		return err
	})
}

func leakedDriverRows(t *testing.T, db *sql.DB) {
	conn := hold(t, db)
	require.NoError(t, conn.Raw(func(dc any) error {
		_, err := dc.(driver.QueryerContext).QueryContext(t.Context(), "select generate_series(1, 100000)", nil)
		return err
	}))
	require.NoError(t, conn.Close())
}

func closeConn(conn *pgx.Conn) error { return conn.Close(context.Background()) }

func errorInRaw(t *testing.T, db *sql.DB) {
	mine := errors.New("mine")
	require.Equal(t, mine, pgprod.Raw(t.Context(), db, func(*pgx.Conn) error { return mine }))
}

func panicInRaw(t *testing.T, db *sql.DB) {
	require.PanicsWithValue(t, "mine", func() {
		_ = pgprod.Raw(t.Context(), db, func(*pgx.Conn) error { panic("mine") })
	})
}

func panicInConnRaw(t *testing.T, db *sql.DB) {
	conn := hold(t, db)
	require.PanicsWithValue(t, "mine", func() { _ = conn.Raw(func(any) error { panic("mine") }) })
	_ = conn.Close()
}

// badConnInConnRaw is how a caller of Raw tells database/sql not to use a connection again.
func badConnInConnRaw(t *testing.T, db *sql.DB) {
	conn := hold(t, db)
	require.ErrorIs(t, conn.Raw(func(any) error { return driver.ErrBadConn }), driver.ErrBadConn)
	_ = conn.Close()
}

func rowsClosedEarly(t *testing.T, db *sql.DB) {
	rows, err := db.Query("select generate_series(1, 10)")
	require.NoError(t, err)
	require.True(t, rows.Next())
	require.NoError(t, rows.Close())
}

func contextEndsInTx(t *testing.T, db *sql.DB) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
}

func TestResetDoesNotCostTheNextBorrowerTheServerSettingsInModeSet(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t), "server_settings_mode", "set"))
	for _, query := range []string{"reset random_page_cost", "reset all", "discard all"} {
		mustExec(t, db, query)
		assert.Equal(t, "1.1", get[string](t, db, "show random_page_cost"), query)
	}
}

// TestWhatComesAfterACommitHasErrorsOfItsOwn: the COMMIT was sent as text, so that nothing ends it but the next statement.
func TestWhatComesAfterACommitHasErrorsOfItsOwn(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]func(*sql.Conn) error{
		"Ping":    func(conn *sql.Conn) error { return conn.PingContext(t.Context()) },
		"Exec":    func(conn *sql.Conn) error { _, err := conn.ExecContext(t.Context(), "select 1"); return err },
		"BeginTx": func(conn *sql.Conn) error { _, err := conn.BeginTx(t.Context(), nil); return err },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := openPool(t, pgtest.NewDatabase(t))
			conn := hold(t, db)
			pid := backendPID(t, conn)
			for _, text := range []string{"begin", "commit"} {
				mustExec(t, conn, text)
			}
			terminate(t, pid)
			for range 2 { // the connection is found to be lost, and then known to be
				err := next(conn)
				require.Error(t, err)
				require.NotErrorIs(t, err, pgprod.ErrCommitUnknown)
			}
		})
	}
}
