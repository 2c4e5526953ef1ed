package drivertest

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// tenantCtx returns a context whose statements are those of a tenant.
func tenantCtx(t testing.TB, id string) context.Context {
	return pgprod.ContextWithSettings(t.Context(), map[string]string{"app.tenant": id})
}

const (
	tenantSet = "coalesce(current_setting('app.tenant', true), '')"
	askTenant = "select " + tenantSet
)

// tenantOf returns the tenant that a statement with a context sees.
func tenantOf(t testing.TB, q querier, ctx context.Context) string {
	t.Helper()
	var s string
	require.NoError(t, q.QueryRowContext(ctx, askTenant+" || $1", "").Scan(&s))
	return s
}

// modes are pgx's ways to send statements that have room for riders.
var modes = []string{"cache_statement", "cache_describe", "describe_exec", "exec"}

// inModes runs a test in each of these modes, on a pool of one connection.
func inModes(t *testing.T, modes []string, test func(t *testing.T, db *sql.DB)) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			test(t, openPool(t, oneConn(pgtest.NewDatabase(t), "default_query_exec_mode", mode)))
		})
	}
}

func TestStatementsSeeTheSettingsOfTheirContextAndNobodyElseDoes(t *testing.T) {
	inModes(t, modes, func(t *testing.T, db *sql.DB) {
		mustExec(t, db, "create table seen (who text)")
		for range 3 {
			assert.Equal(t, "A", tenantOf(t, db, tenantCtx(t, "A")))
			assert.Equal(t, "", tenantOf(t, db, t.Context()))
			assert.Equal(t, "B", tenantOf(t, db, tenantCtx(t, "B")))
			_, err := db.ExecContext(tenantCtx(t, "C"), "insert into seen "+askTenant) // which pgx sends by the simple protocol
			require.NoError(t, err)
			_, err = db.Exec("insert into seen " + askTenant)
			require.NoError(t, err)
		}
		assert.Equal(t, 3, get[int](t, db, "select count(*) from seen where who = 'C'"))
		assert.Equal(t, 3, get[int](t, db, "select count(*) from seen where who = ''"))
	})
}

func TestSettingsTravelWhateverIsInTheLiteralsOfAStatement(t *testing.T) {
	inModes(t, modes, func(t *testing.T, db *sql.DB) {
		mustExec(t, db, "create table seen (who text, said text)")
		for _, said := range []string{"'a;b'", "'$1'", "$$;$1$$", "'a' -- b; c", "'a' /* $1; */;"} {
			for _, begin := range []string{"", "/* x */ "} {
				_, err := db.ExecContext(tenantCtx(t, "A"), begin+"insert into seen select "+tenantSet+", "+said)
				require.NoError(t, err, said)
			}
		}
		assert.Equal(t, 10, get[int](t, db, "select count(*) from seen where who = 'A'"))
		_, err := db.ExecContext(tenantCtx(t, "A"), "insert into seen values ('A', $1)")
		require.ErrorContains(t, err, "pgprod: the settings of the context can't travel", "a parameter without an argument")
	})
}

func TestSettingsOfAContextHoldInItsTransaction(t *testing.T) {
	inModes(t, append([]string{"simple_protocol"}, modes...), func(t *testing.T, db *sql.DB) {
		for range 2 {
			tx, err := db.BeginTx(tenantCtx(t, "A"), nil)
			require.NoError(t, err)
			assert.Equal(t, "A", tenantOf(t, tx, t.Context()), "the transaction's")
			assert.Equal(t, "B", tenantOf(t, tx, tenantCtx(t, "B")), "the statement's own")
			assert.Equal(t, "A", tenantOf(t, tx, t.Context()))
			require.NoError(t, tx.Commit())
			assert.Equal(t, "", tenantOf(t, db, t.Context()))

			tx, err = db.Begin()
			require.NoError(t, err)
			assert.Equal(t, "A", tenantOf(t, tx, tenantCtx(t, "A")))
			assert.Equal(t, "", tenantOf(t, tx, t.Context()), "of a statement without settings")
			require.NoError(t, tx.Rollback())
		}
	})
}

