package drivertest

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// aTrace is something that a borrower can leave in its session, and how others see it.
type aTrace struct {
	leave   []string
	seen    string // a query that is true if it is there
	unseen  bool   // the statement doesn't show that it is left
	mayStay bool   // it is not left in each mode of server_settings
}

// traces are all kinds of them.
var traces = map[string]aTrace{
	"setting":                    {leave: []string{"set app.tenant = 'A'"}, seen: tenantSet + " <> ''"},
	"set_config":                 {leave: []string{"select set_config('app.tenant', 'A', false)"}, seen: tenantSet + " <> ''"},
	"set_config in an insert":    {leave: []string{"insert into t select set_config('app.tenant', 'A', false)"}, seen: tenantSet + " <> ''"},
	"of several statements":      {leave: []string{"select 1; set app.tenant = 'A'; select 2"}, seen: tenantSet + " <> ''"},
	"setting in DO":              {leave: []string{"do $$ begin perform set_config('app.tenant', 'A', false); end $$"}, seen: tenantSet + " <> ''"},
	"setting in CALL":            {leave: []string{"call leave_tenant()"}, seen: tenantSet + " <> ''"},
	"setting in a function":      {leave: []string{"select leaves_tenant()"}, seen: tenantSet + " <> ''", unseen: true},
	"lock in a function":         {leave: []string{"select leaves_lock()"}, seen: isLocked, unseen: true},
	"search_path":                {leave: []string{"set search_path = other"}, seen: "current_schema() is distinct from 'public'"},
	"time zone":                  {leave: []string{"set time zone 'Asia/Tokyo'"}, seen: "current_setting('timezone') = 'Asia/Tokyo'"},
	"read-only":                  {leave: []string{"set session characteristics as transaction read only"}, seen: "current_setting('default_transaction_read_only') = 'on'"},
	"reset":                      {leave: []string{"reset all"}, seen: "current_setting('app.kept', true) is distinct from 'kept'", mayStay: true},
	"role":                       {leave: []string{"set role lesser"}, seen: "current_user = 'lesser'"},
	"role by set_config":         {leave: []string{"select set_config('role', 'lesser', false)"}, seen: "current_user = 'lesser'"},
	"session authorization":      {leave: []string{"set session authorization lesser"}, seen: "session_user = 'lesser'"},
	"advisory lock":              {leave: []string{"select pg_advisory_lock(42)"}, seen: isLocked},
	"shared advisory lock":       {leave: []string{"select pg_try_advisory_lock_shared(42)"}, seen: isLocked},
	"lock of a failed statement": {leave: []string{"select pg_advisory_lock(42), 1/(select 0)"}, seen: isLocked},
	"temporary table":            {leave: []string{"create temp table x (a int)"}, seen: "to_regclass('pg_temp.x') is not null"},
	"temporary table as":         {leave: []string{"create temporary table x as select 1"}, seen: "to_regclass('pg_temp.x') is not null"},
	"select into":                {leave: []string{"select 1 as a Into Temp x"}, seen: "to_regclass('pg_temp.x') is not null"},
	"temporary view":             {leave: []string{"create temp view x as select 1"}, seen: "to_regclass('pg_temp.x') is not null"},
	"cursor":                     {leave: []string{"declare x cursor with hold for select 1"}, seen: "exists (select from pg_cursors where name = 'x')"},
	"cursor of a transaction":    {leave: []string{"begin", "declare x cursor with hold for select 1", "commit"}, seen: "exists (select from pg_cursors where name = 'x')"},
	"prepared":                   {leave: []string{"prepare \"X y\" as select 1"}, seen: "exists (select from pg_prepared_statements where name = 'X y')"},
	"executed":                   {leave: []string{"prepare p as select set_config('app.tenant', $1, false)", "execute p('A')"}, seen: tenantSet + " <> ''"},
	"listen":                     {leave: []string{"listen x"}, seen: "exists (select from pg_listening_channels())"},
}

