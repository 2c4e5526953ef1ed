package instruments

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// connect connects to a new database.
func connect(t *testing.T, cfg func(*pgx.ConnConfig)) *pgx.Conn {
	t.Helper()
	c, err := pgx.ParseConfig(pgtest.NewDatabase(t))
	require.NoError(t, err)
	if cfg != nil {
		cfg(c)
	}
	conn, err := pgx.ConnectConfig(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// TestPgxStillSaysWhatMayBeShown holds the sayings of pgx's against pgx: what has another form is hidden.
func TestPgxStillSaysWhatMayBeShown(t *testing.T) {
	t.Parallel()
	conn := connect(t, nil)
	ctx := t.Context()
	for want, fail := range map[string]func() error{
		"expected … arguments, got …": func() error { return conn.QueryRow(ctx, "select $1::int").Scan(nil) },
		"failed to encode args[0]: …": func() error {
			_, err := conn.Exec(ctx, "select $1::int", struct{ S string }{"s3cret"})
			return err
		},
		"mismatched param and argument count": func() error {
			_, err := conn.Exec(ctx, "select $1::int", 1, 2)
			return err
		},
		"insufficient arguments": func() error {
			_, err := conn.Exec(ctx, "select $1, $2", pgx.QueryExecModeSimpleProtocol, 1)
			return err
		},
		"extended protocol limited to 65535 parameters": func() error {
			return conn.PgConn().ExecParams(ctx, "select 1", make([][]byte, 1<<16), nil, nil, nil).Read().Err
		},
		"can't scan into dest[…] (col: a): …": func() error {
			return conn.QueryRow(ctx, "select 's3cret' as a").Scan(new(int))
		},
		"number of field descriptions must equal number of destinations, got … and …": func() error {
			return conn.QueryRow(ctx, "select 1, 2").Scan(new(int))
		},
		"commit unexpectedly resulted in rollback": func() error {
			tx, err := conn.Begin(ctx)
			require.NoError(t, err)
			_, err = tx.Exec(ctx, "select 1/0")
			require.Error(t, err)
			return tx.Commit(ctx)
		},
		"tx is closed": func() error {
			tx, err := conn.Begin(ctx)
			require.NoError(t, err)
			require.NoError(t, tx.Rollback(ctx))
			return tx.Commit(ctx)
		},
		"conn busy": func() error {
			rows, err := conn.Query(ctx, "select generate_series(1, 2)")
			require.NoError(t, err)
			defer rows.Close()
			return conn.Ping(ctx)
		},
		"conn closed": func() error {
			closed := connect(t, nil)
			require.NoError(t, closed.Close(ctx))
			return closed.Ping(ctx)
		},
	} {
		err := fail()
		require.Error(t, err, want)
		assert.Equal(t, want, Describe(err, "select 1 as a where $1"))
	}
}

// TestPostgreSQLStillNamesTheFunctionThatRaises is how the messages are known that a function's author has put together.
func TestPostgreSQLStillNamesTheFunctionThatRaises(t *testing.T) {
	t.Parallel()
	var warning *pgconn.PgError
	conn := connect(t, func(cfg *pgx.ConnConfig) {
		cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { warning = (*pgconn.PgError)(n) }
	})
	for _, text := range []string{"raise exception 's3cret'", "assert false, 's3cret'"} {
		_, err := conn.Exec(t.Context(), "do $$ begin "+text+"; end $$")
		require.Error(t, err)
		assert.Equal(t, "a function raised an exception", Describe(err, ""), text)
	}
	_, err := conn.Exec(t.Context(), "do $$ begin raise warning 's3cret'; end $$")
	require.NoError(t, err)
	require.NotNil(t, warning)
	assert.Equal(t, "a function raised a warning", Describe(warning, ""))
}

// TestPostgreSQLStillNamesAConstraintInTheseFiles is how a constraint that the server names is told from what a function says.
func TestPostgreSQLStillNamesAConstraintInTheseFiles(t *testing.T) {
	t.Parallel()
	conn := connect(t, nil)
	_, err := conn.Exec(t.Context(), `create domain d as int constraint k_domain check (value > 0);
		create table t (a int constraint k_unique primary key, b int constraint k_check check (b > 0), c d,
			e int constraint k_foreign references t, f int4range,
			constraint k_exclude exclude using gist (f with &&));
		insert into t values (1, 1, 1, 1, '[1,2]')`)
	require.NoError(t, err)
	for constraint, text := range map[string]string{
		"k_unique":  "insert into t values (1)",
		"k_check":   "insert into t values (2, -1)",
		"k_domain":  "select (-1)::d",
		"k_foreign": "insert into t (a, e) values (3, 4)",
		"k_exclude": "insert into t (a, f) values (4, '[1,2]')",
	} {
		_, err := conn.Exec(t.Context(), text)
		pg, ok := errors.AsType[*pgconn.PgError](err)
		require.True(t, ok, "%v", err)
		assert.Equal(t, constraint, Constraint(pg), "%s of %s", pg.File, text)
	}
}
