package drivertest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// hook is a function for WithAfterConnect.
type hook = func(context.Context, *pgx.Conn) error

// executing returns a hook that executes statements.
func executing(texts ...string) hook {
	return func(ctx context.Context, conn *pgx.Conn) error {
		for _, text := range texts {
			if _, err := conn.Exec(ctx, text); err != nil {
				return err
			}
		}
		return nil
	}
}

// parcel is a composite type of the tests'.
type parcel struct {
	Mood   string
	Weight int32
}

// typesDSN makes a database with an enum, a composite and their arrays, and returns the DSN.
func typesDSN(t *testing.T) string {
	t.Helper()
	dsn := pgtest.NewDatabase(t)
	mustExec(t, openPgx(t, dsn), "create type mood as enum ('sad', 'happy'); create type parcel as (mood mood, weight int4)")
	return dsn
}

// loadsTypes registers the types of typesDSN.
func loadsTypes(ctx context.Context, conn *pgx.Conn) error {
	types, err := conn.LoadTypes(ctx, []string{"mood", "_mood", "parcel", "_parcel"})
	if err != nil {
		return err
	}
	conn.TypeMap().RegisterTypes(types)
	return nil
}

// usesOfTypes are statements with arguments and results of the registered types.
var usesOfTypes = map[string]func(*sql.DB) (any, error){
	"enum": func(db *sql.DB) (any, error) {
		var got string
		err := db.QueryRow("select $1::mood", "happy").Scan(&got)
		return got, err
	},
	"array of enums, to a slice": func(db *sql.DB) (any, error) {
		var got []string
		err := db.QueryRow("select $1::mood[]", []string{"sad", "happy"}).Scan(pgtype.NewMap().SQLScanner(&got))
		return got, err
	},
	"array of enums, compared": func(db *sql.DB) (any, error) {
		var got bool
		err := db.QueryRow("select 'sad' = any($1::mood[])", []string{"sad"}).Scan(&got)
		return got, err
	},
	"array of enums, as it comes": func(db *sql.DB) (any, error) {
		var got any
		err := db.QueryRow("select '{sad,happy}'::mood[]").Scan(&got)
		return got, err
	},
	"composite, as an argument": func(db *sql.DB) (any, error) {
		var got int
		err := db.QueryRow("select ($1::parcel).weight", parcel{"sad", 7}).Scan(&got)
		return got, err
	},
	"array of composites, as an argument": func(db *sql.DB) (any, error) {
		var got int
		err := db.QueryRow("select sum(p.weight)::int from unnest($1::parcel[]) p", []parcel{{"sad", 7}, {"happy", 8}}).Scan(&got)
		return got, err
	},
	"composite, as it comes": func(db *sql.DB) (any, error) {
		var got any
		err := db.QueryRow("select row('sad', 7)::parcel").Scan(&got)
		return got, err
	},
	"array of composites, as it comes": func(db *sql.DB) (any, error) {
		var got any
		err := db.QueryRow("select array[row('sad', 7)::parcel]").Scan(&got)
		return got, err
	},
	"array of composites, to a slice": func(db *sql.DB) (any, error) {
		var got []parcel
		err := db.QueryRow("select array[row('sad', 7)::parcel]").Scan(pgtype.NewMap().SQLScanner(&got))
		return got, err
	},
}

func TestTypesThatAreRegisteredOnEachConnectionServeAsWithPgx(t *testing.T) {
	dsn := typesDSN(t)
	for _, mode := range eachExecMode {
		dsn := with(dsn, "default_query_exec_mode", mode)
		cfg, err := pgx.ParseConfig(dsn)
		require.NoError(t, err)
		plain := stdlib.OpenDB(*cfg, stdlib.OptionAfterConnect(loadsTypes))
		t.Cleanup(func() { _ = plain.Close() })
		ours := openPool(t, with(dsn, "pool_size", "3"), pgprod.WithAfterConnect(loadsTypes))
		fill(t, ours, 3)
		for name, use := range usesOfTypes {
			t.Run(mode+" "+name, func(t *testing.T) {
				want, wantErr := use(plain)
				for range 6 {
					got, gotErr := use(ours)
					assert.Equal(t, want, got)
					assert.Equal(t, wantErr == nil, gotErr == nil, "pgx: %v, pgprod: %v", wantErr, gotErr)
				}
			})
		}
	}
}

