package tools

import (
	"context"
	"database/sql"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// A standby has no serializable transactions, and says so in answer to BEGIN.
func TestWhatTheServerHasAgainstATransactionIsSaidAtItsFirstStatement(t *testing.T) {
	t.Parallel()
	standby := pgtest.StartTB(t, pgtest.Config{StandbyOf: pgtest.StartTB(t, pgtest.Config{})})
	const refusal = "cannot use serializable mode in a hot standby"
	options := &sql.TxOptions{Isolation: sql.LevelSerializable}
	for name, db := range map[string]*sql.DB{
		"pgx": open(t, "pgx", standby.DSN("")), "lib/pq": open(t, "postgres", with(standby.DSN(""), "sslmode", "disable")),
		"eager": open(t, "pgprod", with(standby.DSN(""), "begin", "eager")),
	} {
		_, err := db.BeginTx(t.Context(), options)
		require.ErrorContains(t, err, refusal, name)
	}
	tx, err := open(t, "pgprod", standby.DSN("")).BeginTx(t.Context(), options)
	require.NoError(t, err)
	for range 2 {
		_, err = tx.Exec("select 1")
		require.ErrorContains(t, err, "pgprod: ")
		require.ErrorContains(t, err, "BEGIN was refused, the statement has not run: ERROR: "+refusal)
	}
	require.ErrorContains(t, tx.Commit(), refusal)
}

func TestTheServersLogHasBeginAsAStatementOfTheExtendedProtocol(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Settings: map[string]string{"log_statement": "all"}})
	logged := func(driver, dsn, statement string) string {
		db := open(t, driver, dsn)
		tx, err := db.BeginTx(pgprod.ContextWithSettings(t.Context(), map[string]string{"app.tenant": "a"}), nil)
		require.NoError(t, err)
		mustExec(t, tx, statement)
		if driver == "pgprod" && dsn == server.DSN("") {
			const ours = "select string_agg(name || ': ' || statement, ', ' order by name) from pg_prepared_statements where name like 'pgprod%'"
			assert.Equal(t, "pgprod_begin: begin, pgprod_set_1: select pg_catalog.set_config($1, $2, true)", get[string](t, tx, ours))
		}
		require.NoError(t, tx.Commit())
		log, err := os.ReadFile(server.LogFile())
		require.NoError(t, err)
		return string(log)
	}
	theirs := logged("pgx", server.DSN(""), "select 'by pgx'")
	assert.Contains(t, theirs, "statement: begin\n")
	assert.NotContains(t, theirs, "pgprod_begin")
	ours := logged("pgprod", server.DSN(""), "select 'by pgprod'")
	assert.Contains(t, ours, "execute pgprod_begin: begin\n")
	assert.NotContains(t, ours, "<unnamed>: begin")
	assert.Contains(t, ours, "execute pgprod_set_1: select pg_catalog.set_config($1, $2, true)\n")
	assert.Contains(t, logged("pgprod", with(server.DSN(""), "default_query_exec_mode", "exec"), "select 'unprepared'"), "execute <unnamed>: begin\n")
}

const tenant = "select coalesce(current_setting('app.tenant', true), '')"

func TestFromPgxpoolATenantComesWithTheContext(t *testing.T) {
	t.Parallel()
	type key struct{}
	dsn := pgtest.NewDatabase(t)
	cfg, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	cfg.PrepareConn = func(ctx context.Context, c *pgx.Conn) (bool, error) {
		id, _ := ctx.Value(key{}).(string)
		_, err := c.Exec(ctx, "select set_config('app.tenant', $1, false)", id)
		return err == nil, err
	}
	cfg.AfterRelease = func(c *pgx.Conn) bool {
		_, err := c.Exec(context.Background(), "reset app.tenant")
		return err == nil
	}
	theirs, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer theirs.Close()
	ours := open(t, "pgprod", dsn)
	for _, id := range []string{"a", "b", ""} {
		var seen string
		require.NoError(t, theirs.QueryRow(context.WithValue(t.Context(), key{}, id), tenant).Scan(&seen))
		assert.Equal(t, id, seen)
		ctx := pgprod.ContextWithSettings(t.Context(), map[string]string{"app.tenant": id})
		require.NoError(t, ours.QueryRowContext(ctx, tenant).Scan(&seen))
		assert.Equal(t, id, seen)
	}
	assert.Empty(t, get[string](t, ours, tenant))
}

func TestFromPgxASettingOfATransactionGoesOnToWork(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"pgx", "pgprod"} {
		tx, err := open(t, driver, pgtest.NewDatabase(t)).Begin()
		require.NoError(t, err)
		mustExec(t, tx, "select set_config('app.tenant', $1, true)", "a")
		assert.Equal(t, "a", get[string](t, tx, tenant), driver)
		require.NoError(t, tx.Commit())
	}
}

func TestFromPgxNoHookResetsSessions(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	reset := stdlib.OptionResetSession(func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, "reset all")
		return err
	})
	one := with(dsn, "pool_size", "1", "max_overflow", "0")
	for name, db := range map[string]*sql.DB{"theirs": openPgx(t, dsn, nil, reset), "ours": openOurs(t, one)} {
		pid := get[int](t, db, "select pg_backend_pid()")
		mustExec(t, db, "set app.tenant = 'a'")
		assert.Empty(t, get[string](t, db, tenant), name)
		assert.Equal(t, pid, get[int](t, db, "select pg_backend_pid()"), name)
	}
}
