package faulttest

import (
	"context"
	"database/sql"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
)

// everyMode are pgx's ways to send a statement.
var everyMode = []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"}

func TestABeginThatAStandbyRefusesIsTheErrorOfItsStatements(t *testing.T) {
	t.Parallel()
	_, standby := twoServers(t, nil)
	serializable := &sql.TxOptions{Isolation: sql.LevelSerializable}
	refused := func(t *testing.T, err error) {
		t.Helper()
		require.ErrorContains(t, err, "BEGIN was refused, the statement has not run")
		require.Equal(t, "0A000", sqlState(err), err)
	}
	for _, mode := range everyMode {
		t.Run(mode, func(t *testing.T) {
			db := openPool(t, with(standby.DSN(""), "default_query_exec_mode", mode, "pool_size", "1", "max_overflow", "0"))
			pid := get[int](t, db, "select pg_backend_pid()")
			for range 2 { // the second time its statement is prepared
				tx, err := db.BeginTx(t.Context(), serializable)
				require.NoError(t, err)
				for range 2 {
					refused(t, tx.QueryRow("select $1::int", 1).Scan(new(int)))
				}
				_, err = tx.Exec("select 1")
				refused(t, err)
				err = tx.Commit()
				require.ErrorContains(t, err, "COMMIT was not sent")
				refused(t, err)

				tx, err = db.BeginTx(t.Context(), serializable)
				require.NoError(t, err)
				_, err = tx.Exec("select 1")
				refused(t, err)
				require.NoError(t, tx.Rollback())

				err = pgprod.InTx(t.Context(), db, func(tx *sql.Tx) error {
					return tx.QueryRow("select $1::int", 1).Scan(new(int))
				}, pgprod.TxIsolation(sql.LevelSerializable))
				refused(t, err)
			}
			conn, err := db.Conn(t.Context())
			require.NoError(t, err)
			tx, err := conn.BeginTx(t.Context(), serializable)
			require.NoError(t, err)
			require.NoError(t, conn.Raw(func(driverConn any) error {
				assert.Nil(t, driverConn.(interface{ Conn() *pgx.Conn }).Conn(), "it would not be in a transaction")
				return nil
			}))
			refused(t, tx.Commit())
			require.NoError(t, conn.Close())

			tx, err = db.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
			require.NoError(t, err)
			assert.Equal(t, pid, get[int](t, tx, "select pg_backend_pid() where $1", true), "the connection was replaced")
			require.NoError(t, tx.Commit())
		})
	}
}

// leftInSession counts what is left in a session, of what can be left on a standby, too.
const leftInSession = `(current_setting('lock_timeout') = '7s')::int + (current_user <> 'postgres')::int +
	(select count(*) from pg_locks where locktype = 'advisory') + (select count(*) from pg_cursors where is_holdable) +
	(select count(*) from pg_prepared_statements where from_sql)`

// TestAStandbysSessionsAreCleaned: what can't be left there must not be in the way of undoing the rest.
func TestAStandbysSessionsAreCleaned(t *testing.T) {
	t.Parallel()
	_, standby := twoServers(t, nil)
	for _, reset := range []string{"auto", "always"} {
		for _, mode := range everyMode {
			t.Run(reset+"/"+mode, func(t *testing.T) {
				db := openPool(t, with(standby.DSN(""), "pool_reset", reset, "default_query_exec_mode", mode,
					"pool_size", "1", "max_overflow", "0"))
				pid := get[int](t, db, "select pg_backend_pid()")
				for _, leave := range []string{
					"set lock_timeout = '7s'", "do $$ begin perform set_config('lock_timeout', '7s', false); end $$",
					"select pg_advisory_lock(42)", "declare c cursor with hold for select 1", "prepare p as select 1", "set role pg_monitor",
				} {
					require.NoError(t, onConn(db, func(conn *sql.Conn) error {
						_, err := conn.ExecContext(t.Context(), leave)
						return err
					}), leave)
					tx, err := db.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true})
					require.NoError(t, err)
					assert.Zero(t, get[int](t, tx, "select "+leftInSession), leave)
					require.NoError(t, tx.Commit())
					require.NoError(t, pgprod.Raw(t.Context(), db, func(c *pgx.Conn) error { return c.Ping(t.Context()) }))
				}
				ctx := pgprod.ContextWithSettings(context.Background(), map[string]string{"app.tenant": "A"})
				require.NoError(t, pgprod.InTx(ctx, db, func(tx *sql.Tx) error {
					assert.Equal(t, "A", get[string](t, tx, "select current_setting('app.tenant')"))
					return nil
				}))
				assert.Equal(t, pid, get[int](t, db, "select pg_backend_pid()"), "the connection was replaced")
			})
		}
	}
}
