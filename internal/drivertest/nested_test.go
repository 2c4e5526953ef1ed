package drivertest

import (
	"context"
	"database/sql"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// holdings are the ways to keep a connection while another statement goes to the *sql.DB.
var holdings = map[string]func(*testing.T, *sql.DB) io.Closer{
	"rows": func(t *testing.T, db *sql.DB) io.Closer {
		rows, err := db.Query("select generate_series(1, 3)")
		require.NoError(t, err)
		require.True(t, rows.Next())
		return rows
	},
	"a transaction": func(t *testing.T, db *sql.DB) io.Closer {
		tx, err := db.Begin()
		require.NoError(t, err)
		mustExec(t, tx, "select 1")
		return closer(tx.Rollback)
	},
	"a Conn": func(t *testing.T, db *sql.DB) io.Closer {
		conn := hold(t, db)
		mustExec(t, conn, "select 1")
		return conn
	},
}

type closer func() error

func (c closer) Close() error { return c() }

// TestANestedQueryUnderALimitOfTheOuterPoolWaitsInDatabaseSQLWithAnyDriver is what the README says of such limits.
func TestANestedQueryUnderALimitOfTheOuterPoolWaitsInDatabaseSQLWithAnyDriver(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	for name, take := range holdings {
		for driver, db := range map[string]*sql.DB{"pgx": openPgx(t, dsn), "pgprod": openPool(t, with(dsn, "pool_timeout", "10ms"))} {
			if driver == "pgprod" {
				require.NoError(t, hold(t, db).Close()) // however long the first dial takes
			}
			db.SetMaxOpenConns(1)
			held := take(t, db)
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			_, err := db.QueryContext(ctx, "select 1")
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded, "%s, %s", driver, name)
			assert.NotErrorIs(t, err, pgprod.ErrPoolTimeout)
			require.NoError(t, held.Close())
			mustExec(t, db, "select 1")
		}
	}
}

func TestALeaksLineNamesTheOuterPoolsLimitThatItMayBeHeldBy(t *testing.T) {
	t.Parallel()
	for name, take := range holdings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log logged
			db := openPool(t, with(pgtest.NewDatabase(t), "leak_detection", "100ms"), log.option(slog.LevelInfo))
			require.NoError(t, db.Ping())
			db.SetMaxOpenConns(1)
			held := take(t, db)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { _, err := db.QueryContext(ctx, "select 1"); done <- err }() // ends with ctx
			pgtest.Eventually(t, patience, func() bool { return len(log.lines(t, "is held for long")) > 0 }, "no leak was logged")
			assert.Zero(t, statusOf(t, db).Waiting, "nobody waits as far as the pool knows")
			cancel()
			require.ErrorIs(t, <-done, context.Canceled)
			assert.Contains(t, log.lines(t, "is held for long")[0]["hint"], "SetMaxOpenConns")
			require.NoError(t, held.Close())
		})
	}
}

func TestAStatementAtWorkHasNoHintOfTheOuterPoolsLimit(t *testing.T) {
	t.Parallel()
	var log logged
	db := openPool(t, with(pgtest.NewDatabase(t), "leak_detection", "100ms"), log.option(slog.LevelInfo))
	require.NoError(t, db.Ping())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := db.ExecContext(ctx, "select pg_sleep(60)"); done <- err }() // ends with ctx
	pgtest.Eventually(t, patience, func() bool { return len(log.lines(t, "is held for long")) > 0 }, "no leak was logged")
	cancel()
	require.Error(t, <-done)
	line := log.lines(t, "is held for long")[0]
	assert.Equal(t, true, line["running"])
	assert.NotContains(t, line, "hint")
}
