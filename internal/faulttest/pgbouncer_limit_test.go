package faulttest

import (
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// TestOneCallsLimitBehindPgBouncerWithTransactionPooling: what travels with the statement ends with it. What is set for the
// session, because the statement must stand alone, stays on its connection to the server if the next statement gets another.
func TestOneCallsLimitBehindPgBouncerWithTransactionPooling(t *testing.T) {
	t.Parallel()
	const ask = "select current_setting('statement_timeout'), pg_backend_pid()"
	b := startBouncer(t, pgtest.StartTB(t, pgtest.Config{}), "transaction", "server_round_robin = 1")
	db := openPool(t, b.dsn("", "server_settings", dropped, "default_query_exec_mode", "exec", "pool_size", "1", "max_overflow", "0"))
	minute := pgprod.ContextWithCommandTimeout(t.Context(), time.Minute)
	var limit string
	var pid int
	for range 4 { // a statement each time on another connection
		require.NoError(t, db.QueryRowContext(minute, ask).Scan(&limit, &pid))
		assert.Equal(t, "61s", limit)
		require.NoError(t, db.QueryRow(ask).Scan(&limit, &pid))
		assert.Equal(t, "0", limit)
		require.NoError(t, pgprod.InTx(t.Context(), db, func(tx *sql.Tx) error {
			return tx.QueryRowContext(minute, ask).Scan(&limit, &pid)
		}))
		assert.Equal(t, "61s", limit)
	}

	other, err := openPgx(t, b.dsn("", "default_query_exec_mode", "exec")).Begin() // so that there are two connections
	require.NoError(t, err)
	require.NoError(t, other.QueryRow(ask).Scan(&limit, &pid))
	_, err = db.ExecContext(minute, "vacuum pg_database")
	require.NoError(t, err, "PgBouncer gives no connection away within the flight")
	require.NoError(t, other.Rollback())
	raised := map[string]bool{}
	for range 6 {
		require.NoError(t, openPgx(t, b.dsn("", "default_query_exec_mode", "exec")).QueryRow(ask).Scan(&limit, &pid))
		raised[limit] = true
	}
	t.Logf("limits that other clients find: %v", raised)
	assert.Contains(t, raised, "61s", "on the connection where the VACUUM ran, as the manual says")
}
