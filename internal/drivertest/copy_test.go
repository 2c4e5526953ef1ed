package drivertest

import (
	"context"
	"database/sql"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// copyError is what a COPY … FROM STDIN gets, which database/sql has no way to feed. Plain pgx waits for ever.
const copyError = "COPY … FROM STDIN can't be sent by database/sql"

func TestACopyFromTheClientIsRefusedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	texts := []string{
		"copy t from stdin",
		"create table c (a int); copy c from stdin",
		"COPY t (a) FROM STDIN WITH (FORMAT csv); create table c (a int)",
		"/* ; */ create table c (a int) /* /* copy */ */;\n-- now\nCopy c\nFrom\tStdin;",
		"create table c (a text default ';'); begin; copy c from stdin; commit",
		"create table c (a int); copy c from stdout", // which PostgreSQL takes for the same
	}
	for _, mode := range execModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			db := openPool(t, oneConn(pgtest.NewDatabase(t), "default_query_exec_mode", mode))
			mustExec(t, db, "create table t (a int)")
			pid := backendPID(t, db)
			for _, text := range texts {
				for way, send := range waysToSend(db) {
					assert.ErrorContains(t, send(t.Context(), text), copyError, "%s: %s", way, text)
					assert.False(t, get[bool](t, db, "select to_regclass('c') is not null"), "%s: %s", way, text)
				}
			}
			assert.Equal(t, pid, backendPID(t, db))
		})
	}
}

// waysToSend are the ways of database/sql to send a text without arguments.
func waysToSend(db *sql.DB) map[string]func(context.Context, string) error {
	within := func(send func(context.Context, queryer, string) error) func(context.Context, string) error {
		return func(ctx context.Context, text string) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			defer func() { _ = tx.Rollback() }()
			return send(ctx, tx, text)
		}
	}
	exec := func(ctx context.Context, q queryer, text string) error {
		_, err := q.ExecContext(ctx, text)
		return err
	}
	query := func(_ context.Context, q queryer, text string) error {
		_, err := columnsOf(q, text)
		return err
	}
	return map[string]func(context.Context, string) error{
		"db.Exec":  func(ctx context.Context, text string) error { return exec(ctx, db, text) },
		"db.Query": func(ctx context.Context, text string) error { return query(ctx, db, text) },
		"tx.Exec":  within(exec),
		"tx.Query": within(query),
		"Stmt": func(ctx context.Context, text string) error {
			st, err := db.PrepareContext(ctx, text)
			if err != nil {
				return err
			}
			defer func() { _ = st.Close() }()
			_, err = st.ExecContext(ctx)
			return err
		},
	}
}

// TestWhatOnlySpeaksOfACopyIsSent: the same happens as with pgx.
func TestWhatOnlySpeaksOfACopyIsSent(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	ours, theirs := openPool(t, oneConn(dsn)), openPgx(t, dsn)
	mustExec(t, ours, "create table t (a int); insert into t values (1), (2)")
	for _, text := range []string{
		"select 'copy t from stdin'",
		"select 1; select '; copy t from stdin'",
		"select 1 -- ; copy t from stdin",
		"select 1; /* copy t from stdin; */ select 2",
		"do $$ begin perform 'copy t from stdin;'; end; $$",
		"copy t to stdout",
		"COPY (select a from t) TO STDOUT WITH (FORMAT csv)",
		"select 1; copy t to stdout; select 2",
		"copy t from '/nowhere/stdin'",
		"copy t (a) to program 'exit 1'",
	} {
		want, wantErr := theirs.Exec(text)
		have, haveErr := ours.Exec(text)
		assert.Equal(t, sqlState(wantErr), sqlState(haveErr), text)
		if wantErr == nil && haveErr == nil {
			wantRows, _ := want.RowsAffected()
			haveRows, _ := have.RowsAffected()
			assert.Equal(t, wantRows, haveRows, text)
		}
		wantColumns, wantErr := columnsOf(theirs, text)
		haveColumns, haveErr := columnsOf(ours, text)
		assert.Equal(t, wantColumns, haveColumns, text)
		assert.Equal(t, sqlState(wantErr), sqlState(haveErr), text)
	}
	require.NoError(t, ours.Ping())
}
