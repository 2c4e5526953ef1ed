package drivertest

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// counts are how many statements have run, by summary.
type counts = map[string]int

const itemsTable = "create table items (id int primary key, cart int)"

func TestStatementsAreCountedByTheirContext(t *testing.T) {
	t.Parallel()
	db := openPool(t, pgtest.NewDatabase(t))
	mustExec(t, db, itemsTable)
	ctx, count := pgprod.ContextCounting(t.Context())
	assert.Zero(t, count.Total())
	assert.Equal(t, "no statements", count.String())

	var n int
	require.NoError(t, db.QueryRowContext(ctx, "select count(*) from items where cart = $1", 1).Scan(&n))
	assert.Equal(t, "1 statement: 1 × select items", count.String())
	for n := range 3 {
		_, err := db.ExecContext(ctx, "insert into items values ($1, $2)", n, 1)
		require.NoError(t, err)
	}
	_, err := db.ExecContext(ctx, "insert into items values ($1, $2)", 1, 1)
	require.Error(t, err)
	_, err = db.ExecContext(ctx, "delete from items; select 1 from items")
	require.NoError(t, err)
	require.NoError(t, db.PingContext(ctx))
	mustExec(t, db, "update items set cart = 2") // under another context

	want := counts{"select items": 1, "insert items": 4, "delete items select items": 1}
	assert.Equal(t, want, count.BySummary())
	assert.Equal(t, 6, count.Total())
	assert.Equal(t, "6 statements: 4 × insert items, 1 × delete items select items, 1 × select items", count.String())

	count.BySummary()["select items"] = 100
	assert.Equal(t, want, count.BySummary(), "the map is the caller's")
	count.Reset()
	assert.Zero(t, count.Total())
	assert.Empty(t, count.BySummary())
}

func TestAQueryCountsBeforeItsRowsAreRead(t *testing.T) {
	t.Parallel()
	db := openPool(t, pgtest.NewDatabase(t))
	ctx, count := pgprod.ContextCounting(t.Context())
	rows, err := db.QueryContext(ctx, "select generate_series(1, 3)")
	require.NoError(t, err)
	assert.Equal(t, 1, count.Total())
	require.NoError(t, rows.Close())
	assert.Equal(t, 1, count.Total())
}

func TestNestedContextsAllCount(t *testing.T) {
	t.Parallel()
	db := openPool(t, pgtest.NewDatabase(t))
	run := func(ctx context.Context) {
		_, err := db.ExecContext(ctx, "select 1")
		require.NoError(t, err)
	}
	outerCtx, outer := pgprod.ContextCounting(t.Context())
	innerCtx, inner := pgprod.ContextCounting(pgprod.ContextRepeatable(outerCtx))
	siblingCtx, sibling := pgprod.ContextCounting(outerCtx)
	run(outerCtx)
	run(innerCtx)
	run(innerCtx)
	run(siblingCtx)
	assert.Equal(t, 4, outer.Total())
	assert.Equal(t, 2, inner.Total())
	assert.Equal(t, 1, sibling.Total())
	inner.Reset()
	assert.Equal(t, 4, outer.Total())
}

// What begins and ends the transaction doesn't count, so that the budget is the same with either setting of begin.
func TestTheStatementsOfATransactionCountForTheContextItWasBegunWith(t *testing.T) {
	t.Parallel()
	for _, begin := range []string{"lazy", "eager"} {
		for _, mode := range []string{"cache_statement", "simple_protocol"} {
			t.Run(begin+" "+mode, func(t *testing.T) {
				t.Parallel()
				db := openPool(t, with(pgtest.NewDatabase(t), "begin", begin, "default_query_exec_mode", mode))
				mustExec(t, db, itemsTable)
				outerCtx, outer := pgprod.ContextCounting(t.Context())
				txCtx, ofTx := pgprod.ContextCounting(outerCtx)
				stmtCtx, ofStmt := pgprod.ContextCounting(outerCtx)
				tx, err := db.BeginTx(txCtx, nil)
				require.NoError(t, err)
				_, err = tx.Exec("insert into items values (1, 1)")
				require.NoError(t, err)
				_, err = tx.ExecContext(txCtx, "savepoint a")
				require.NoError(t, err)
				_, err = tx.ExecContext(stmtCtx, "update items set cart = $1", 2)
				require.NoError(t, err)
				_, err = tx.ExecContext(txCtx, "rollback to a")
				require.NoError(t, err)
				require.NoError(t, tx.Commit())

				all := counts{"insert items": 1, "update items": 1, "savepoint": 1, "rollback": 1}
				assert.Equal(t, all, ofTx.BySummary())
				assert.Equal(t, all, outer.BySummary(), "once, though two of its contexts count")
				assert.Equal(t, counts{"update items": 1}, ofStmt.BySummary())

				mustExec(t, db, "select 1")
				assert.Equal(t, all, ofTx.BySummary(), "the transaction is over")

				outer.Reset()
				tx, err = db.BeginTx(outerCtx, nil)
				require.NoError(t, err)
				_, err = tx.Exec("select 1")
				require.NoError(t, err)
				require.NoError(t, tx.Rollback())
				assert.Equal(t, counts{"select": 1}, outer.BySummary())
			})
		}
	}
}

