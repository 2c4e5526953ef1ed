package drivertest

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// ranInARow is in the message of each finding.
const ranInARow = "the same statement ran"

// openDeveloping opens a pool as a developer has it, which logs only warnings, and has a table of items.
func openDeveloping(t *testing.T, log *logged, opts ...pgprod.Option) *sql.DB {
	t.Helper()
	dsn := with(pgtest.NewDatabase(t), "environment", "development", "echo", "off", "echo_pool", "off")
	db := openPool(t, dsn, append(opts, log.option(slog.LevelWarn))...)
	mustExec(t, db, itemsTable)
	return db
}

// untilFound calls f, which runs statements in a loop, until the log has a finding, and returns that line. On a busy
// machine a loop may make a pause, after which the statements aren't a row any more.
func untilFound(t *testing.T, log *logged, f func()) line {
	t.Helper()
	pgtest.Eventually(t, patience, func() bool {
		f()
		return len(log.lines(t, ranInARow)) > 0
	}, "nothing was found")
	found := log.lines(t, ranInARow)
	require.Len(t, found, 1)
	return found[0]
}

// loadItems asks for the items of one cart after another, each time with the context that ctx returns.
func loadItems(t *testing.T, db interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}, ctx func() context.Context) {
	for cart := range 20 {
		rows, err := db.QueryContext(ctx(), "SELECT id FROM items WHERE cart = $1", cart)
		require.NoError(t, err)
		require.NoError(t, rows.Close())
	}
}

// always returns a function that returns ctx.
func always(ctx context.Context) func() context.Context { return func() context.Context { return ctx } }

func TestALoopOfQueriesIsFoundWithTheLineThatCalls(t *testing.T) {
	t.Parallel()
	var log logged
	db := openDeveloping(t, &log)
	h := pgprod.DebugHandler(db)
	found := untilFound(t, &log, func() { loadItems(t, db, always(t.Context())) })
	caller := found["caller"].(string)
	assert.Regexp(t, `^github\.com/pgprod/pgprod/internal/drivertest\.loadItems repeats_test\.go:\d+$`, caller)
	const message = `pgprod: the same statement ran 10 times in a row under one parent: "SELECT items" called by `
	assert.Equal(t, message+caller, found["msg"])
	assert.Equal(t, "WARN", found["level"])
	assert.Equal(t, "SELECT items", found["db.query.summary"])
	assert.Contains(t, found["instead"], "a join")
	assert.Equal(t, caller, found["stack"].([]any)[0])
	assert.Contains(t, fmt.Sprint(found["stack"]), "TestALoopOfQueriesIsFound")

	var kept []activity.Repetition
	pgtest.Eventually(t, patience, func() bool {
		_, err := db.ExecContext(t.Context(), "select 1")
		require.NoError(t, err)
		loadItems(t, db, always(t.Context()))
		kept = pools(t, h)[0].Snapshot.Repeated
		return len(kept) == 1 && kept[0].Found > 1 && kept[0].Times > 10
	}, "no second row")
	assert.Equal(t, caller, kept[0].Caller)
	assert.Len(t, log.lines(t, ranInARow), 1, "once for each line")

	shown := page(t, h, "/debug/pgprod")
	assert.Contains(t, shown, fmt.Sprintf("SELECT items ran %d times in a row under one parent", kept[0].Times))
	assert.Contains(t, shown, "internal/drivertest.loadItems repeats_test.go:")
}

func TestALoopIsFoundWhateverTheStatementsHaveInCommon(t *testing.T) {
	t.Parallel()
	tr := newTracing(t)
	inSpan, _ := tr.parent()
	// each has a context of its own, made for one call
	limited := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		t.Cleanup(cancel)
		return ctx
	}
	withSpan := func() context.Context {
		ctx, span := tr.provider.Tracer("").Start(inSpan, "get")
		span.End()
		return ctx
	}
	inTx := func(ctx, ofEach context.Context) func(*testing.T, *sql.DB) {
		return func(t *testing.T, db *sql.DB) {
			require.NoError(t, pgprod.InTx(ctx, db, func(tx *sql.Tx) error {
				loadItems(t, tx, always(ofEach))
				return nil
			}))
		}
	}
	plain := func(ctx func() context.Context) func(*testing.T, *sql.DB) {
		return func(t *testing.T, db *sql.DB) { loadItems(t, db, ctx) }
	}
	for name, loop := range map[string]func(*testing.T, *sql.DB){
		"nothing but the goroutine":      plain(context.Background),
		"the goroutine, with timeouts":   plain(limited),
		"a span":                         plain(always(inSpan)),
		"a trace, each with a span":      plain(withSpan),
		"a transaction":                  inTx(t.Context(), t.Context()),
		"a transaction's context":        inTx(t.Context(), context.Background()),
		"a transaction without any":      inTx(context.Background(), context.Background()),
		"a context with pgprod's values": plain(func() context.Context { return pgprod.ContextRepeatable(t.Context()) }),
		"the connection of Raw": func(t *testing.T, db *sql.DB) {
			require.NoError(t, pgprod.Raw(t.Context(), db, func(conn *pgx.Conn) error {
				for cart := range 20 {
					_, err := conn.Exec(t.Context(), "SELECT id FROM items WHERE cart = $1", cart)
					require.NoError(t, err)
				}
				return nil
			}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log logged
			db := openDeveloping(t, &log, pgprod.WithTracerProvider(tr.provider))
			found := untilFound(t, &log, func() { loop(t, db) })
			assert.Equal(t, "SELECT items", found["db.query.summary"])
			assert.Contains(t, found["caller"], "repeats_test.go:")
		})
	}
}

