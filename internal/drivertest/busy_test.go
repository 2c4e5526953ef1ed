package drivertest

import (
	"context"
	"database/sql"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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