const isLocked = "exists (select from pg_locks where locktype = 'advisory' and objid in (42, 43) and database = (select oid from pg_database where datname = current_database()))"

// resetDatabase returns a database with what traces need.
func resetDatabase(t testing.TB) string {
	dsn := pgtest.NewDatabase(t)
	db := openPgx(t, dsn)
	for _, query := range []string{
		"create table t (a text)", "create schema other",
		"create procedure leave_tenant() language plpgsql as $$ begin perform set_config('app.tenant', 'A', false); end $$",
		"create function leaves_tenant() returns text language sql as $$ select set_config('app.tenant', 'A', false) $$",
		"create function leaves_lock() returns void language sql as $$ select pg_advisory_lock(43) $$",
		"do $$ begin create role lesser; exception when duplicate_object or unique_violation then null; end $$",
	} {
		mustExec(t, db, query)
	}
	return dsn
}

// leaves has a *sql.Conn of a pool leave something, and closes it. It returns the backend's id.
func (r aTrace) leaves(t testing.TB, db *sql.DB) (pid int) {
	t.Helper()
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	for _, query := range r.leave {
		_, err := conn.ExecContext(t.Context(), query)
		if !strings.Contains(query, "1/") {
			require.NoError(t, err, query)
		}
	}
	if !r.mayStay {
		assert.True(t, get[bool](t, conn, "select "+r.seen), "its owner has lost it")
	}
	pid = get[int](t, conn, "select pg_backend_pid()")
	require.NoError(t, conn.Close())
	return pid
}

func TestNothingThatABorrowerLeavesReachesTheNext(t *testing.T) {
	t.Parallel()
	dsn := resetDatabase(t)
	for _, reset := range []string{"auto", "always"} {
		for _, mode := range []string{"startup", "set"} {
			db := openPool(t, oneConn(dsn, "pool_reset", reset, "server_settings_mode", mode, "server_settings", "app.kept=kept"))
			for name, trace := range traces {
				if reset == "auto" && trace.unseen {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/%s", reset, mode, name), func(t *testing.T) {
					for _, next := range map[string]func() (seen bool, pid int){
						"query": func() (seen bool, pid int) {
							require.NoError(t, db.QueryRow("select "+trace.seen+", pg_backend_pid() where $1", true).Scan(&seen, &pid))
							return seen, pid
						},
						"statement without arguments": func() (seen bool, pid int) {
							mustExec(t, db, "delete from t; insert into t select "+trace.seen)
							require.NoError(t, db.QueryRow("select a::bool, pg_backend_pid() from t").Scan(&seen, &pid))
							mustExec(t, db, "delete from t")
							return seen, pid
						},
						"transaction": func() (seen bool, pid int) {
							tx, err := db.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelSerializable})
							require.NoError(t, err)
							require.NoError(t, tx.QueryRow("select "+trace.seen+", pg_backend_pid() where $1", true).Scan(&seen, &pid))
							require.NoError(t, tx.Rollback())
							return seen, pid
						},
						"vacuum": func() (seen bool, pid int) {
							mustExec(t, db, "vacuum t")
							require.NoError(t, db.QueryRow("select "+trace.seen+", pg_backend_pid() where $1", true).Scan(&seen, &pid))
							return seen, pid
						},
						"raw": func() (seen bool, pid int) {
							require.NoError(t, pgprod.Raw(t.Context(), db, func(c *pgx.Conn) error {
								return c.QueryRow(t.Context(), "select "+trace.seen+", pg_backend_pid()").Scan(&seen, &pid)
							}))
							return seen, pid
						},
					} {
						pid := trace.leaves(t, db)
						seen, now := next()
						assert.False(t, seen)
						assert.Equal(t, pid, now, "the connection was replaced")
						assert.Equal(t, "kept", get[string](t, db, "select current_setting('app.kept')"), "of server_settings")
					}
				})
			}
		}
	}
}

