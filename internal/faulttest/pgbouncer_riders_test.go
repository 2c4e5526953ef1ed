package faulttest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// preparesItself reports whether PgBouncer prepares a client's statements on whichever connection to the server it uses.
func (b *bouncer) preparesItself() bool {
	major, minor := b.Version()
	return major > 1 || minor >= 21
}

// A bounced is a way to reach a database through PgBouncer.
type bounced struct {
	*bouncer
	pooling, mode string // of PgBouncer, and pgx's
	database      string
	settings      []string // of the DSN, for what is the same in all tests
}

// open opens a pool. In session pooling it isn't larger than PgBouncer's, for whose connections it would wait.
func (b bounced) open(t testing.TB, keysAndValues ...string) *sql.DB {
	t.Helper()
	return openPool(t, b.dsn(b.database, append(b.settings, keysAndValues...)...))
}

// behindEach runs a test for each pooling mode that has transactions, each exec mode that works there, and both ways to
// deal with server_settings. Where PgBouncer prepares statements itself, it keeps so few that it has to prepare them anew.
func behindEach(t *testing.T, test func(t *testing.T, b bounced)) {
	t.Helper()
	t.Parallel()
	for _, pooling := range []string{"session", "transaction"} {
		t.Run(pooling, func(t *testing.T) {
			t.Parallel()
			b := startBouncer(t, pgtest.StartTB(t, pgtest.Config{}), pooling)
			modes := []string{"exec", "cache_describe", "simple_protocol"}
			if pooling == "session" {
				modes = append(modes, "cache_statement", "describe_exec")
			} else if b.preparesItself() {
				b.Kill()
				b = startBouncer(t, b.server, pooling, "max_prepared_statements = 2")
				modes = append(modes, "cache_statement")
			}
			for _, mode := range modes {
				for name, settings := range map[string]string{"set": "server_settings_mode=set", "dropped": "server_settings=" + dropped} {
					t.Run(mode+"/"+name, func(t *testing.T) {
						all := append(keys(settings), "default_query_exec_mode", mode)
						if pooling == "session" {
							all = append(all, "pool_size", "3", "max_overflow", "0")
						}
						test(t, bounced{b, pooling, mode, b.database(t), all})
					})
				}
			}
		})
	}
}