func TestSettingsHoldWhateverElseChangesThem(t *testing.T) {
	inModes(t, append([]string{"simple_protocol"}, modes...), func(t *testing.T, db *sql.DB) {
		tx, err := db.BeginTx(tenantCtx(t, "A"), nil)
		require.NoError(t, err)
		exec := func(query string) {
			t.Helper()
			_, err := tx.Exec(query)
			require.NoError(t, err)
		}
		assert.Equal(t, "A", tenantOf(t, tx, t.Context()))
		exec("savepoint s")
		assert.Equal(t, "B", tenantOf(t, tx, tenantCtx(t, "B")))
		exec("rollback to s")
		assert.Equal(t, "B", tenantOf(t, tx, tenantCtx(t, "B")), "the rollback has brought A back")
		exec("set local app.tenant = 'C'")
		assert.Equal(t, "B", tenantOf(t, tx, tenantCtx(t, "B")))
		get[string](t, tx, "select set_config('app.tenant', $1, true)", "D")
		assert.Equal(t, "A", tenantOf(t, tx, t.Context()))
		exec("do $$ begin perform set_config('app.tenant', 'E', true); end $$")
		assert.Equal(t, "A", tenantOf(t, tx, t.Context()))
		_, err = tx.Exec("select 1/0")
		require.Error(t, err)
		_, err = tx.ExecContext(tenantCtx(t, "F"), "select $1", "")
		requireCode(t, err, "25P02")
		_, err = tx.ExecContext(tenantCtx(t, "F"), "rollback to savepoint s")
		require.NoError(t, err, "a failed transaction is not held up by what travels in front of its end")
		assert.Equal(t, "F", tenantOf(t, tx, tenantCtx(t, "F")))
		require.NoError(t, tx.Commit())
		assert.Equal(t, "", tenantOf(t, db, t.Context()))
	})
}

// What changes a setting is seen each time it runs, also where the settings have come with it.
func TestSettingsHoldWheneverSomethingChangesThem(t *testing.T) {
	inModes(t, append([]string{"simple_protocol"}, modes...), func(t *testing.T, db *sql.DB) {
		for _, change := range []string{
			"set local app.tenant = 'X'", "select set_config('app.tenant', 'X', true)", "do $$ begin perform set_config('app.tenant', 'X', true); end $$",
			"select 1; set local app.tenant = 'X'",
		} {
			for range 3 {
				tx, err := db.Begin()
				require.NoError(t, err)
				for range 2 {
					_, err = tx.ExecContext(tenantCtx(t, "A"), change)
					require.NoError(t, err)
					assert.Equal(t, "A", tenantOf(t, tx, tenantCtx(t, "A")), change)
				}
				require.NoError(t, tx.Commit())
			}
		}
		for range 3 {
			tx, err := db.BeginTx(tenantCtx(t, "A"), nil)
			require.NoError(t, err)
			mustExec(t, tx, "savepoint s")
			assert.Equal(t, "A", tenantOf(t, tx, t.Context()))
			mustExec(t, tx, "rollback to s")
			assert.Equal(t, "A", tenantOf(t, tx, t.Context()), "the rollback has taken it away")
			require.NoError(t, tx.Commit())
		}
	})
}

// requireCode requires a server's error with a SQLSTATE.
func requireCode(t testing.TB, err error, code string) {
	t.Helper()
	var pg *pgconn.PgError
	require.ErrorAs(t, err, &pg)
	require.Equal(t, code, pg.Code, err)
}

func TestSettingsHoldInATransactionOfTheCallersOwn(t *testing.T) {
	inModes(t, modes, func(t *testing.T, db *sql.DB) {
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		_, err = conn.ExecContext(tenantCtx(t, "A"), "begin")
		require.NoError(t, err)
		assert.Equal(t, "A", tenantOf(t, conn, tenantCtx(t, "A")))
		assert.Equal(t, "", tenantOf(t, conn, t.Context()))
		assert.Equal(t, "A", tenantOf(t, conn, tenantCtx(t, "A")))
		_, err = conn.ExecContext(tenantCtx(t, "A"), "commit")
		require.NoError(t, err)
		assert.Equal(t, "", tenantOf(t, conn, t.Context()))
		require.NoError(t, conn.Close())
	})
}

