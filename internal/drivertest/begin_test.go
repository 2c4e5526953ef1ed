package drivertest

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// warmInsert runs some inserts, so that what follows is prepared on the pool's only connection.
func warmInsert(t testing.TB, db *sql.DB) {
	t.Helper()
	mustExec(t, db, "create table t (a int)")
	for range 2 {
		tx, err := db.Begin()
		require.NoError(t, err)
		mustExec(t, tx, "insert into t values ($1)", 1)
		require.NoError(t, tx.Commit())
	}
	mustExec(t, db, "delete from t")
}

func TestBeginTravelsWithTheFirstStatement(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	for begin, trips := range map[string]int{"lazy": 0, "eager": 1} {
		db := openPool(t, oneConn(proxy.DSN(), "begin", begin))
		mustExec(t, db, "drop table if exists t")
		warmInsert(t, db)
		for statements := range 6 {
			for _, end := range []func(*sql.Tx) error{(*sql.Tx).Rollback, (*sql.Tx).Commit} {
				proxy.Reset()
				tx, err := db.Begin()
				require.NoError(t, err)
				for i := range statements {
					mustExec(t, tx, "insert into t values ($1)", i)
				}
				require.NoError(t, end(tx))
				want := trips + statements + 1
				if begin == "lazy" && statements == 0 {
					want = 0 // an empty transaction sends nothing
				}
				assert.Equal(t, want, proxy.Stats().RoundTrips, "%s, %d statements", begin, statements)
			}
		}
		assert.Equal(t, 0+1+2+3+4+5, get[int](t, db, "select count(*) from t"))
		require.NoError(t, db.Close())
	}
}

func TestEachTransactionIsOfTheKindThatWasAskedFor(t *testing.T) {
	inModes(t, append([]string{"simple_protocol"}, modes...), func(t *testing.T, db *sql.DB) {
		for level, want := range map[sql.IsolationLevel]string{
			sql.LevelDefault: "read committed", sql.LevelReadUncommitted: "read uncommitted", sql.LevelReadCommitted: "read committed",
			sql.LevelRepeatableRead: "repeatable read", sql.LevelSnapshot: "repeatable read", sql.LevelSerializable: "serializable",
		} {
			for _, readOnly := range []bool{true, false} {
				for range 2 {
					tx, err := db.BeginTx(t.Context(), &sql.TxOptions{Isolation: level, ReadOnly: readOnly})
					require.NoError(t, err)
					const ask = "select current_setting('transaction_isolation'), current_setting('transaction_read_only')::bool where $1"
					var got string
					var only bool
					require.NoError(t, tx.QueryRow(ask, true).Scan(&got, &only))
					assert.Equal(t, fmt.Sprint(want, readOnly), fmt.Sprint(got, only))
					require.NoError(t, tx.Commit())
				}
			}
		}
	})
}

// On a connection that has prepared nothing yet, to prepare what sets the context's settings must not come before BEGIN: the
// server takes a snapshot for it, and then refuses to set the isolation level.
func TestATransactionWithRidersIsOfItsKindOnANewConnection(t *testing.T) {
	t.Parallel()
	for _, mode := range append([]string{"simple_protocol"}, modes...) {
		db := warm(t, with(pgtest.NewDatabase(t), "default_query_exec_mode", mode, "trace_context", "application_name"), newTracing(t))
		tx, err := db.BeginTx(tenantCtx(t, "A"), &sql.TxOptions{Isolation: sql.LevelSerializable})
		require.NoError(t, err)
		assert.Equal(t, "A", tenantOf(t, tx, t.Context()), mode)
		assert.Equal(t, "serializable", get[string](t, tx, "select current_setting('transaction_isolation')"), mode)
		require.NoError(t, tx.Commit())
	}
}

func TestATransactionWithRidersCanBeSetUpBeforeItsFirstQuery(t *testing.T) {
	t.Parallel()
	for _, mode := range append([]string{"simple_protocol"}, modes...) {
		dsn := pgtest.NewDatabase(t)
		db := warm(t, with(dsn, "default_query_exec_mode", mode, "trace_context", "application_name"), newTracing(t))
		other := openPgx(t, dsn)
		mustExec(t, db, "create table t (a int)")
		tx, err := db.BeginTx(tenantCtx(t, "A"), nil)
		require.NoError(t, err)
		mustExec(t, tx, "set transaction isolation level repeatable read")
		mustExec(t, tx, "lock table t in share row exclusive mode")
		mustExec(t, other, "create table made_meanwhile as select 1 as a")
		assert.Equal(t, 1, get[int](t, tx, "select count(*) from made_meanwhile"), "%s: the snapshot is from before the lock", mode)
		assert.Equal(t, "A", tenantOf(t, tx, t.Context()), mode)
		assert.Equal(t, "repeatable read", get[string](t, tx, "select current_setting('transaction_isolation')"), mode)
		require.NoError(t, tx.Commit())
	}
}

// Of two transactions that are begun on one *sql.Conn the server makes one. What a COMMIT has acknowledged is committed.
func TestATransactionWithinATransactionIsTheSameOne(t *testing.T) {
	inModes(t, append([]string{"simple_protocol"}, modes...), func(t *testing.T, db *sql.DB) {
		mustExec(t, db, "create table t (a int)")
		for _, used := range []bool{true, false} {
			mustExec(t, db, "delete from t")
			conn, err := db.Conn(t.Context())
			require.NoError(t, err)
			outer, err := conn.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			if used {
				mustExec(t, outer, "insert into t values ($1)", 1)
			}
			inner, err := conn.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			mustExec(t, outer, "insert into t values ($1)", 2)
			require.NoError(t, outer.Commit())
			_ = inner.Rollback()
			require.NoError(t, conn.Close())
			assert.Equal(t, 1, get[int](t, db, "select count(*) from t where a = 2"))
			assert.Equal(t, used, get[bool](t, db, "select exists (select from t where a = 1)"))
		}

		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		outer, err := conn.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		mustExec(t, outer, "insert into t values ($1)", 3)
		_, err = conn.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelSerializable})
		requireCode(t, err, "25001")
		require.ErrorContains(t, outer.Commit(), "rollback")
		require.NoError(t, conn.Close())
		assert.Zero(t, get[int](t, db, "select count(*) from t where a = 3"))
	})
}

