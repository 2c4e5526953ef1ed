package drivertest

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

const unkeptLine = "doesn't outlive its statement"

func TestASettingByDBExecIsNotLastingAndWarnedOfOnce(t *testing.T) {
	t.Parallel()
	for _, mode := range eachExecMode {
		var log logged
		db := openPool(t, oneConn(pgtest.NewDatabase(t), "default_query_exec_mode", mode), log.option(slog.LevelDebug))
		mustExec(t, db, "create schema other; create table other.t (n int)")
		for range 3 {
			mustExec(t, db, "set search_path to other")
			_, err := db.Exec("select * from t where n = $1", 1)
			require.Equal(t, "42P01", sqlState(err))
		}
		lines := log.lines(t, unkeptLine)
		require.Len(t, lines, 1, mode)
		assert.Equal(t, "WARN", lines[0]["level"])
		assert.Equal(t, "set search_path to '?'", lines[0]["statement"])
		for _, place := range []string{"server_settings", "the DSN", "SET LOCAL", "*sql.Conn"} {
			assert.Contains(t, lines[0]["instead"], place)
		}
	}
}

// TestWhatIsLostAtOnceIsWarnedOf has the ways in which something can be left in a session that goes back at once.
func TestWhatIsLostAtOnceIsWarnedOf(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		leave func(*sql.DB) error
		what  string
	}{
		"SET":            {execs("set work_mem = '8MB'"), "a setting"},
		"several":        {execs("set work_mem = '8MB'; SET geqo = off;"), "a setting"},
		"with a comment": {execs("/* ours */ set work_mem = '8MB'"), "a setting"},
		"SET TIME ZONE":  {execs("set time zone 'Europe/Berlin'"), "a setting"},
		"SET ROLE":       {execs("set role postgres"), "a setting"},
		"set_config":     {execs("select set_config('app.tenant', $1, false)", "s3cret"), "a setting"},
		"set_config, a row": {func(db *sql.DB) error {
			return db.QueryRow("SELECT pg_catalog.set_config('app.tenant', 's3cret', false)").Scan(new(string))
		}, "a setting"},
		"LISTEN":                  {execs("listen news"), "LISTEN"},
		"a temporary table":       {execs("create temp table x (n int)"), "a temporary table"},
		"one by a query":          {execs("create temporary table x as select 1 as n"), "a temporary table"},
		"PREPARE":                 {execs("prepare p as select 1"), "PREPARE"},
		"an advisory lock":        {execs("select pg_advisory_lock($1)", 47114711471), "an advisory lock"},
		"one if it is free":       {execs("select pg_try_advisory_lock(47114711471)"), "an advisory lock"},
		"in a transaction":        {inTx("set work_mem = '8MB'"), "a setting"},
		"by a Stmt":               {prepared("set work_mem = '8MB'"), "a setting"},
		"on a Conn, nothing more": {onConn("set work_mem = '8MB'"), "a setting"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log logged
			db := openPool(t, pgtest.NewDatabase(t), log.option(slog.LevelDebug))
			require.NoError(t, c.leave(db))
			lines := log.lines(t, unkeptLine)
			if assert.Len(t, lines, 1) {
				assert.Contains(t, lines[0]["msg"], "pgprod: "+c.what+" ")
				assert.NotEmpty(t, lines[0]["instead"])
			}
			assert.NotContains(t, log.buffer.String(), "s3cret")
			assert.NotContains(t, log.buffer.String(), "47114711471")
		})
	}
}