func TestSettingsThatCantTravelAreRefused(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	db, simple := openPool(t, oneConn(dsn)), openPool(t, oneConn(dsn, "default_query_exec_mode", "simple_protocol"))
	before := func(db *sql.DB) int { return get[int](t, db, "select count(*) from pg_class where relname = 'made'") }
	for name, run := range map[string]func(context.Context) error{
		"several statements": func(ctx context.Context) error {
			_, err := db.ExecContext(ctx, "select 1; create table made ()")
			return err
		},
		"the simple protocol": func(ctx context.Context) error {
			_, err := simple.ExecContext(ctx, "create table made ()")
			return err
		},
		"VACUUM": func(ctx context.Context) error { _, err := db.ExecContext(ctx, "vacuum"); return err },
		"DO":     func(ctx context.Context) error { _, err := db.ExecContext(ctx, "do 'begin commit; end'"); return err },
		"Raw": func(ctx context.Context) error {
			return pgprod.Raw(ctx, db, func(*pgx.Conn) error { t.Error("called"); return nil })
		},
	} {
		require.ErrorContains(t, run(tenantCtx(t, "secret")), "pgprod: the settings of the context can't travel", name)
		assert.NotContains(t, run(tenantCtx(t, "secret")).Error(), "secret")
	}
	assert.Zero(t, before(db))
	_, err := db.Exec("vacuum")
	require.NoError(t, err)
}

func TestSettingsAreCheckedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	for name, value := range map[string]string{
		"": "secret", "a.b'": "secret", "a b": "secret", "a-b": "secret", "ä.b": "secret", "app.tenant": "secret\x00", "app.x": strings.Repeat("secret", 1<<18),
	} {
		ctx := pgprod.ContextWithSettings(t.Context(), map[string]string{name: value})
		for _, err := range []error{
			func() error { _, err := db.ExecContext(ctx, "select 1"); return err }(),
			func() error { _, err := db.ExecContext(ctx, "select $1", ""); return err }(),
			func() error { _, err := db.BeginTx(ctx, nil); return err }(),
		} {
			require.ErrorContains(t, err, "pgprod: ContextWithSettings: the ", "%q", name)
			assert.NotContains(t, err.Error(), "secret")
		}
	}
}

func TestSettingsThatTheServerRefusesAreAnErrorWithoutTheirValues(t *testing.T) {
	t.Parallel()
	var log logged
	tr := newTracing(t)
	db := warm(t, pgtest.NewDatabase(t), tr, log.option(slog.LevelDebug))
	ctx, _ := tr.parent()
	ctx = pgprod.ContextWithSettings(ctx, map[string]string{"work_mem": "secret"})
	for range 2 {
		_, err := db.ExecContext(ctx, "select $1", "")
		requireCode(t, err, "22023")
		require.ErrorContains(t, err, "the statement has not run")
		assert.NotContains(t, err.Error(), "secret")
	}
	tx, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	_, err = tx.Exec("select 1")
	requireCode(t, err, "22023")
	require.NoError(t, tx.Rollback())
	assert.Equal(t, 1, get[int](t, db, "select 1"))
	assert.NotContains(t, log.buffer.String(), "secret")
	for _, span := range tr.Ended() {
		assert.NotContains(t, span.Status().Description, "secret")
		for _, a := range span.Attributes() {
			assert.NotContains(t, a.Value.String(), "secret")
		}
	}
	_, err = db.ExecContext(pgprod.ContextWithSettings(t.Context(), map[string]string{"nonesuch": "secret"}), "select 1")
	require.ErrorContains(t, err, `unrecognized configuration parameter "nonesuch"`)
}