func TestAFirstStatementThatFailsEndsItsTransaction(t *testing.T) {
	inModes(t, append([]string{"simple_protocol"}, modes...), func(t *testing.T, db *sql.DB) {
		mustExec(t, db, "create table t (a int)")
		for _, args := range [][]any{{"select 1/$1::int", 0}, {"selekt $1", 0}, {"select 1/0"}, {"insert into missing values ($1)", 1}} {
			tx, err := db.Begin()
			require.NoError(t, err)
			_, err = tx.Exec(args[0].(string), args[1:]...)
			require.Error(t, err)
			_, err = tx.Exec("insert into t values ($1)", 1)
			requireCode(t, err, "25P02")
			require.ErrorContains(t, tx.Commit(), "rollback")
		}
		assert.Zero(t, get[int](t, db, "select count(*) from t"))
	})
}

func TestSavepointsInATransactionThatWasBegunLate(t *testing.T) {
	inModes(t, append([]string{"simple_protocol"}, modes...), func(t *testing.T, db *sql.DB) {
		mustExec(t, db, "create table t (a int)")
		tx, err := db.Begin()
		require.NoError(t, err)
		mustExec(t, tx, "savepoint s")
		mustExec(t, tx, "insert into t values ($1)", 1)
		mustExec(t, tx, "rollback to s")
		mustExec(t, tx, "insert into t values ($1)", 2)
		require.NoError(t, tx.Commit())
		assert.Equal(t, 2, get[int](t, db, "select sum(a) from t"))
	})
}

func TestAConnectionThatDiesBeforeBeginIsReplaced(t *testing.T) {
	t.Parallel()
	for _, how := range []faultproxy.End{faultproxy.RST, faultproxy.FIN} {
		for name, run := range map[string]func(tx *sql.Tx) error{
			"exec":  func(tx *sql.Tx) error { _, err := tx.Exec("insert into t values (1)"); return err },
			"query": func(tx *sql.Tx) error { return tx.QueryRow("insert into t values ($1) returning a", 1).Scan(new(int)) },
			"prepare": func(tx *sql.Tx) error {
				stmt, err := tx.Prepare("insert into t values ($1 + 0)")
				if err == nil {
					_, err = stmt.Exec(1)
				}
				return err
			},
			"several": func(tx *sql.Tx) error { _, err := tx.Exec("insert into t values (1); select 1"); return err },
		} {
			proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
			db := openPool(t, oneConn(proxy.DSN()))
			warmInsert(t, db)
			tx, err := db.BeginTx(tenantCtx(t, "A"), nil)
			require.NoError(t, err)
			proxy.CloseAll(how)
			time.Sleep(20 * time.Millisecond) // a connection that was borrowed within 50 µs isn't looked at; see link.Conn.FoundDead
			require.NoError(t, run(tx), "%v %s", how, name)
			assert.Equal(t, "A", tenantOf(t, tx, t.Context()))
			require.NoError(t, tx.Commit())
			assert.Equal(t, 1, get[int](t, db, "select count(*) from t"))
		}
	}
}

func TestATransactionThatLosesItsOnlyConnectionBeforeBeginHasNothingToEnd(t *testing.T) {
	t.Parallel()
	for _, end := range []func(*sql.Tx) error{(*sql.Tx).Rollback, (*sql.Tx).Commit} {
		proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
		db := openPool(t, oneConn(proxy.DSN(), "pool_timeout", "100ms"))
		var tx *sql.Tx
		var err error
		pgtest.Eventually(t, patience, func() bool { tx, err = db.Begin(); return err == nil }, "a busy machine takes longer to connect")
		require.NoError(t, proxy.Refuse())
		proxy.CloseAll(faultproxy.RST)
		pgtest.Eventually(t, patience, func() bool { _, err = tx.Exec("select 1"); return err != nil }, "the connection lives")
		require.ErrorIs(t, err, pgprod.ErrPoolTimeout)
		require.NoError(t, end(tx))
	}
}

func TestAConnectionThatDiesAfterBeginIsNotReplaced(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, oneConn(proxy.DSN()))
	warmInsert(t, db)
	tx, err := db.Begin()
	require.NoError(t, err)
	mustExec(t, tx, "insert into t values ($1)", 1)
	proxy.CloseAll(faultproxy.RST)
	_, err = tx.Exec("insert into t values ($1)", 2)
	require.Error(t, err)
	require.Error(t, tx.Commit())
	assert.Zero(t, get[int](t, db, "select count(*) from t"))
}

func TestContextOfBeginEndsATransactionThatHasNotBegun(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	ctx, cancel := context.WithCancel(t.Context())
	tx, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	cancel()
	pgtest.Eventually(t, patience, func() bool { return statusOf(t, db).CheckedOut == 0 }, "it holds its connection")
	_, err = tx.Exec("select 1")
	require.Error(t, err)
	assert.Equal(t, 1, get[int](t, db, "select 1"))
}
