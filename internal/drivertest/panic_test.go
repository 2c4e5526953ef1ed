package drivertest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// bug is an argument that panics when pgx asks for its value, in the midst of a statement.
type bug struct{}

func (bug) Value() (driver.Value, error) { panic("a bug in the application") }

// quitter is an argument whose value ends the goroutine, as a failed assertion of a test does.
type quitter struct{}

func (quitter) Value() (driver.Value, error) { runtime.Goexit(); return nil, nil }

// callsWith are the kinds of call that take an argument.
var callsWith = map[string]func(q holder, arg any) error{
	"Exec": func(q holder, arg any) error {
		_, err := q.ExecContext(context.Background(), "select $1::text", arg)
		return err
	},
	"Query": func(q holder, arg any) error {
		return drained(q.QueryContext(context.Background(), "select $1::text", arg))
	},
	"QueryRow": func(q holder, arg any) error {
		return q.QueryRowContext(context.Background(), "select $1::text", arg).Scan(new(string))
	},
	"Stmt.Exec": func(q holder, arg any) error {
		return onStmt(q, func(stmt *sql.Stmt) error { _, err := stmt.Exec(arg); return err })
	},
	"Stmt.Query": func(q holder, arg any) error {
		return onStmt(q, func(stmt *sql.Stmt) error { return drained(stmt.Query(arg)) })
	},
}

func onStmt(q holder, do func(*sql.Stmt) error) error {
	stmt, err := q.PrepareContext(context.Background(), "select $1::text")
	if err != nil {
		return err
	}
	return errors.Join(do(stmt), stmt.Close())
}

// requirePanicError checks the error that a panic has become: it has the panic's value, and where it began.
func requirePanicError(t testing.TB, err error) {
	t.Helper()
	require.ErrorContains(t, err, "pgprod: a panic in the midst of a statement: a bug in the application")
	require.ErrorContains(t, err, "drivertest.bug.Value")
}

func TestAPanicOfTheApplicationsIsAnErrorAndCostsItsConnectionAndNobodyElse(t *testing.T) {
	t.Parallel()
	for name, call := range callsWith {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := openPool(t, oneConn(pgtest.NewDatabase(t), "command_timeout", "1s"))
			pid := backendPID(t, db)
			began := time.Now()
			requirePanicError(t, call(db, bug{}))
			assert.Zero(t, statusOf(t, db).CheckedOut, "the place is free")
			assert.NotEqual(t, pid, backendPID(t, db), "what was half way through something is not lent again")

			// What the panic interrupted has no timeout left that could hit another.
			for time.Since(began) < 1500*time.Millisecond {
				mustExec(t, db, "select pg_sleep(0.2)")
			}
			_, err := db.Exec("select pg_sleep(60)")
			require.ErrorIs(t, err, context.DeadlineExceeded, "the next has its own")
			mustExec(t, db, "set timezone = 'Asia/Tokyo'")
			assert.NotEqual(t, "Asia/Tokyo", get[string](t, db, "show timezone"), "and is looked at for what it leaves behind")
		})
	}
}

// TestAPanicInATransactionHangsNobody is about database/sql, which keeps the lock of a *sql.Tx or a *sql.Conn when a
// driver panics in a query: Rollback and Close wait for it (golang/go#26332), and so they do with pgx.
func TestAPanicInATransactionHangsNobody(t *testing.T) {
	t.Parallel()
	for name, call := range callsWith {
		for held, hold := range holders {
			t.Run(name+"/"+held, func(t *testing.T) {
				t.Parallel()
				db := openPool(t, oneConn(pgtest.NewDatabase(t)))
				h, giveBack := hold(t, db)
				requirePanicError(t, call(h, bug{}))
				giveBack()
				assert.Zero(t, statusOf(t, db).CheckedOut)
				mustExec(t, db, "select 1")
			})
		}
	}
}

func TestAPanicInsideInTxIsItsErrorAndRollsBack(t *testing.T) {
	t.Parallel()
	for name, call := range callsWith {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := openPool(t, oneConn(pgtest.NewDatabase(t)))
			mustExec(t, db, "create table t (a int)")
			requirePanicError(t, pgprod.InTx(t.Context(), db, func(tx *sql.Tx) error {
				mustExec(t, tx, "insert into t values (1)")
				return call(tx, bug{})
			}))
			assert.Zero(t, get[int](t, db, "select count(*) from t"))
			assert.Zero(t, statusOf(t, db).CheckedOut)
		})
	}
}

// TestAPanicAfterATransactionOfTheSameConnCostsItsConnection: nothing of a transaction stays in the session after it.
func TestAPanicAfterATransactionOfTheSameConnCostsItsConnection(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*sql.Tx) error{"Commit": (*sql.Tx).Commit, "Rollback": (*sql.Tx).Rollback} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := openPool(t, oneConn(pgtest.NewDatabase(t)))
			conn := hold(t, db)
			pid := backendPID(t, conn)
			tx, err := conn.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			require.NoError(t, end(tx))
			quit(func() { _ = callsWith["Exec"](conn, quitter{}) })
			_, err = conn.ExecContext(t.Context(), "select 1")
			require.ErrorContains(t, err, "panic")
			require.NoError(t, conn.Close())
			assert.NotEqual(t, pid, backendPID(t, db))
		})
	}
}

// quit runs f in a goroutine that f ends by runtime.Goexit, and waits for that.
func quit(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

func TestAGoroutineThatEndsInTheMidstOfAStatementGivesItsConnectionBack(t *testing.T) {
	t.Parallel()
	for name, call := range callsWith {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := openPool(t, oneConn(pgtest.NewDatabase(t)))
			pid := backendPID(t, db)
			quit(func() { _ = call(db, quitter{}) })
			assert.Zero(t, statusOf(t, db).CheckedOut, "the place is free")
			assert.NotEqual(t, pid, backendPID(t, db))
		})
	}
}

// wrapping is a connector of somebody's who embeds ours, and so has its driver.
type wrapping struct{ *pgprod.Connector }

func (w wrapping) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := w.Connector.Connect(ctx)
	return struct{ driver.Conn }{conn}, err
}

func TestRawSaysThatItCannotSeeThroughAWrappedConnection(t *testing.T) {
	t.Parallel()
	connector, err := pgprod.NewConnector(pgtest.NewDatabase(t))
	require.NoError(t, err)
	db := sql.OpenDB(wrapping{connector})
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	err = pgprod.Raw(t.Context(), db, func(*pgx.Conn) error { return nil })
	require.ErrorContains(t, err, "which wraps pgprod's")
}
