package drivertest

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// leakRows forgets to close its rows.
func leakRows(t *testing.T, db *sql.DB) *sql.Rows {
	rows, err := db.Query("select n from generate_series(1, 3) n where n <> $1", 42)
	require.NoError(t, err)
	return rows
}

func TestALeakIsLoggedWithTheBorrowersStackAndWhenItComesBack(t *testing.T) {
	t.Parallel()
	var log logged
	db := openPool(t, with(pgtest.NewDatabase(t), "leak_detection", "100ms"), log.option(slog.LevelInfo))
	start := time.Now()
	rows := leakRows(t, db)
	pgtest.Eventually(t, patience, func() bool { return len(log.lines(t, "is held for long")) > 0 }, "no leak was logged")
	assert.GreaterOrEqual(t, time.Since(start), 100*time.Millisecond)

	got := log.lines(t, "is held for long")[0]
	assert.Equal(t, "WARN", got["level"])
	assert.Equal(t, "select", got["db.query.summary"])
	assert.GreaterOrEqual(t, got["held"], float64(100*time.Millisecond))
	stack := got["stack"].([]any)
	assert.Regexp(t, `^github\.com/pgprod/pgprod/internal/drivertest\.leakRows leak_test\.go:\d+$`, stack[0])
	assert.Regexp(t, `TestALeakIsLogged.* leak_test\.go:\d+$`, stack[1])

	require.NoError(t, rows.Close())
	back := log.lines(t, "came back")
	require.Len(t, back, 1)
	assert.Equal(t, got["pid"], back[0]["pid"])
	assert.GreaterOrEqual(t, back[0]["held"], got["held"])
	assert.Equal(t, got["db.query.summary"], back[0]["db.query.summary"])
	assert.Equal(t, stack[0], back[0]["borrower"])
	assert.Equal(t, got["pool"], back[0]["pool"])
	assert.Len(t, log.lines(t, "is held for long"), 1, "once is enough")
}

func TestATransactionThatIsLeftOpenNamesItsLastStatement(t *testing.T) {
	t.Parallel()
	var log logged
	db := openPool(t, with(pgtest.NewDatabase(t), "leak_detection", "2s"), log.option(slog.LevelInfo))
	mustExec(t, db, "create table accounts (n int)")
	tx, err := db.BeginTx(context.Background(), nil)
	require.NoError(t, err)
	mustExec(t, tx, "update accounts set n = n + 1")
	pgtest.Eventually(t, patience, func() bool { return len(log.lines(t, "is held for long")) > 0 }, "no leak was logged")
	require.NoError(t, tx.Rollback())
	got := log.lines(t, "is held for long")[0]
	assert.Equal(t, "update accounts", got["db.query.summary"])
	assert.Equal(t, "update accounts", log.lines(t, "came back")[0]["db.query.summary"], "as in the line before, be it that a rollback followed")
	assert.Equal(t, false, got["running"])
	assert.Contains(t, fmt.Sprint(got["stack"]), "drivertest.TestATransactionThatIsLeftOpen")
}

func TestEachOfManyLeaksIsFoundInTime(t *testing.T) {
	t.Parallel()
	var log logged
	db := openPool(t, with(pgtest.NewDatabase(t), "pool_size", "5", "leak_detection", "200ms"), log.option(slog.LevelInfo))
	for n := range 3 {
		rows := leakRows(t, db)
		defer rows.Close()
		pgtest.Eventually(t, patience, func() bool { return len(log.lines(t, "is held for long")) == n+1 }, "leak %d", n)
	}
	for _, l := range log.lines(t, "is held for long") {
		assert.Less(t, l["held"], float64(patience), "from the checkout on, not from the first leak")
	}
}

func TestALongStatementIsALeakThatRuns(t *testing.T) {
	t.Parallel()
	var log logged
	db := openPool(t, with(pgtest.NewDatabase(t), "leak_detection", "100ms"), log.option(slog.LevelInfo))
	mustExec(t, db, "select pg_sleep(2)")
	got := log.lines(t, "is held for long")
	require.Len(t, got, 1)
	assert.Equal(t, true, got[0]["running"])
}

func TestManyLeaksThatComeBackAreCounted(t *testing.T) {
	t.Parallel()
	var log logged
	db := openPool(t, with(pgtest.NewDatabase(t), "leak_detection", "20ms", "pool_size", "10"), log.option(slog.LevelInfo))
	const callers, times = 10, 3
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range times {
				_, err := db.Exec("select pg_sleep(0.2)")
				assert.NoError(t, err)
			}
		})
	}
	wg.Wait()
	require.NoError(t, db.Close())
	back := log.lines(t, "came back")
	assert.LessOrEqual(t, len(back), 5)
	assert.Equal(t, occurrences(log.lines(t, "is held for long")), occurrences(back))
	assert.Greater(t, occurrences(back), 5)
}

func TestALeakWithoutAStatementSaysSo(t *testing.T) {
	t.Parallel()
	var log logged
	db := openPool(t, with(pgtest.NewDatabase(t), "leak_detection", "100ms"), log.option(slog.LevelInfo))
	h := pgprod.DebugHandler(db)
	conn := hold(t, db)
	pgtest.Eventually(t, patience, func() bool { return len(log.lines(t, "is held for long")) > 0 }, "no leak was logged")
	assert.Equal(t, "no statement yet", log.lines(t, "is held for long")[0]["db.query.summary"])
	assert.Contains(t, pools(t, h)[0].Snapshot.Events[0].Text, "(no statement yet) by ")
	require.NoError(t, conn.Close())
}

func TestRowsThatAreLeftOpenBeyondCommandTimeoutAreNoRunningStatement(t *testing.T) {
	t.Parallel()
	var log logged
	db := openPool(t, with(pgtest.NewDatabase(t), "leak_detection", "3s", "command_timeout", "1s"),
		log.option(slog.LevelInfo))
	h := pgprod.DebugHandler(db)
	rows := leakRows(t, db)
	pgtest.Eventually(t, patience, func() bool { return len(log.lines(t, "is held for long")) > 0 }, "no leak was logged")
	got := log.lines(t, "is held for long")[0]
	assert.Equal(t, false, got["running"])
	assert.Equal(t, true, got["rows_open"])
	holder := pools(t, h)[0].Snapshot.Holders[0]
	assert.False(t, holder.Running)
	assert.True(t, holder.RowsOpen)
	assert.Contains(t, page(t, h, "/debug/pgprod"), "rows left open")
	require.NoError(t, rows.Close())
}

func TestWithoutLeakDetectionNothingIsLogged(t *testing.T) {
	t.Parallel()
	var log logged
	db := openPool(t, with(pgtest.NewDatabase(t), "leak_detection", "0"), log.option(slog.LevelInfo))
	mustExec(t, db, "select pg_sleep(0.2)")
	assert.False(t, strings.Contains(log.buffer.String(), "held"))
}