func TestAFailureOfTheNextStatementBringsNothingBack(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(resetDatabase(t)))
	for name, trace := range traces {
		if trace.unseen || trace.mayStay {
			continue
		}
		trace.leaves(t, db)
		_, err := db.Exec("select 1/$1", 0)
		requireCode(t, err, "22012")
		assert.False(t, get[bool](t, db, "select "+trace.seen), name)

		trace.leaves(t, db)
		_, err = db.Exec("selekt $1", 0)
		requireCode(t, err, "42601")
		assert.False(t, get[bool](t, db, "select "+trace.seen), name)
	}
}

// TestAProcedureMayCommitBehindTheCleaning: what shares its flight has a transaction of its own, and leaves none open.
func TestAProcedureMayCommitBehindTheCleaning(t *testing.T) {
	inModes(t, append([]string{"simple_protocol"}, modes...), func(t *testing.T, db *sql.DB) {
		mustExec(t, db, "create table t (a int)")
		mustExec(t, db, `create procedure commits(n int) language plpgsql as
			$$ begin insert into t values (n); commit; insert into t values (n); rollback; end $$`)
		for name, run := range map[string]func() error{
			"CALL":                  func() error { _, err := db.Exec("call commits(1)"); return err },
			"CALL with an argument": func() error { _, err := db.Exec("call commits($1)", 1); return err },
			"CALL as a query": func() error {
				rows, err := db.Query("call commits($1)", 1)
				if err != nil {
					return err
				}
				return rows.Close()
			},
			"DO": func() error { _, err := db.Exec("do $$ begin call commits(1); commit; end $$"); return err },
			"VACUUM": func() error {
				_, err := db.Exec("vacuum t")
				mustExec(t, db, "insert into t values (1)")
				return err
			},
			"CREATE … CONCURRENTLY": func() error {
				_, err := db.Exec("create index concurrently if not exists i on t (a)")
				mustExec(t, db, "insert into t values (1)")
				return err
			},
		} {
			traces["setting"].leaves(t, db)
			require.NoError(t, run(), name)
			assert.Equal(t, 1, get[int](t, db, "select count(*) from t"), name)
			assert.Empty(t, tenantOf(t, db, t.Context()), name)
			mustExec(t, db, "delete from t")
		}
	})
}

func TestWhatABorrowerLeavesIsUndoneWithinASecondIfNobodyComes(t *testing.T) {
	t.Parallel()
	dsn := resetDatabase(t)
	observer := openPgx(t, dsn)
	for _, idle := range []string{"10m", "100ms"} {
		db := openPool(t, oneConn(dsn, "pool_idle_timeout", idle))
		traces["advisory lock"].leaves(t, db)
		left := time.Now()
		require.Eventually(t, func() bool { return !get[bool](t, observer, "select "+isLocked) }, 20*time.Second, 5*time.Millisecond)
		t.Logf("pool_idle_timeout=%s: after %v", idle, time.Since(left))
		assert.Zero(t, statusOf(t, db).CheckedOut)
	}
}

func TestSomeThingsAreNotUndone(t *testing.T) {
	t.Parallel()
	dsn := resetDatabase(t)
	db := openPool(t, oneConn(dsn, "pool_reset", "off"))
	for name, trace := range traces {
		if name == "reset" || strings.Contains(name, "role") || name == "session authorization" || name == "read-only" {
			continue
		}
		trace.leaves(t, db)
		assert.True(t, get[bool](t, db, "select "+trace.seen), name)
		require.NoError(t, db.Close())
		db = openPool(t, oneConn(dsn, "pool_reset", "off"))
	}
}