// saveItems writes items one by one, by one prepared statement.
func saveItems(t *testing.T, db *sql.DB) {
	stmt, err := db.PrepareContext(t.Context(), "INSERT INTO items (id) VALUES ($1) ON CONFLICT DO NOTHING")
	require.NoError(t, err)
	defer stmt.Close()
	for n := range 30 {
		_, err := stmt.ExecContext(t.Context(), n)
		require.NoError(t, err)
	}
}

func TestALoopOfWritesIsToldToWriteAtOnce(t *testing.T) {
	t.Parallel()
	var log logged
	db := openDeveloping(t, &log)
	found := untilFound(t, &log, func() { saveItems(t, db) })
	assert.Equal(t, "INSERT items", found["db.query.summary"])
	assert.Contains(t, found["caller"], "drivertest.saveItems repeats_test.go:")
	assert.Contains(t, found["instead"], "COPY")
	assert.Contains(t, page(t, pgprod.DebugHandler(db), "/debug/pgprod"), "INSERT items ran")
}

// The transactions are what such a loop does as well, and no other statement.
func TestALoopOfTransactionsWithOneStatementIsFound(t *testing.T) {
	t.Parallel()
	var log logged
	db := openDeveloping(t, &log)
	found := untilFound(t, &log, func() {
		for n := range 20 {
			tx, err := db.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			_, err = tx.ExecContext(t.Context(), "UPDATE items SET cart = $1", n)
			require.NoError(t, err)
			require.NoError(t, tx.Commit())
		}
	})
	assert.Equal(t, "UPDATE items", found["db.query.summary"])
}

func TestQueriesWithinTheRowsOfAnotherAreFoundWhileOtherRequestsGoOn(t *testing.T) {
	t.Parallel()
	var log logged
	db := openDeveloping(t, &log)
	request, cancel := context.WithCancel(t.Context())
	defer cancel()
	other, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { // ends with other, before the test does
		defer close(ended)
		for n := 0; other.Err() == nil; n++ {
			_, _ = db.ExecContext(other, fmt.Sprintf("select %d as c%d", n, n%2)) // its error is that other has ended
			_, _ = db.ExecContext(other, "delete from items where id < 0")
		}
	}()
	defer func() { stop(); <-ended }()
	found := untilFound(t, &log, func() {
		rows, err := db.QueryContext(request, "select generate_series(1, 20)")
		require.NoError(t, err)
		for rows.Next() {
			_, err := db.ExecContext(request, "SELECT id FROM items WHERE cart = $1", 1)
			require.NoError(t, err)
		}
		require.NoError(t, rows.Err())
	})
	assert.Equal(t, "SELECT items", found["db.query.summary"])
}

func TestNothingIsFoundOfWhatIsNoRow(t *testing.T) {
	t.Parallel()
	var log logged
	db := openDeveloping(t, &log)
	for n := range 50 { // two in turn
		_, err := db.ExecContext(t.Context(), "SELECT id FROM items WHERE cart = $1", n)
		require.NoError(t, err)
		_, err = db.ExecContext(t.Context(), "SELECT count(*) FROM carts_of(items)")
		require.Error(t, err)
	}
	for range 50 { // requests of one statement each
		ctx, cancel := context.WithCancel(t.Context())
		_, err := db.ExecContext(ctx, "SELECT id FROM items WHERE cart = $1", 1)
		require.NoError(t, err)
		cancel()
	}
	assert.Empty(t, log.lines(t, ranInARow))
	assert.Empty(t, pools(t, pgprod.DebugHandler(db))[0].Snapshot.Repeated)
}

func TestNothingIsFoundInProduction(t *testing.T) {
	t.Parallel()
	var log logged
	db := openPool(t, pgtest.NewDatabase(t), log.option(slog.LevelDebug))
	mustExec(t, db, itemsTable)
	h := pgprod.DebugHandler(db)
	for range 3 {
		loadItems(t, db, always(t.Context()))
	}
	assert.Empty(t, log.lines(t, ranInARow))
	assert.NotNil(t, pools(t, h)[0].Snapshot.Repeated)
	assert.Empty(t, pools(t, h)[0].Snapshot.Repeated)
}