func TestSettingsSurviveThatTheirStatementIsDeallocated(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	for _, statement := range []string{"select", "deallocate all", "do $$ begin deallocate all; end $$", "discard all"} {
		_, err := conn.ExecContext(t.Context(), statement)
		require.NoError(t, err)
		var s string
		require.NoError(t, conn.QueryRowContext(tenantCtx(t, "A"), "select current_setting('app.tenant')", pgx.QueryExecModeExec).Scan(&s), statement)
		assert.Equal(t, "A", s)
		tx, err := conn.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		_, err = tx.Exec("select 1")
		require.NoError(t, err)
		require.NoError(t, tx.Commit())
	}
}

func TestSearchPathOfAContextDecidesWhatNamesMean(t *testing.T) {
	inModes(t, modes, func(t *testing.T, db *sql.DB) {
		for _, schema := range []string{"a", "b"} {
			mustExec(t, db, "create schema "+schema)
			mustExec(t, db, "create table "+schema+".t as select '"+schema+"' as name")
		}
		for range 3 {
			for _, schema := range []string{"a", "b"} {
				ctx := pgprod.ContextWithSettings(t.Context(), map[string]string{"search_path": schema})
				var name string
				require.NoError(t, db.QueryRowContext(ctx, "select name from t where name <> $1", "").Scan(&name))
				assert.Equal(t, schema, name)
				tx, err := db.BeginTx(ctx, nil)
				require.NoError(t, err)
				require.NoError(t, tx.QueryRow("select name from t where name <> $1", "").Scan(&name))
				assert.Equal(t, schema, name)
				require.NoError(t, tx.Commit())
			}
		}
		_, err := db.Exec("select name from t where name <> $1", "")
		requireCode(t, err, "42P01")
	})
}

func TestManySettings(t *testing.T) {
	inModes(t, modes, func(t *testing.T, db *sql.DB) {
		for n := 1; n <= 20; n++ {
			ctx := t.Context()
			for i := range n {
				ctx = pgprod.ContextWithSettings(ctx, map[string]string{"app.s" + strings.Repeat("x", i): strings.Repeat("v", i+1)})
			}
			var s string
			last := "app.s" + strings.Repeat("x", n-1)
			require.NoError(t, db.QueryRowContext(ctx, "select current_setting($1)", last).Scan(&s))
			assert.Equal(t, strings.Repeat("v", n), s)
		}
		var left sql.NullString
		require.NoError(t, db.QueryRow("select nullif(current_setting('app.s', true), '')").Scan(&left))
		assert.False(t, left.Valid)
	})
}

func TestSettingsOfRawInATransaction(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	tx, err := conn.BeginTx(tenantCtx(t, "A"), nil)
	require.NoError(t, err)
	require.NoError(t, conn.Raw(func(driverConn any) error {
		pc := driverConn.(interface{ Conn() *pgx.Conn }).Conn()
		var s string
		if err := pc.QueryRow(tenantCtx(t, "A"), askTenant).Scan(&s); err != nil {
			return err // although its settings are the transaction's
		}
		if err := pc.QueryRow(context.Background(), askTenant).Scan(&s); err != nil {
			return err
		}
		if s != "A" || pc.PgConn().TxStatus() != 'T' {
			return errors.New("the transaction has not begun, or is without its settings: " + s)
		}
		return nil
	}))
	require.NoError(t, tx.Commit())
}

func TestSettingsOfAStatementInRawAreRefused(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	ctx := tenantCtx(t, "A")
	for name, run := range map[string]func(c *pgx.Conn) error{
		"query":   func(c *pgx.Conn) error { return c.QueryRow(ctx, "select $1", "").Scan(new(string)) },
		"exec":    func(c *pgx.Conn) error { _, err := c.Exec(ctx, "create table made ()"); return err },
		"prepare": func(c *pgx.Conn) error { _, err := c.Prepare(ctx, "mine", "select 1"); return err },
		"batch": func(c *pgx.Conn) error {
			var batch pgx.Batch
			batch.Queue("create table made ()")
			return c.SendBatch(ctx, &batch).Close()
		},
		"copy": func(c *pgx.Conn) error {
			_, err := c.CopyFrom(ctx, pgx.Identifier{"made"}, []string{"a"}, pgx.CopyFromRows(nil))
			return err
		},
	} {
		err := pgprod.Raw(t.Context(), db, run)
		require.ErrorContains(t, err, "pgprod: the settings of the context can't travel with statements of a *pgx.Conn", name)
		require.ErrorIs(t, err, context.Canceled)
		assert.Zero(t, get[int](t, db, "select count(*) from pg_class where relname = 'made'"), name)
	}
	assert.Equal(t, "A", tenantOf(t, db, ctx))
}