func TestRegisteredTypesServeEveryConnectionAndOutliveACleaning(t *testing.T) {
	db := openPool(t, with(typesDSN(t), "pool_size", "4", "pool_reset", "always"), pgprod.WithAfterConnect(loadsTypes))
	for range 3 {
		conns := make([]*sql.Conn, 4)
		for i := range conns {
			conns[i] = hold(t, db)
			assert.Equal(t, 7, get[int](t, conns[i], "select ($1::parcel).weight", parcel{"sad", 7}))
			mustExec(t, conns[i], "set work_mem = '9MB'")
		}
		for _, conn := range conns {
			require.NoError(t, conn.Close())
		}
	}
	assert.Equal(t, 4, statusOf(t, db).CheckedIn, "none was replaced")
	assert.Empty(t, closedFor(t, db, "dirty"))
}

// closedFor returns how many connections were closed for a reason, as an empty text if none was.
func closedFor(t *testing.T, db *sql.DB, reason string) string {
	t.Helper()
	if n := statusOf(t, db).Closed[reason]; n > 0 {
		return fmt.Sprint(n)
	}
	return ""
}

func TestWhatTheFunctionSetsSurvivesTheCleaningOfTheSession(t *testing.T) {
	dsn := pgtest.NewDatabase(t)
	mustExec(t, openPgx(t, dsn), "create role hook_guest; grant hook_guest to current_user")
	t.Cleanup(func() { mustExec(t, openPgx(t, dsn), "drop role hook_guest") })
	function := func(ctx context.Context, conn *pgx.Conn) error {
		err := executing("set work_mem = '7MB'", "select set_config('app.tenant', 'seven', false)", "set role hook_guest",
			"set application_name = 'by the hook'")(ctx, conn)
		if err == nil {
			_, err = conn.Exec(ctx, "select set_config($1, $2, false)", "app.region", "north")
		}
		return err
	}
	const seen = "select concat_ws(' ', current_setting('work_mem'), current_setting('app.tenant'), current_setting('app.region'), " +
		"current_user, current_setting('application_name'), current_setting('random_page_cost'))"
	const want = "7MB seven north hook_guest by the hook 1.1"
	for _, mode := range []string{"startup", "set"} {
		for _, reset := range []string{"auto", "always"} {
			t.Run(mode+" "+reset, func(t *testing.T) {
				db := openPool(t, oneConn(dsn, "pool_reset", reset, "server_settings_mode", mode), pgprod.WithAfterConnect(function))
				pid := backendPID(t, db)
				for range 3 {
					assert.Equal(t, want, get[string](t, db, seen))
					mustExec(t, db, "reset role; set work_mem = '8MB'; set app.tenant = 'eight'; set app.region = 'south'; set random_page_cost = 3")
				}
				assert.Equal(t, want, get[string](t, db, seen))
				assert.Equal(t, pid, backendPID(t, db), "it is the same connection")
			})
		}
	}
}

func TestAConnectionIsReplacedWhenACleaningWouldUndoWhatTheFunctionHasLeft(t *testing.T) {
	leaves := map[string]struct{ function, borrower, check string }{
		"LISTEN": {"listen hook_channel", "listen other", "select count(*) = 1 from pg_listening_channels() c where c = 'hook_channel'"},
		"lock": {"select pg_advisory_lock_shared(4711)", "select pg_advisory_lock(1)",
			"select count(*) = 1 from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"},
		"temporary table": {"create temp table hook_table (i int)", "create temp table other (i int)",
			"select count(*) = 0 from hook_table"},
		"PREPARE": {"prepare hook_statement as select 1", "prepare other as select 2",
			"select count(*) = 1 from pg_prepared_statements where from_sql and name = 'hook_statement'"},
	}
	dsn := pgtest.NewDatabase(t)
	for name, leaf := range leaves {
		t.Run(name, func(t *testing.T) {
			db := openPool(t, oneConn(dsn), pgprod.WithAfterConnect(executing(leaf.function)))
			pid := backendPID(t, db)
			mustExec(t, db, "set work_mem = '8MB'")
			assert.True(t, get[bool](t, db, leaf.check))
			assert.Equal(t, pid, backendPID(t, db), "settings alone don't cost the connection")
			conn := hold(t, db)
			mustExec(t, conn, leaf.borrower)
			require.NoError(t, conn.Close())
			assert.True(t, get[bool](t, db, leaf.check))
			assert.NotEqual(t, pid, backendPID(t, db))
		})
	}
}

