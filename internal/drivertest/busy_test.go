package drivertest

import (
	"context"
	"database/sql"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// statementsWhileBusy is each way to send a statement while the rows of another are open.
var statementsWhileBusy = map[string]func(*testing.T, *sql.Conn) error{
	"Exec": func(t *testing.T, c *sql.Conn) error {
		_, err := c.ExecContext(t.Context(), "select 1")
		return err
	},
	"Exec with arguments": func(t *testing.T, c *sql.Conn) error {
		_, err := c.ExecContext(t.Context(), "select $1::int", 1)
		return err
	},
	"Query": func(t *testing.T, c *sql.Conn) error {
		_, err := c.QueryContext(t.Context(), "select 1")
		return err
	},
	"QueryRow": func(t *testing.T, c *sql.Conn) error {
		return c.QueryRowContext(t.Context(), "select $1::int", 1).Err()
	},
	"Prepare": func(t *testing.T, c *sql.Conn) error {
		st, err := c.PrepareContext(t.Context(), "select $1::text")
		if err == nil { // in the modes that prepare nothing
			_, err = st.Exec("x")
		}
		return err
	},
	"Begin": func(t *testing.T, c *sql.Conn) error {
		_, err := c.BeginTx(t.Context(), nil)
		return err
	},
	"Ping": func(t *testing.T, c *sql.Conn) error { return c.PingContext(t.Context()) },
}

func TestWhatIsRefusedWhileRowsAreOpenHarmsThemInNoMode(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		db := openPool(t, oneConn(dsn, "default_query_exec_mode", mode))
		for name, do := range statementsWhileBusy {
			for _, rows := range []int{2, 5000} { // which came with the first read of the socket, or do not
				conn := hold(t, db)
				require.NoError(t, conn.PingContext(t.Context()))
				open, err := conn.QueryContext(t.Context(), "select i, i::text from generate_series(1, $1::int) i", rows)
				require.NoError(t, err)
				require.True(t, open.Next())
				require.ErrorContains(t, do(t, conn), "busy", "%s %s", mode, name)
				count := 1
				for open.Next() {
					count++
				}
				assert.NoError(t, open.Err(), "%s %s", mode, name)
				assert.Equal(t, rows, count, "%s %s", mode, name)
				assert.Equal(t, 1, get[int](t, conn, "select 1"), "%s %s", mode, name)
				require.NoError(t, conn.Close())
			}
		}
	}
}

func TestPrepareWithAContextThatHasEndedFailsInEveryMode(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		conn := hold(t, openPool(t, with(dsn, "default_query_exec_mode", mode)))
		for range 2 { // the second time the text is known
			_, err := conn.PrepareContext(ended, "select 1")
			require.ErrorIs(t, err, context.Canceled, mode)
			_, err = conn.PrepareContext(t.Context(), "select 1")
			require.NoError(t, err, mode)
		}
	}
}

// TestATransactionThatEndsWhileRowsOfItsConnAreOpenCostsTheConnectionOnly: the rows are the *sql.Conn's and not the
// transaction's, so that database/sql leaves them open.
func TestATransactionThatEndsWhileRowsOfItsConnAreOpenCostsTheConnectionOnly(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*sql.Tx) error{"Commit": (*sql.Tx).Commit, "Rollback": (*sql.Tx).Rollback} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log logBuffer
			db := openPool(t, oneConn(pgtest.NewDatabase(t)), pgprod.WithLogger(log.logger()))
			mustExec(t, db, "create table t (a int)")
			conn := hold(t, db)
			tx, err := conn.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			mustExec(t, tx, "insert into t values (1)")
			rows, err := conn.QueryContext(t.Context(), "select generate_series(1, 3)")
			require.NoError(t, err)
			require.ErrorContains(t, end(tx), "busy")
			for rows.Next() {
			}
			require.Error(t, rows.Err())
			assert.NotErrorIs(t, rows.Err(), context.Canceled, "nobody has cancelled anything")
			require.NoError(t, conn.Close())
			assert.Zero(t, get[int](t, db, "select count(*) from t"))
			assert.NotContains(t, log.String(), "the server closed a connection")
		})
	}
}
