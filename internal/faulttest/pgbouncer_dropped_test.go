package faulttest

import (
	"context"
	"database/sql"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// allDropped are the defaults that a PgBouncer of its own defaults refuses.
const allDropped = "effective_cache_size, idle_in_transaction_session_timeout, jit, random_page_cost, statement_timeout"

// TestDefaultsThatAPoolerRefusesAreDroppedWithOneWarning has a PgBouncer without ignore_startup_parameters.
func TestDefaultsThatAPoolerRefusesAreDroppedWithOneWarning(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"session", "transaction"} {
		b := startBouncer(t, pgtest.StartTB(t, pgtest.Config{}), mode)
		lines := &logLines{}
		db, err := pgprod.Open(b.dsn("", "default_query_exec_mode", "exec", "pool_size", "3", "max_overflow", "0"),
			pgprod.WithLogger(lines.logger()), pgprod.WithPreflight(false))
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, db.Close()) })
		require.NoError(t, db.Ping())
		s := statusOf(t, db)
		assert.EqualValues(t, 0, s.FailedConnects, "a dial has tried without what was refused, at once")
		var held []*sql.Conn
		for range 3 { // later dials don't try what was refused
			conn, err := db.Conn(t.Context())
			require.NoError(t, err)
			require.NoError(t, conn.PingContext(t.Context()))
			held = append(held, conn)
		}
		for _, conn := range held {
			require.NoError(t, conn.Close())
		}
		log := lines.String()
		assert.Equal(t, 1, strings.Count(log, "are dropped: "), log)
		assert.Contains(t, log, "are dropped: "+allDropped+" (")
		assert.Contains(t, log, "the server no longer ends statements by itself")
		assert.Equal(t, 5, strings.Count(b.Log(), "closing because: unsupported startup parameter"), "one dial for each that was refused, and none later")
		h := pgprod.Check(t.Context(), db)
		require.Len(t, h.Warnings, 1)
		assert.Contains(t, h.Warnings[0], allDropped)
		minute := pgprod.ContextWithCommandTimeout(context.Background(), 0)
		assert.Equal(t, "0", getUnder(t, minute, db, "show statement_timeout"))
	}
}

func TestByTheNameThatSqlOpenKnowsAPoolerWorksAsItIs(t *testing.T) {
	t.Parallel()
	b := startBouncer(t, pgtest.StartTB(t, pgtest.Config{}), "session")
	db, err := sql.Open("pgprod", b.dsn(""))
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.Ping())
}

// TestWhatTheUserHasWrittenIsNotDropped: each of these is a default of pgprod's as well.
func TestWhatTheUserHasWrittenIsNotDropped(t *testing.T) {
	t.Parallel()
	b := startBouncer(t, pgtest.StartTB(t, pgtest.Config{}), "transaction")
	for _, keysAndValues := range [][]string{
		{"server_settings", "jit=off"}, {"jit", "off"}, {"statement_timeout", "31000"}, {"server_settings", "random_page_cost=1.1"},
	} {
		db := openPool(t, b.dsn("", keysAndValues...))
		err := db.Ping()
		require.ErrorContains(t, err, "unsupported startup parameter: ", keysAndValues)
		assert.ErrorContains(t, err, "server_settings_mode=set sets it after connecting")
		assert.Equal(t, "08P01", sqlState(err))
	}
}

// getUnder returns the value of a query under a context.
func getUnder(t testing.TB, ctx context.Context, db *sql.DB, query string) (value string) {
	t.Helper()
	require.NoError(t, db.QueryRowContext(ctx, query).Scan(&value), query)
	return value
}