func TestACleaningThatFailsCostsTheConnectionAndNotTheStatement(t *testing.T) {
	t.Parallel()
	dsn := resetDatabase(t)
	admin := openPgx(t, dsn)
	db := openPool(t, oneConn(dsn, "server_settings", "lock_timeout=50ms"))
	for name, run := range map[string]func() error{
		"query":     func() error { return db.QueryRow("select $1", "").Scan(new(string)) },
		"exec":      func() error { _, err := db.Exec("select 1"); return err },
		"two texts": func() error { _, err := db.Exec("select 1; select 2"); return err },
		"transaction": func() error {
			tx, err := db.Begin()
			if err != nil {
				return err
			}
			defer tx.Rollback()
			return tx.QueryRow("select $1", "").Scan(new(string))
		},
		"raw": func() error {
			return pgprod.Raw(t.Context(), db, func(c *pgx.Conn) error { return c.Ping(t.Context()) })
		},
		"nobody": func() error {
			require.Eventually(t, func() bool { s := statusOf(t, db); return s.CheckedIn+s.CheckedOut == 0 }, 20*time.Second, time.Millisecond)
			return nil
		},
	} {
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		_, err = conn.ExecContext(t.Context(), "create temp table x (a int)")
		require.NoError(t, err)
		pid := get[int](t, conn, "select pg_backend_pid()")
		lock, err := admin.Begin() // on the table, which can't be dropped then
		require.NoError(t, err)
		mustExec(t, lock, "lock table "+get[string](t, conn, "select pg_my_temp_schema()::regnamespace::text")+".x in access share mode")
		require.NoError(t, conn.Close())
		assert.NoError(t, run(), name)
		assert.NotEqual(t, pid, get[int](t, db, "select pg_backend_pid()"), name)
		require.NoError(t, lock.Rollback())
	}
}

func TestASessionsStateStaysUntilItsOwnerClosesIt(t *testing.T) {
	t.Parallel()
	for _, reset := range []string{"auto", "always"} {
		db := openPool(t, oneConn(resetDatabase(t), "pool_reset", reset))
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		_, err = conn.ExecContext(t.Context(), "set app.tenant = 'A'")
		require.NoError(t, err)
		_, err = conn.ExecContext(t.Context(), "create temp table x (a int)")
		require.NoError(t, err)
		for range 3 {
			tx, err := conn.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			assert.Equal(t, "A", tenantOf(t, tx, t.Context()))
			_, err = tx.Exec("insert into x values ($1)", 1)
			require.NoError(t, err)
			require.NoError(t, tx.Commit())
		}
		assert.Equal(t, 3, get[int](t, conn, "select count(*) from x"))
		require.NoError(t, conn.Close())
	}
}

func TestCleaningTakesNoRoundTripOfItsOwn(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, resetDatabase(t))
	db := openPool(t, oneConn(proxy.DSN()))
	for range 3 {
		get[int](t, db, "select $1::int", 1)
	}
	before := proxy.Stats()
	for range 5 {
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		_, err = conn.ExecContext(t.Context(), "set app.tenant = 'A'")
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		get[int](t, db, "select $1::int", 1)
	}
	assert.Equal(t, 10, proxy.Stats().RoundTrips-before.RoundTrips)
	assert.Equal(t, 1, get[int](t, db, "select count(*) from pg_stat_activity where datname = current_database() and pid = pg_backend_pid()"))
}

func TestNotificationsOfOneBorrowerDontReachTheNext(t *testing.T) {
	t.Parallel()
	dsn := resetDatabase(t)
	db, other := openPool(t, oneConn(dsn)), openPgx(t, dsn)
	require.NoError(t, pgprod.Raw(t.Context(), db, func(c *pgx.Conn) error {
		_, err := c.Exec(t.Context(), "listen x")
		return err
	}))
	mustExec(t, other, "notify x, 'secret'")
	mustExec(t, db, "select $1::text", "")
	require.NoError(t, pgprod.Raw(t.Context(), db, func(c *pgx.Conn) error {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		n, err := c.WaitForNotification(ctx)
		assert.Nil(t, n)
		assert.Error(t, err)
		return nil
	}))
}