func TestWhatASessionUsesOrTakesBackIsNotWarnedOf(t *testing.T) {
	t.Parallel()
	for name, use := range map[string]func(*sql.DB) error{
		"on a Conn, then used":     onConn("set work_mem = '8MB'", "select 1"),
		"used, then set back":      onConn("set work_mem = '8MB'", "select 1", "set work_mem = '4MB'"),
		"set back":                 execs("reset work_mem"),
		"set to the default":       execs("set work_mem to default"),
		"no role":                  execs("set role none"),
		"all":                      execs("discard all"),
		"used in the same text":    execs("set work_mem = '8MB'; select 1"),
		"for a transaction":        inTx("set local work_mem = '8MB'"),
		"for it, by a function":    inTx("select set_config('app.tenant', 'A', true)"),
		"in a transaction, used":   inTx("set work_mem = '8MB'", "select 1"),
		"a temporary table's use":  inTx("create temp table x (n int) on commit drop", "insert into x values (1)"),
		"a table":                  execs("create table x (n int)"),
		"a table by a query":       execs("create table x as select 1 as n"),
		"a query":                  execs("select 'set search_path to other'"),
		"rolled back":              rolledBack("set work_mem = '8MB'"),
		"a lock for a transaction": inTx("select pg_advisory_xact_lock(1)"),
		"what failed":              func(db *sql.DB) error { _, err := db.Exec("set work_mem = 'much'"); return wanted(err, "22023") },
		"Raw, which is on purpose": func(db *sql.DB) error {
			return pgprod.Raw(context.Background(), db, func(c *pgx.Conn) error { _, err := c.Exec(context.Background(), "listen news"); return err })
		},
		"a batch": func(db *sql.DB) error {
			return pgprod.Raw(context.Background(), db, func(c *pgx.Conn) error {
				b := &pgx.Batch{}
				b.Queue("set work_mem = '8MB'")
				b.Queue("select 1")
				return c.SendBatch(context.Background(), b).Close()
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log logged
			db := openPool(t, pgtest.NewDatabase(t), log.option(slog.LevelDebug))
			require.NoError(t, use(db))
			assert.Empty(t, log.lines(t, unkeptLine))
		})
	}
}

func TestThatSettingsAreLostIsSaidOfAFewTextsOnly(t *testing.T) {
	t.Parallel()
	var log logged
	db := openPool(t, pgtest.NewDatabase(t), log.option(slog.LevelDebug))
	for n := range 150 {
		mustExec(t, db, fmt.Sprintf("listen channel_%d", n))
	}
	assert.Len(t, log.lines(t, unkeptLine), 100)
	for range 2 {
		mustExec(t, db, "set app.tenant = '"+strings.Repeat("x", 10)+"'")
	}
	assert.Len(t, log.lines(t, unkeptLine), 100)
}

func execs(query string, args ...any) func(*sql.DB) error {
	return func(db *sql.DB) error { _, err := db.Exec(query, args...); return err }
}

func prepared(query string) func(*sql.DB) error {
	return func(db *sql.DB) error {
		st, err := db.Prepare(query)
		if err != nil {
			return err
		}
		defer st.Close()
		_, err = st.Exec()
		return err
	}
}

func onConn(queries ...string) func(*sql.DB) error {
	return func(db *sql.DB) error {
		conn, err := db.Conn(context.Background())
		if err != nil {
			return err
		}
		defer conn.Close()
		for _, query := range queries {
			if _, err := conn.ExecContext(context.Background(), query); err != nil {
				return err
			}
		}
		return nil
	}
}

func inTx(queries ...string) func(*sql.DB) error {
	return func(db *sql.DB) error {
		return pgprod.InTx(context.Background(), db, func(tx *sql.Tx) error {
			for _, query := range queries {
				if _, err := tx.Exec(query); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

func rolledBack(query string) func(*sql.DB) error {
	return func(db *sql.DB) error {
		tx, err := db.Begin()
		if err != nil {
			return err
		}
		if _, err := tx.Exec(query); err != nil {
			return err
		}
		return tx.Rollback()
	}
}

// wanted is nil if an error has the SQLSTATE that it should have.
func wanted(err error, state string) error {
	if sqlState(err) == state {
		return nil
	}
	return fmt.Errorf("not %s: %w", state, err)
}