func TestWhatTheFunctionPreparesStaysAndConfusesNobody(t *testing.T) {
	const text = "select $1::int + 1"
	dsn := oneConn(pgtest.NewDatabase(t))
	db := openPool(t, dsn, pgprod.WithAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		if _, err := conn.Prepare(ctx, "hook_add", "select $1::int + 2"); err != nil {
			return err
		}
		batch := &pgx.Batch{}
		batch.Queue(text, 1) // pgx's cache has it now
		batch.Queue("select $1::int + 3", 1)
		if err := conn.SendBatch(ctx, batch).Close(); err != nil {
			return err
		}
		var n int
		return conn.QueryRow(ctx, "select $1::int + 4", 1).Scan(&n)
	}))
	pid := backendPID(t, db)
	for range 3 {
		assert.Equal(t, 2, get[int](t, db, text, 1))
		assert.Equal(t, 3, get[int](t, db, "hook_add", 1), "a name in place of a text, as pgx allows")
		assert.Equal(t, 5, get[int](t, db, "select $1::int + 4", 1))
		stmt := prepare(t, db, "select $1::int + 3")
		var n int
		require.NoError(t, stmt.QueryRow(1).Scan(&n))
		assert.Equal(t, 4, n)
		mustExec(t, db, "create table if not exists t (i int); drop table t") // counts as a change of the schema
		require.NoError(t, pgprod.InTx(t.Context(), db, func(tx *sql.Tx) error {
			assert.Equal(t, 3, get[int](t, tx, "hook_add", 1))
			assert.Equal(t, 2, get[int](t, tx, text, 1))
			return nil
		}))
	}
	assert.Equal(t, pid, backendPID(t, db), "the connection was lent again")
}

func TestAFailureOfTheFunctionFailsTheDialAndSaysSo(t *testing.T) {
	fails := map[string]struct {
		function hook
		want     string
	}{
		"error":     {func(context.Context, *pgx.Conn) error { return errors.New("no vault today") }, "after connect: no vault today"},
		"server":    {executing("select no_such_column"), `after connect: ERROR: column "no_such_column" does not exist`},
		"panic":     {func(context.Context, *pgx.Conn) error { panic("a bug of the hook's") }, "a bug of the hook's"},
		"goexit":    {func(context.Context, *pgx.Conn) error { runtime.Goexit(); return nil }, "after connect: the function has ended its goroutine"},
		"closes":    {func(ctx context.Context, conn *pgx.Conn) error { return conn.Close(ctx) }, "after connect: the function has closed"},
		"begins":    {executing("begin"), "after connect: the function has left a transaction or rows open"},
		"discards":  {executing("discard all"), "after connect: DISCARD ALL and DEALLOCATE ALL must not be executed"},
		"rows open": {func(ctx context.Context, conn *pgx.Conn) error { _, err := conn.Query(ctx, "select 1"); return err }, "has left a transaction or rows open"},
	}
	for name, f := range fails {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := openPool(t, oneConn(pgtest.NewDatabase(t), "pool_name", "hook "+name), pgprod.WithAfterConnect(f.function))
			_, err := db.Exec("select 1")
			require.ErrorContains(t, err, f.want)
			require.ErrorContains(t, err, "pgprod: ")
			assert.Zero(t, statusOf(t, db).CheckedOut+statusOf(t, db).CheckedIn)
		})
	}
}

func TestTheLogHasTheFailureOfTheFunctionWithoutValues(t *testing.T) {
	log := &logBuffer{}
	db := openPool(t, oneConn(pgtest.NewDatabase(t)), pgprod.WithLogger(log.logger()),
		pgprod.WithAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "select 'tea-cup'::int")
			return err
		}))
	_, err := db.Exec("select 1")
	require.ErrorContains(t, err, "tea-cup", "the caller gets it all")
	require.Contains(t, log.String(), "after connect")
	assert.NotContains(t, log.String(), "tea-cup")
}

