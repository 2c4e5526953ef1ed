package drivertest

import (
	"context"
	"database/sql"
	"database/sql/driver"
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

// panicIn makes the application panic in each kind of call.
var panicIn = map[string]func(querier){
	"Exec": func(q querier) { _, _ = q.ExecContext(context.Background(), "select $1::text", bug{}) },
	"QueryRow": func(q querier) {
		_ = q.QueryRowContext(context.Background(), "select $1::text", bug{}).Scan(new(string))
	},
}

func TestAPanicOfTheApplicationsCostsItsConnectionAndNobodyElse(t *testing.T) {
	t.Parallel()
	for name, call := range panicIn {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := openPool(t, oneConn(pgtest.NewDatabase(t), "command_timeout", "1s"))
			pid := backendPID(t, db)
			began := time.Now()
			require.PanicsWithValue(t, "a bug in the application", func() { call(db) })
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

func TestAConnAfterAPanicSaysSoAndGetsNoOtherConnection(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	conn := hold(t, db)
	require.Panics(t, func() { panicIn["Exec"](conn) })
	_, err := conn.ExecContext(t.Context(), "select 1")
	require.ErrorContains(t, err, "panic")
	require.NoError(t, conn.Close())
	mustExec(t, db, "select 1")
}

func TestATransactionAfterAPanicCanBeRolledBack(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	mustExec(t, db, "create table t (a int)")
	require.Panics(t, func() {
		_ = pgprod.InTx(t.Context(), db, func(tx *sql.Tx) error {
			mustExec(t, tx, "insert into t values (1)")
			panicIn["Exec"](tx)
			return nil
		})
	})
	assert.Zero(t, get[int](t, db, "select count(*) from t"))
	assert.Zero(t, statusOf(t, db).CheckedOut)
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