// What is prepared for the riders of a statement is gone when the statement has deallocated everything.
func TestSettingsTravelBehindAStatementThatDeallocatesWhatCameWithIt(t *testing.T) {
	inModes(t, modes, func(t *testing.T, db *sql.DB) {
		for _, query := range []string{"deallocate all", "discard all", "do $$ begin execute 'deallocate all'; end $$"} {
			conn, err := db.Conn(t.Context())
			require.NoError(t, err)
			if query != "discard all" { // which doesn't run in a transaction
				tx, err := conn.BeginTx(tenantCtx(t, "A"), nil)
				require.NoError(t, err)
				mustExec(t, tx, query)
				assert.Equal(t, "B", tenantOf(t, tx, tenantCtx(t, "B")), query)
				require.NoError(t, tx.Commit())
			}
			mustExec(t, conn, query)
			assert.Equal(t, "C", tenantOf(t, conn, tenantCtx(t, "C")), query)
			require.NoError(t, conn.Close())
		}
	})
}

func TestATransactionWithSettingsBeginsOnAConnectionThatRawHadBefore(t *testing.T) {
	t.Parallel()
	for _, begin := range []string{"lazy", "eager"} {
		db := openPool(t, oneConn(pgtest.NewDatabase(t), "begin", begin))
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		require.NoError(t, conn.Raw(func(dc any) error {
			_, err := dc.(interface{ Conn() *pgx.Conn }).Conn().Exec(t.Context(), "create table made ()")
			return err
		}))
		tx, err := conn.BeginTx(tenantCtx(t, "A"), nil)
		require.NoError(t, err, begin)
		assert.Equal(t, "A", tenantOf(t, tx, t.Context()))
		require.NoError(t, tx.Commit())
		require.NoError(t, conn.Close())
	}
}

// While rows are open nothing can be sent, and so no settings either, but pgx's connection can be had.
func TestRawGetsTheConnectionWhileRowsOfOtherSettingsAreOpen(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	tx, err := conn.BeginTx(tenantCtx(t, "A"), nil)
	require.NoError(t, err)
	rows, err := tx.QueryContext(tenantCtx(t, "B"), "select "+tenantSet+" from generate_series(1, 2)")
	require.NoError(t, err)
	require.NoError(t, conn.Raw(func(dc any) error {
		assert.NotNil(t, dc.(interface{ Conn() *pgx.Conn }).Conn())
		return nil
	}))
	for range 2 {
		var tenant string
		require.True(t, rows.Next())
		require.NoError(t, rows.Scan(&tenant))
		assert.Equal(t, "B", tenant)
	}
	require.NoError(t, rows.Close())
	assert.Equal(t, "A", tenantOf(t, tx, t.Context()))
	require.NoError(t, tx.Commit())
	require.NoError(t, conn.Close())
}

func TestSettingsOfAStatementWithNamedArguments(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	args := pgx.NamedArgs{"a": ""}
	var tenant string
	require.NoError(t, db.QueryRowContext(tenantCtx(t, "A"), askTenant+" || @a", args).Scan(&tenant))
	assert.Equal(t, "A", tenant)
	_, err := db.ExecContext(tenantCtx(t, "A"), askTenant+" || @a", args)
	require.ErrorContains(t, err, "pgprod: the settings of the context can't travel", "pgx might send it by the simple protocol")
	tx, err := db.BeginTx(tenantCtx(t, "A"), nil)
	require.NoError(t, err)
	mustExec(t, tx, "create temp table seen on commit drop as "+askTenant+" as who where @a = ''", args)
	assert.Equal(t, "A", get[string](t, tx, "select who from seen"))
	require.NoError(t, tx.Commit())
}