func TestAFailingFunctionLeavesNoConnectionBehind(t *testing.T) {
	dsn := with(pgtest.NewDatabase(t), "application_name", "hook leaves nothing")
	var calls atomic.Int32
	db := openPool(t, oneConn(dsn), pgprod.WithAfterConnect(func(context.Context, *pgx.Conn) error {
		if calls.Add(1) < 4 {
			return errors.New("not yet")
		}
		return nil
	}))
	assert.Equal(t, 1, get[int](t, db, "select 1"), "the dial is repeated while a caller waits")
	assert.EqualValues(t, 4, calls.Load())
	others := openPgx(t, dsn)
	pgtest.Eventually(t, patience, func() bool {
		return get[int](t, others, "select count(*) from pg_stat_activity where application_name = 'hook leaves nothing' and pid <> pg_backend_pid()") == 1
	}, "the failed dials have left connections")
}

func TestAFunctionThatHangsEndsWithTheTimeOfTheDial(t *testing.T) {
	dsn := oneConn(pgtest.NewDatabase(t), "connect_timeout", "200ms", "pool_timeout", "3s")
	t.Run("in a statement", func(t *testing.T) {
		db := openPool(t, dsn, pgprod.WithAfterConnect(executing("select pg_sleep(60)")))
		_, err := db.Exec("select 1")
		require.ErrorIs(t, err, pgprod.ErrPoolTimeout)
		require.ErrorContains(t, err, "after connect: ")
	})
	t.Run("elsewhere, whatever its context says", func(t *testing.T) {
		released := make(chan struct{})
		var running atomic.Int32
		db := openPool(t, dsn, pgprod.WithAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
			running.Add(1)
			defer running.Add(-1)
			<-released
			_, err := conn.Exec(context.Background(), "select 1") // its connection is gone by now
			return err
		}))
		_, err := db.Exec("select 1")
		require.ErrorIs(t, err, pgprod.ErrPoolTimeout)
		require.ErrorContains(t, err, "the function has not returned within the time of a dial")
		close(released)
		pgtest.Eventually(t, patience, func() bool { return running.Load() == 0 }, "the function goes on")
	})
}

func TestTheFunctionRunsForThePoolsConnectionsOnlyAndIsNoStatementOfTheApplications(t *testing.T) {
	var calls atomic.Int32
	spans, log := tracetest.NewSpanRecorder(), &logBuffer{}
	provider := trace.NewTracerProvider(trace.WithSpanProcessor(spans))
	db := openPool(t, with(pgtest.NewDatabase(t), "echo", "on", "command_timeout", "100ms", "pool_size", "2"),
		pgprod.WithTracerProvider(provider), pgprod.WithRootSpans(true), pgprod.WithLogger(log.logger()),
		pgprod.WithAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
			calls.Add(1)
			return executing("select 'from the hook', pg_sleep(0.3)")(ctx, conn)
		}))
	require.Equal(t, "healthy", string(pgprod.Check(t.Context(), db).Status))
	assert.Zero(t, calls.Load(), "not for a health check")
	fill(t, db, 2)
	assert.EqualValues(t, 2, calls.Load())
	for _, span := range spans.Ended() {
		assert.NotContains(t, fmt.Sprint(span.Name(), span.Attributes()), "from the hook")
		assert.NotContains(t, fmt.Sprint(span.Name(), span.Attributes()), "pg_sleep")
	}
	assert.NotContains(t, log.String(), "pg_sleep", "and command_timeout doesn't end it")
}

func TestTheFunctionMayUseAnotherPoolAndSeesTheServerSettings(t *testing.T) {
	dsn := pgtest.NewDatabase(t)
	other := openPool(t, dsn)
	seen := make(chan string, 1)
	db := openPool(t, oneConn(dsn, "server_settings", "work_mem=11MB", "server_settings_mode", "set"),
		pgprod.WithAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
			var workMem string
			if err := conn.QueryRow(ctx, "show work_mem").Scan(&workMem); err != nil {
				return err
			}
			seen <- workMem
			return other.PingContext(ctx)
		}))
	ctx, cancel := context.WithTimeout(pgprod.ContextWithSettings(t.Context(), map[string]string{"app.x": "1"}), patience)
	defer cancel()
	var x string
	require.NoError(t, db.QueryRowContext(ctx, "select current_setting('app.x')").Scan(&x))
	assert.Equal(t, "1", x)
	assert.Equal(t, "11MB", <-seen)
}