// tenants has eight workers of two tenants share a table with row-level security, and returns their errors. Outside of a
// transaction there are no settings where alone is false.
func tenants(t testing.TB, b *bouncer, database string, db *sql.DB, alone bool) error {
	t.Helper()
	require.NoError(t, b.server.Exec(t.Context(),
		"do $$ begin create role tenants login nosuperuser nobypassrls; exception when duplicate_object then null; end $$"))
	newClient(t, b.server.DSN(database)).do(`
		create table notes (tenant text default current_setting('app.tenant', true));
		alter table notes enable row level security, force row level security;
		create policy own on notes using (tenant = nullif(current_setting('app.tenant', true), ''));
		grant select, insert on notes to tenants`)
	errs := make([]error, 8)
	var all sync.WaitGroup
	for worker := range errs {
		all.Go(func() { // ends after its rounds
			for range 20 {
				errs[worker] = errors.Join(errs[worker], asTenant(db, string("AB"[worker%2]), alone))
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// asTenant inserts a row and counts those it sees, outside of a transaction and in one, and then counts without a tenant.
func asTenant(db *sql.DB, tenant string, alone bool) error {
	ctx := pgprod.ContextWithSettings(context.Background(), map[string]string{"app.tenant": tenant})
	inserts := func(q querier) error {
		if _, err := q.ExecContext(ctx, "insert into notes values (default), ($1)", tenant); err != nil {
			return err
		}
		return seesOnly(ctx, q, tenant)
	}
	var err error
	if alone {
		err = inserts(db)
	}
	return errors.Join(err, pgprod.InTx(ctx, db, func(tx *sql.Tx) error { return inserts(tx) }),
		seesOnly(context.Background(), db, ""))
}

// wrongRows is in the error of seesOnly if it has seen the wrong ones.
const wrongRows = "wrong rows"

// seesOnly checks that a statement has a tenant's setting, and sees rows of that tenant only; "": none at all.
func seesOnly(ctx context.Context, q querier, tenant string) error {
	var setting string
	var own, all int
	err := q.QueryRowContext(ctx, `select coalesce(current_setting('app.tenant', true), ''),
		count(*) filter (where tenant = $1), count(*) from notes`, tenant).Scan(&setting, &own, &all)
	if err == nil && (setting != tenant || own != all || (own > 0) != (tenant != "")) {
		err = fmt.Errorf("%s: tenant %q has the setting %q and sees %d of its own among %d", wrongRows, tenant, setting, own, all)
	}
	return err
}

func TestTenantsSeeOnlyTheirRowsBehindPgBouncer(t *testing.T) {
	behindEach(t, func(t *testing.T, b bounced) {
		for _, reset := range []string{"auto", "always"} {
			b.database = b.bouncer.database(t)
			db := b.open(t, "user", "tenants", "pool_reset", reset)
			alone := b.mode != "simple_protocol"
			require.NoError(t, tenants(t, b.bouncer, b.database, db, alone))
			rows := 8 * 20 * 2
			if alone {
				rows *= 2
			}
			assert.Equal(t, rows, newClient(t, b.server.DSN(b.database)).count("select count(*) from notes where tenant in ('A', 'B')"))
			if !alone {
				_, err := db.ExecContext(pgprod.ContextWithSettings(t.Context(), map[string]string{"app.tenant": "A"}), "select 1")
				require.ErrorContains(t, err, "the settings of the context can't travel")
			}
			require.NoError(t, db.Close()) // in session pooling the next one needs its connections
		}
	})
}

// TestWherePreparedStatementsAreMissingNothingRunsWithoutItsSettings is about a mode that doesn't work: in transaction
// pooling, what was prepared on one connection to the server is not on the next.
func TestWherePreparedStatementsAreMissingNothingRunsWithoutItsSettings(t *testing.T) {
	t.Parallel()
	b := startBouncer(t, pgtest.StartTB(t, pgtest.Config{}), "transaction")
	if b.preparesItself() {
		b.Kill()
		b = startBouncer(t, b.server, "transaction", "max_prepared_statements = 0")
	}
	database := b.database(t)
	db := openPool(t, b.dsn(database, "user", "tenants", "server_settings", dropped,
		"default_query_exec_mode", "cache_statement"))
	err := tenants(t, b, database, db, true)
	require.ErrorContains(t, err, "prepared statement")
	for message := range strings.Lines(err.Error()) {
		assert.NotContains(t, message, wrongRows)
	}
}

func TestTransactionsOfEachKindBeginLateBehindPgBouncer(t *testing.T) {
	behindEach(t, func(t *testing.T, b bounced) {
		db := b.open(t)
		stmt, err := db.Prepare("select current_setting('transaction_isolation') || current_setting('transaction_read_only') || $1")
		require.NoError(t, err)
		defer func() { assert.NoError(t, stmt.Close()) }()
		for level, want := range map[sql.IsolationLevel]string{
			sql.LevelDefault: "read committed", sql.LevelReadUncommitted: "read uncommitted", sql.LevelReadCommitted: "read committed",
			sql.LevelRepeatableRead: "repeatable read", sql.LevelSerializable: "serializable",
		} {
			for readOnly, suffix := range map[bool]string{false: "off", true: "on"} {
				options := &sql.TxOptions{Isolation: level, ReadOnly: readOnly}
				var txs []*sql.Tx // of which some are on connections to the server on which nothing of this is prepared
				for range 3 {
					tx, err := db.BeginTx(t.Context(), options)
					require.NoError(t, err)
					txs = append(txs, tx)
				}
				var got string
				require.NoError(t, txs[0].Stmt(stmt).QueryRow("").Scan(&got))
				assert.Equal(t, want+suffix, got, "by a prepared statement")
				require.NoError(t, txs[1].QueryRow("show transaction_isolation").Scan(&got))
				assert.Equal(t, want, got, "without arguments")
				_, err = txs[2].Exec("savepoint s")
				require.NoError(t, err)
				_, err = txs[2].Exec("update accounts set amount = amount + 1 where id = $1 and $2", 1, !readOnly)
				assert.Equal(t, readOnly, sqlState(err) == "25006", err)
				_, err = txs[2].Exec("rollback to savepoint s")
				require.NoError(t, err)
				for _, tx := range txs {
					require.NoError(t, tx.Commit())
				}
				empty, err := db.BeginTx(t.Context(), options)
				require.NoError(t, err)
				require.NoError(t, empty.Commit())
			}
		}
		for range 3 {
			tx, err := db.Begin()
			require.NoError(t, err)
			_, err = tx.Exec("select 1/$1::int", 0)
			require.Equal(t, "22012", sqlState(err), err)
			require.Error(t, tx.Commit())
		}
		assert.Equal(t, 400, get[int](t, db, total))
	})
}

func TestWhatABorrowerLeavesIsUndoneBehindPgBouncerWithSessionPooling(t *testing.T) {
	behindEach(t, func(t *testing.T, b bounced) {
		if b.pooling != "session" {
			return // what is left there is anybody's, at once
		}
		for _, reset := range []string{"auto", "always"} {
			db := b.open(t, "pool_reset", reset, "pool_size", "1")
			pid := get[int](t, db, "select pg_backend_pid()")
			for _, leave := range []string{
				"set lock_timeout = '7s'", "select pg_advisory_lock(42)", "create temp table x ()", "listen x",
				"declare c cursor with hold for select 1", "prepare p as select 1", "set role pg_monitor",
			} {
				require.NoError(t, onConn(db, func(conn *sql.Conn) error {
					_, err := conn.ExecContext(t.Context(), leave)
					return err
				}))
				assert.Zero(t, get[int](t, db, "select "+leftInSession+` + (to_regclass('pg_temp.x') is not null)::int +
					(select count(*) from pg_listening_channels())`), leave)
			}
			assert.Equal(t, pid, get[int](t, db, "select pg_backend_pid()"), "the connection was replaced")
			require.NoError(t, db.Close())
		}
	})
}

// TestStartupParametersSurviveAResetBehindPgBouncer: it sets them by SET, so that RESET would bring back the server's.
func TestStartupParametersSurviveAResetBehindPgBouncer(t *testing.T) {
	behindEach(t, func(t *testing.T, b bounced) {
		db := b.open(t, "application_name", "shop", "timezone", "Asia/Tokyo", "pool_size", "1", "max_overflow", "0")
		ask := func(q querier) string {
			return get[string](t, q, "select current_setting('application_name') || ', ' || current_setting('timezone') || $1", "")
		}
		const want = "shop, Asia/Tokyo"
		assert.Equal(t, want, ask(db))
		require.NoError(t, onConn(db, func(conn *sql.Conn) error {
			_, err := conn.ExecContext(t.Context(), "set lock_timeout = '5s'")
			return err
		}))
		assert.Equal(t, want, ask(db), "in the flight of the cleaning")
		assert.Equal(t, want, ask(db))
		tx, err := db.Begin()
		require.NoError(t, err)
		rome := pgprod.ContextWithSettings(t.Context(), map[string]string{"timezone": "Europe/Rome", "application_name": "r"})
		_, err = tx.ExecContext(rome, "select 1")
		require.NoError(t, err)
		assert.Equal(t, want, ask(tx), "without the settings of the statement before")
		require.NoError(t, tx.Commit())
		assert.Equal(t, want, ask(db))
	})
}

func TestATraceContextIsTheApplicationNameBehindPgBouncer(t *testing.T) {
	provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.AlwaysSample()))
	behindEach(t, func(t *testing.T, b bounced) {
		if b.mode == "simple_protocol" {
			return // it has no riders
		}
		dsn := b.dsn(b.database, append(b.settings, "application_name", "shop", "pool_size", "2")...)
		db, err := pgprod.Open(dsn, quiet, pgprod.WithTraceContext("application_name"), pgprod.WithTracerProvider(provider),
			pgprod.WithRootSpans(false))
		require.NoError(t, err)
		defer func() { assert.NoError(t, db.Close()) }()
		other := b.open(t, "application_name", "other", "pool_size", "1") // in transaction pooling on the same connections
		ctx, span := provider.Tracer("application").Start(t.Context(), "parent")
		defer span.End()
		traced := "00-" + span.SpanContext().TraceID().String() + "-"
		name := func(ctx context.Context, q querier) (name string) {
			t.Helper()
			require.NoError(t, q.QueryRowContext(ctx, "select current_setting('application_name') || $1", "").Scan(&name))
			return name
		}
		for range 3 {
			assert.Contains(t, name(ctx, db), traced)
			assert.Equal(t, "shop", name(t.Context(), db))
			assert.Equal(t, "other", name(ctx, other))
			tx, err := db.BeginTx(ctx, nil)
			require.NoError(t, err)
			assert.Contains(t, name(ctx, tx), traced)
			assert.Equal(t, "shop", name(t.Context(), tx), "a statement that is not sampled")
			assert.Contains(t, name(ctx, tx), traced)
			require.NoError(t, tx.Commit())
			assert.Equal(t, "other", name(ctx, other))
			assert.Equal(t, "shop", name(t.Context(), db))
		}
		assert.Zero(t, newClient(t, b.server.DSN(b.database)).count(
			"select count(*) from pg_stat_activity where application_name like '00-%'"))
		require.NoError(t, other.Close())
	})
}

// TestWhatPgBouncerRefusesIsAnError: it gets no connection to the server for what travels in front of a statement, and ends
// the session.
func TestWhatPgBouncerRefusesIsAnError(t *testing.T) {
	t.Parallel()
	b := startBouncer(t, pgtest.StartTB(t, pgtest.Config{}), "transaction", onlyOne, "query_wait_timeout = 1")
	for _, mode := range []string{"cache_describe", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			database := b.database(t)
			db := openPool(t, b.dsn(database, "server_settings", dropped, "default_query_exec_mode", mode))
			const insert = "insert into accounts values ($1, 1)"
			refused := func(err error) {
				t.Helper()
				require.ErrorContains(t, err, "query_wait_timeout")
				require.Equal(t, "08P01", sqlState(err))
			}
			// withoutServer runs do while somebody else has PgBouncer's only connection.
			withoutServer := func(do func()) {
				require.NoError(t, db.Ping()) // else there is nothing that it can refuse
				other, err := openPgx(t, b.dsn(database, "default_query_exec_mode", "exec")).Begin()
				require.NoError(t, err)
				do()
				require.NoError(t, other.Rollback())
			}
			withoutServer(func() {
				tx, err := db.Begin()
				require.NoError(t, err)
				_, err = tx.Exec(insert, 10)
				refused(err)
				_, err = tx.Exec(insert, 10)
				require.ErrorContains(t, err, "the connection was lost before the statement was sent")
				require.ErrorContains(t, tx.Commit(), "COMMIT was not sent, the server rolls the transaction back")
			})
			if mode != "simple_protocol" {
				withoutServer(func() {
					ctx := pgprod.ContextWithSettings(t.Context(), map[string]string{"app.tenant": "secret"})
					_, err := db.ExecContext(ctx, insert, 11)
					refused(err)
					assert.NotContains(t, err.Error(), "secret")
				})
			}
			require.NoError(t, onConn(db, func(conn *sql.Conn) error {
				_, err := conn.ExecContext(t.Context(), "set lock_timeout = '5s'")
				return err
			}))
			withoutServer(func() {
				_, err := db.Exec(insert, 12)
				refused(err)
			})
			_, err := db.Exec(insert, 13)
			require.NoError(t, err)
			assert.Equal(t, 5, get[int](t, db, "select count(*) from accounts"))
		})
	}
}