func TestInTxCountsEachOfItsAttempts(t *testing.T) {
	t.Parallel()
	db := openPool(t, pgtest.NewDatabase(t))
	ctx, count := pgprod.ContextCounting(t.Context())
	attempts := 0
	require.NoError(t, pgprod.InTx(ctx, db, func(tx *sql.Tx) error {
		if _, err := tx.Exec("select 1"); err != nil {
			return err
		}
		if attempts++; attempts < 3 {
			_, err := tx.Exec("do $$ begin raise sqlstate '40001'; end $$")
			return err
		}
		return nil
	}))
	assert.Equal(t, counts{"select": 3, "do": 2}, count.BySummary())
}

// A schema that changes under a prepared statement, and connections that die, make pgprod try statements again.
func TestAStatementThatIsTriedAgainCountsOnce(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	var log logBuffer
	db := openPool(t, oneConn(proxy.DSN(), "pool_pre_ping", "off"), pgprod.WithLogger(log.logger()))
	mustExec(t, db, "create table items (id int)")
	get[int](t, db, "select count(*) from (select * from items where id > $1) s", 0)
	query := func(ctx context.Context) {
		rows, err := db.QueryContext(ctx, "select * from items where id > $1", 0)
		require.NoError(t, err)
		require.NoError(t, rows.Close())
		require.NoError(t, rows.Err())
	}
	query(t.Context())
	mustExec(t, openPgx(t, proxy.DSN()), "alter table items add name text")
	ctx, count := pgprod.ContextCounting(t.Context())
	query(ctx)
	assert.Equal(t, counts{"select items": 1}, count.BySummary(), "outdated")

	pid := backendPID(t, db)
	terminate(t, pid)
	count.Reset()
	query(pgprod.ContextRepeatable(ctx))
	assert.NotEqual(t, pid, backendPID(t, db))
	assert.Equal(t, counts{"select items": 1}, count.BySummary(), "lost")
}

func TestPreparingCountsNothingAndExecutingDoes(t *testing.T) {
	t.Parallel()
	db := openPool(t, pgtest.NewDatabase(t))
	ctx, count := pgprod.ContextCounting(t.Context())
	stmt, err := db.PrepareContext(ctx, "select $1::int")
	require.NoError(t, err)
	defer stmt.Close()
	assert.Zero(t, count.Total())
	for n := range 3 {
		_, err = stmt.ExecContext(ctx, n)
		require.NoError(t, err)
	}
	assert.Equal(t, counts{"select": 3}, count.BySummary())
}

func TestWhatRawSendsIsCountedToo(t *testing.T) {
	t.Parallel()
	db := openPool(t, pgtest.NewDatabase(t))
	mustExec(t, db, itemsTable)
	ctx, count := pgprod.ContextCounting(t.Context())
	require.NoError(t, pgprod.Raw(ctx, db, func(conn *pgx.Conn) error {
		_, err := conn.CopyFrom(ctx, pgx.Identifier{"items"}, []string{"id", "cart"}, pgx.CopyFromRows([][]any{{1, 1}, {2, 1}}))
		require.NoError(t, err)
		var b, mixed, one pgx.Batch
		for n := range 3 {
			b.Queue("update items set cart = $1", n)
			mixed.Queue("update items set cart = $1", n)
		}
		mixed.Queue("delete from items where id = $1", 2)
		one.Queue("delete from items where id = $1", 3)
		for _, b := range []*pgx.Batch{&b, &mixed, &one} {
			require.NoError(t, conn.SendBatch(ctx, b).Close())
		}
		_, err = conn.Prepare(ctx, "", "select id from items")
		require.NoError(t, err)
		tx, err := conn.Begin(ctx)
		require.NoError(t, err)
		_, err = tx.Exec(ctx, "insert into items values ($1, $2)", 4, 1)
		require.NoError(t, err)
		require.NoError(t, tx.Commit(ctx))
		_, err = conn.Exec(context.Background(), "delete from items")
		return err
	}))
	assert.Equal(t, counts{
		`COPY "items"`: 1, "BATCH update items": 1, "BATCH": 1, "delete items": 1, "insert items": 1,
	}, count.BySummary())
}

func TestManyGoroutinesMayCountTogether(t *testing.T) {
	t.Parallel()
	db := openPool(t, pgtest.NewDatabase(t))
	ctx, count := pgprod.ContextCounting(t.Context())
	var w sync.WaitGroup
	for range 8 {
		w.Go(func() {
			for range 25 {
				_, err := db.ExecContext(ctx, "select 1")
				assert.NoError(t, err)
				_ = count.String()
			}
		})
	}
	w.Wait()
	assert.Equal(t, counts{"select": 200}, count.BySummary())
}

func TestAStatementThatGotNoConnectionDoesNotCount(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t), "pool_timeout", "20ms"))
	hold(t, db)
	ctx, count := pgprod.ContextCounting(t.Context())
	pgtest.Eventually(t, patience, func() bool {
		_, err := db.ExecContext(ctx, "select 1")
		return errors.Is(err, pgprod.ErrPoolTimeout)
	}, "the pool is full")
	assert.Zero(t, count.Total())
}
