package drivertest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// eachExecMode are all that pgx has.
var eachExecMode = []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"}

// ear is a notice handler that remembers what it was told.
type ear struct {
	mu    sync.Mutex // guards heard
	heard []pgconn.Notice
}

func (e *ear) option() pgprod.Option {
	return pgprod.WithNoticeHandler(func(n *pgconn.Notice) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.heard = append(e.heard, *n)
	})
}

// said are severity and message of all that was heard, which it forgets.
func (e *ear) said() (all []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range e.heard {
		all = append(all, n.Severity+" "+n.Message)
	}
	e.heard = nil
	return all
}

// drained reads rows to their end.
func drained(rows *sql.Rows, err error) error {
	if err != nil {
		return err
	}
	for rows.Next() {
	}
	return errors.Join(rows.Err(), rows.Close())
}

// runs are the ways in which a statement without a result reaches the server.
var runs = map[string]func(*testing.T, *sql.DB, string){
	"Exec":  func(t *testing.T, db *sql.DB, text string) { mustExec(t, db, text) },
	"Query": func(t *testing.T, db *sql.DB, text string) { require.NoError(t, drained(db.Query(text))) },
	"Stmt": func(t *testing.T, db *sql.DB, text string) {
		_, err := prepare(t, db, text).Exec()
		require.NoError(t, err)
	},
	"Tx": func(t *testing.T, db *sql.DB, text string) {
		tx, err := db.Begin()
		require.NoError(t, err)
		_, err = tx.Exec(text)
		require.NoError(t, err)
		require.NoError(t, tx.Commit())
	},
	"Raw": func(t *testing.T, db *sql.DB, text string) {
		require.NoError(t, pgprod.Raw(t.Context(), db, func(conn *pgx.Conn) error {
			_, err := conn.Exec(t.Context(), text)
			return err
		}))
	},
}

func TestAWarningOfTheServerIsLoggedWithoutWhatMayBeAValue(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	for name, run := range runs {
		for _, mode := range eachExecMode {
			t.Run(name+" "+mode, func(t *testing.T) {
				var log logged
				db := openPool(t, with(dsn, "default_query_exec_mode", mode), log.option(slog.LevelDebug))
				run(t, db, "do $$ begin raise warning 's3cret'; raise notice 's3cret'; raise info 's3cret'; end $$")
				lines := log.lines(t, "pgprod: the server warns")
				require.Len(t, lines, 1, log.buffer.String())
				assert.Equal(t, "WARN", lines[0]["level"])
				assert.Equal(t, "01000", lines[0]["db.response.status_code"])
				assert.Equal(t, "do", lines[0]["db.query.summary"])
				assert.NotContains(t, log.buffer.String(), "s3cret")
			})
		}
	}
}

func TestASettingForATransactionOutsideOfOneIsWarnedOf(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	for _, mode := range eachExecMode {
		var log logged
		db := openPool(t, with(dsn, "default_query_exec_mode", mode), log.option(slog.LevelDebug))
		mustExec(t, db, "set local app.tenant = 's3cret'")
		lines := log.lines(t, "pgprod: the server warns")
		require.Len(t, lines, 1, mode)
		assert.Equal(t, "25P01", lines[0]["db.response.status_code"])
		assert.Equal(t, "SET LOCAL can only be used in transaction blocks", lines[0]["warning"])
		assert.Equal(t, "set app.tenant", lines[0]["db.query.summary"])
		require.NoError(t, db.Close())
		assert.NotContains(t, log.buffer.String(), "s3cret")
	}
}

func TestManyWarningsAreFewLines(t *testing.T) {
	t.Parallel()
	var log logged
	db := openPool(t, pgtest.NewDatabase(t), log.option(slog.LevelDebug))
	mustExec(t, db, "do $$ begin for i in 1..1000 loop raise warning 'again'; end loop; end $$")
	for i := range 100 {
		mustExec(t, db, fmt.Sprintf(`do language plpgsql $$ begin raise warning 'x'; end $$; select 1 as a%d; set local app.x = ''`, i))
	}
	require.NoError(t, db.Close())
	assert.LessOrEqual(t, len(log.lines(t, "pgprod: the server warns")), 60, "a minute")
}

func TestANoticeHandlerHearsAllThatTheServerSays(t *testing.T) {
	t.Parallel()
	for _, mode := range eachExecMode {
		var e ear
		db := openPool(t, oneConn(pgtest.NewDatabase(t), "default_query_exec_mode", mode), e.option())
		mustExec(t, db, `do $$ begin raise debug 'd'; raise log 'l'; raise info 'i'; raise notice 'n'; raise warning 'w'; end $$`)
		assert.Equal(t, []string{"INFO i", "NOTICE n", "WARNING w"}, e.said(), mode)
		mustExec(t, db, "drop table if exists nothing")
		assert.Equal(t, []string{`NOTICE table "nothing" does not exist, skipping`}, e.said(), mode)
	}
}

// TestWhatIsSaidWhileConnectingIsHeardAndLogged takes a database that was made with another version of the C library.
func TestWhatIsSaidWhileConnectingIsHeardAndLogged(t *testing.T) {
	t.Parallel()
	var (
		e   ear
		log logged
	)
	dsn := pgtest.NewDatabase(t)
	mustExec(t, openPgx(t, dsn), `
		create text search configuration gone (copy = simple);
		do $$ begin execute format('alter database %I set default_text_search_config = %L', current_database(), 'public.gone'); end $$;
		drop text search configuration gone`)
	db := openPool(t, oneConn(dsn), e.option(), log.option(slog.LevelDebug))
	require.NoError(t, db.Ping())
	said := e.said()
	require.Len(t, said, 1)
	assert.Contains(t, said[0], "default_text_search_config")
	lines := log.lines(t, "pgprod: the server warns")
	require.Len(t, lines, 1)
	assert.NotContains(t, lines[0], "db.query.summary", "there is no statement yet")
}

func TestWithoutAHandlerNoticesAreNoErrors(t *testing.T) {
	t.Parallel()
	db := openPool(t, pgtest.NewDatabase(t), pgprod.WithNoticeHandler(nil))
	mustExec(t, db, "do $$ begin raise notice 'n'; end $$")
}

func TestANoticeHandlerMayAskThePool(t *testing.T) {
	t.Parallel()
	var db *sql.DB
	asked := false
	db = openPool(t, pgtest.NewDatabase(t), pgprod.WithNoticeHandler(func(*pgconn.Notice) {
		_, err := pgprod.Status(db)
		asked = assert.NoError(t, err)
		assert.NoError(t, db.PingContext(context.Background()), "on another connection")
	}))
	mustExec(t, db, "do $$ begin raise notice 'n'; end $$")
	assert.True(t, asked)
}

func TestAPanicOfANoticeHandlersCostsItsConnectionAndNobodyElse(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)), pgprod.WithNoticeHandler(func(*pgconn.Notice) { panic("of the handler's") }))
	before := backendPID(t, db)
	func() {
		defer func() { _ = recover() }()
		_, err := db.Exec("do $$ begin raise notice 'n'; end $$")
		assert.ErrorContains(t, err, "of the handler's")
	}()
	assert.NotEqual(t, before, backendPID(t, db))
}
