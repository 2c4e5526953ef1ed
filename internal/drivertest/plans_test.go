package drivertest

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// execModes are the ways in which pgx sends a statement; the first two keep what the server said of it.
var execModes = []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"}

// queryer is what reads rows of a *sql.DB, *sql.Conn or *sql.Tx.
type queryer interface {
	querier
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// columnsOf runs a query and returns the names of its columns.
func columnsOf(q queryer, query string, args ...any) (string, error) {
	rows, err := q.QueryContext(context.Background(), query, args...)
	if err != nil {
		return "", err
	}
	columns, _ := rows.Columns()
	for rows.Next() {
	}
	_ = rows.Close()
	return strings.Join(columns, ","), rows.Err()
}

// outdating are changes of the schema after which the server, or pgx, refuses what pgx has prepared or described before.
var outdating = []struct {
	name           string
	before, change string
	query          string
	arg, argThen   any
	refusal        string // of pgx: a SQLSTATE, or part of the text of an error that pgx makes itself
}{
	{"an enum is made again", "create type mood as enum ('sad', 'ok'); create table t (m mood)",
		"drop table t; drop type mood; create type mood as enum ('ok', 'sad'); create table t (m mood)",
		"insert into t values ($1)", "ok", "ok", "XX000"},
	{"an enum is made again, and is in an array", "create type mood as enum ('sad', 'ok'); create table t (m mood[])",
		"drop table t; drop type mood; create type mood as enum ('ok', 'sad'); create table t (m mood[])",
		"insert into t values ($1)", "{ok}", "{ok,sad}", "XX000"},
	{"a domain is made again", "create domain small as int", "drop domain small; create domain small as int check (value < 9)",
		"select $1::small", "1", "2", "XX000"},
	{"a composite type is made again", "create type pair as (a int, b int)", "drop type pair; create type pair as (a int, b int)",
		"select ($1::pair).a", "(1,2)", "(3,4)", "XX000"},
	{"a column gets another enum", "create type mood as enum ('ok'); create table t (m mood)",
		"create type state as enum ('ok', 'up'); alter table t alter m type state using m::text::state",
		"insert into t values ($1)", "ok", "up", "22P02"},
	{"a column is added", "create table t (a int, b int)", "alter table t add c int",
		"select * from t where a is distinct from $1", 1, 1, "0A000|08P01"},
	{"a column is dropped", "create table t (a int, b int, c int)", "alter table t drop c",
		"select * from t where a is distinct from $1", 1, 1, "0A000|08P01"},
	{"a view is made again", "create view v as select 1 as a, 2 as b", "create or replace view v as select 1 as a, 2 as b, 3 as c",
		"select * from v where a is distinct from $1", 1, 1, "0A000|08P01"},
	{"a column that is compared becomes text", "create table t (a int)", "alter table t alter a type text",
		"select count(*) from t where a = $1", "1", "x", "42883|unable to encode|invalid"},
	{"a column that is written becomes a number", "create table t (a text)", "alter table t alter a type int using a::int",
		"insert into t values ($1)", "1", "2", "42804"},
	{"a column becomes bigint", "create table t (a int)", "alter table t alter a type bigint",
		"insert into t values ($1)", 1, 1 << 40, "greater than maximum value for int4"},
	{"a function returns something else", "create function f(int) returns int language sql as 'select $1'",
		"drop function f(int); create function f(int) returns table (a int, b text) language sql as 'select $1, ''x'''",
		"select * from f($1)", 1, 1, "0A000|08P01"},
	{"a function takes something else", "create function f(int) returns int language sql as 'select $1'",
		"drop function f(int); create function f(text) returns int language sql as 'select 1'",
		"select f($1)", "1", "x", "42883|unable to encode|invalid"},
}

// TestAChangeOfTheSchemaCostsNoStatement is where we are better than pgx, which runs the same: nothing was executed, and
// the statement is prepared anew and sent again.
func TestAChangeOfTheSchemaCostsNoStatement(t *testing.T) {
	t.Parallel()
	for _, mode := range execModes {
		for _, c := range outdating {
			t.Run(mode+", "+c.name, func(t *testing.T) {
				t.Parallel()
				dsn := pgtest.NewDatabase(t)
				theirs := openPgx(t, with(dsn, "default_query_exec_mode", mode))
				theirs.SetMaxOpenConns(1)
				ours := openPool(t, oneConn(dsn, "default_query_exec_mode", mode))
				other := openPool(t, oneConn(dsn))
				mustExec(t, other, c.before)
				run := func(db *sql.DB, arg any) error {
					_, err := columnsOf(db, c.query, arg)
					return err
				}
				require.NoError(t, run(theirs, c.arg))
				require.NoError(t, run(ours, c.arg))
				mustExec(t, other, c.change)
				if err := run(theirs, c.argThen); mode == "cache_statement" {
					require.Error(t, err, "what pgx does")
					assert.True(t, oneOf(err, c.refusal), "%v", err)
				}
				require.NoError(t, run(ours, c.argThen))
				require.NoError(t, run(ours, c.argThen))
			})
		}
	}
}

// oneOf reports whether an error's text has one of several pieces, separated by bars, in it.
func oneOf(err error, pieces string) bool {
	for piece := range strings.SplitSeq(pieces, "|") {
		if strings.Contains(err.Error(), piece) {
			return true
		}
	}
	return false
}

func TestAnOutdatedStatementIsAskedAgainWhicheverWayItIsSent(t *testing.T) {
	t.Parallel()
	const insert, arg = "insert into t values ($1)", "ok"
	exec := func(_ sql.Result, err error) error { return err }
	ways := map[string]func(*sql.DB, *sql.Conn, *sql.Stmt) error{
		"db.Exec": func(db *sql.DB, _ *sql.Conn, _ *sql.Stmt) error { return exec(db.Exec(insert, arg)) },
		"conn.Exec": func(_ *sql.DB, conn *sql.Conn, _ *sql.Stmt) error {
			return exec(conn.ExecContext(t.Context(), insert, arg))
		},
		"stmt.Exec": func(_ *sql.DB, _ *sql.Conn, st *sql.Stmt) error { return exec(st.Exec(arg)) },
		"QueryRow": func(db *sql.DB, _ *sql.Conn, _ *sql.Stmt) error {
			return db.QueryRow("insert into t values ($1) returning m", arg).Scan(new(string))
		},
		"named arguments": func(db *sql.DB, _ *sql.Conn, _ *sql.Stmt) error {
			return exec(db.Exec("insert into t values (@m)", pgx.NamedArgs{"m": arg}))
		},
		"its own mode": func(db *sql.DB, _ *sql.Conn, _ *sql.Stmt) error {
			return exec(db.Exec(insert, pgx.QueryExecModeCacheDescribe, arg))
		},
	}
	const create = "create type mood as enum ('sad', 'ok'); create table t (m mood)"
	for name, run := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			logs := new(logBuffer)
			db := openPool(t, with(pgtest.NewDatabase(t), "pool_size", "2", "max_overflow", "0"), pgprod.WithLogger(logs.logger()))
			mustExec(t, db, create)
			conn, st := hold(t, db), prepare(t, db, insert)
			require.NoError(t, run(db, conn, st))
			mustExec(t, db, "drop table t; drop type mood; "+create)
			require.NoError(t, run(db, conn, st))
			assert.Equal(t, 1, get[int](t, db, "select count(*) from t"), "and once")
			assert.NotContains(t, logs.String(), "statement failed")
		})
	}
}

func TestWhatSomebodyElseHasDeallocatedIsPreparedAnew(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"deallocate all", "discard all", "by name"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			conn := hold(t, openPool(t, oneConn(pgtest.NewDatabase(t))))
			const query = "select $1::int"
			assert.Equal(t, 1, get[int](t, conn, query, 1))
			if by == "by name" {
				by = "deallocate " + get[string](t, conn, "select name from pg_prepared_statements where statement = '"+query+"'")
			}
			mustExec(t, conn, by)
			assert.Equal(t, 2, get[int](t, conn, query, 2))
			assert.Equal(t, 3, get[int](t, conn, query, 3))
		})
	}
}

// TestWhatFailsInTheMiddleOfItsExecutionIsNotSentAgain: with the same codes as a refusal, at each place where the
// server may find an error after it has begun to execute. A sequence counts, which no rollback takes back.
func TestWhatFailsInTheMiddleOfItsExecutionIsNotSentAgain(t *testing.T) {
	t.Parallel()
	const schema = `create sequence tries;
		create function fail(code text) returns int language plpgsql as $$
			begin
				if code > '' then perform nextval('tries'); raise exception 'no' using errcode = code; end if;
				return 1;
			end $$;
		create function warn_and_fail(code text) returns int language plpgsql as $$
			begin raise notice 'E'; return fail(code); end $$;
		create procedure commit_and_fail(code text) language plpgsql as $$
			begin commit; perform fail(code); end $$`
	statements := map[string]string{
		"at once":            "select fail($1)",
		"after a notice":     "select warn_and_fail($1)",
		"after a row":        "select case when n = 3 then fail($1) end from generate_series(1, 3) n",
		"after a commit":     "call commit_and_fail($1)",
		"at the end":         "with x as (select fail($1)) insert into late select 1 from x",
		"in a trigger":       "insert into watched values ($1)",
		"when it is checked": "insert into later values ($1)",
	}
	for _, mode := range execModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			db := openPool(t, oneConn(pgtest.NewDatabase(t), "default_query_exec_mode", mode))
			mustExec(t, db, schema)
			mustExec(t, db, `create table late (a int); create table watched (code text); create table later (code text);
				create function failing() returns trigger language plpgsql as 'begin return (select new from fail(new.code)); end';
				create trigger t before insert on watched for each row execute function failing();
				create constraint trigger t after insert on later deferrable initially deferred
					for each row execute function failing()`)
			for name, query := range statements {
				for _, code := range []string{"0A000", "XX000", "26000", "08P01", "42P01", "22P02"} {
					_, err := columnsOf(db, query, "")
					require.NoError(t, err, "it is prepared")
					mustExec(t, db, "select setval('tries', 1, false)")
					_, err = columnsOf(db, query, code)
					assert.Equal(t, code, sqlState(err), name)
					assert.Equal(t, int64(1), get[int64](t, db, "select last_value from tries"), "%s, %s", name, code)
					assert.True(t, get[bool](t, db, "select is_called from tries"), name)
				}
			}
		})
	}
}

// changing are statements of a transaction after which a text means something else than before: what it read or had
// then, and now.
var changing = []struct {
	name, before, change, query string
	args                        []any
	want                        string
}{
	{name: "a column is added", before: "create table t (a int)", change: "alter table t add b int", query: "select * from t", want: "a,b"},
	{name: "a table is made again", before: "create table t (a int)", change: "drop table t; create table t (b text, c int)",
		query: "select * from t", want: "b,c"},
	{name: "a view is replaced", before: "create view t as select 1 as a", change: "create or replace view t as select 1 as a, 2 as b",
		query: "select * from t", want: "a,b"},
	{name: "a function is replaced", before: "create function f() returns int language sql as 'select 1'",
		change: "drop function f(); create function f() returns table (a int, b int) language sql as 'select 1, 2'",
		query:  "select * from f()", want: "a,b"},
	{name: "in a DO block", before: "create table t (a int)", change: "do $$ begin alter table t add b int; end $$",
		query: "select * from t", want: "a,b"},
	{name: "by a procedure", before: "create table t (a int); create procedure p() language sql as 'alter table t add b int'",
		change: "call p()", query: "select * from t", want: "a,b"},
	{name: "by several statements", before: "create table t (a int)", change: "select ';'; alter table t add b int; select 1",
		query: "select * from t", want: "a,b"},
	{name: "a temporary table hides another", before: "create table t (a int)", change: "create temp table t (b int, c int)",
		query: "select * from t", want: "b,c"},
	{name: "one that is made of a query", before: "create table t (a int)", change: "create temp table t as select 1 as b, 2 as c",
		query: "select * from t", want: "b,c"},
	{name: "one that is made of a query, by arguments", before: "create table t (a int)",
		change: "-- a comment\nCREATE TEMP TABLE t AS SELECT $1::int AS b, $2::int AS c", args: []any{1, 2}, query: "select * from t", want: "b,c"},
	{name: "by SELECT INTO", before: "create table t (a int)", change: "select 1 as b, 2 as c into temp t",
		query: "select * from t", want: "b,c"},
	{name: "in a schema of temporary tables", before: "create table t (a int)", change: "create table pg_temp.t (b int, c int)",
		query: "select * from t", want: "b,c"},
	{name: "a local search_path", before: "create table t (a int); create schema s; create table s.t (b int)",
		change: "set local search_path = s", query: "select * from t", want: "b"},
	{name: "a search_path", before: "create table t (a int); create schema s; create table s.t (b int)",
		change: "SET search_path TO s", query: "select * from t", want: "b"},
	{name: "SET SCHEMA", before: "create table t (a int); create schema s; create table s.t (b int)",
		change: "set schema 's'", query: "select * from t", want: "b"},
	{name: "set_config", before: "create table t (a int); create schema s; create table s.t (b int)",
		change: "select set_config('search_path', $1, true)", args: []any{"s"}, query: "select * from t", want: "b"},
	{name: "set_config, by arguments", before: "create table t (a int); create schema s; create table s.t (b int)",
		change: "SELECT Set_Config($1, $2, false)", args: []any{"search_path", "s"}, query: "select * from t", want: "b"},
	{name: "a role", before: `create table t (a int); create schema app_reader; create table app_reader.t (b int);
		grant usage on schema app_reader to app_reader; grant select on app_reader.t to app_reader`,
		change: "set local role app_reader", query: "select * from t", want: "b"},
}

// TestWhatATransactionHasChangedCostsItNoError is where we are better than pgx, which runs the same.
func TestWhatATransactionHasChangedCostsItNoError(t *testing.T) {
	t.Parallel()
	makeRole(t, "app_reader")
	queries := func(query string) map[string][]any {
		return map[string][]any{query: nil, query + " where $1": {true}, query + " where @yes": {pgx.NamedArgs{"yes": true}}}
	}
	for _, mode := range execModes {
		for _, c := range changing {
			t.Run(mode+", "+c.name, func(t *testing.T) {
				t.Parallel()
				dsn := pgtest.NewDatabase(t)
				mustExec(t, openPool(t, oneConn(dsn)), c.before)
				run := func(db *sql.DB) error {
					for query, args := range queries(c.query) {
						before, err := columnsOf(db, query, args...)
						require.NoError(t, err)
						require.NotEqual(t, c.want, before)
					}
					for query, args := range queries(c.query) {
						err := inTransaction(t, db, func(tx *sql.Tx) error {
							if _, err := columnsOf(tx, query, args...); err != nil {
								return err
							}
							mustExec(t, tx, c.change, c.args...)
							return readTwice(t, tx, c.want, query, args)
						})
						if err != nil {
							return err
						}
					}
					return nil
				}
				theirs := openPgx(t, with(dsn, "default_query_exec_mode", mode))
				theirs.SetMaxOpenConns(1)
				if mode == "cache_statement" {
					assert.Error(t, run(theirs), "what pgx does")
				}
				require.NoError(t, run(openPool(t, oneConn(dsn, "default_query_exec_mode", mode))))
			})
		}
	}
}

// makeRole makes a role of the shared server, if need be, that everybody may take.
func makeRole(t testing.TB, name string) {
	t.Helper()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	mustExec(t, db, "do $$ begin create role "+name+"; exception when duplicate_object then null; end $$")
}

// inTransaction runs f in a transaction that is rolled back.
func inTransaction(t testing.TB, db *sql.DB, f func(*sql.Tx) error) error {
	t.Helper()
	tx, err := db.Begin()
	require.NoError(t, err)
	defer func() { assert.NoError(t, tx.Rollback()) }()
	return f(tx)
}

// readTwice expects a query's columns, by a statement of its own and by a query.
func readTwice(t testing.TB, tx *sql.Tx, want, query string, args []any) error {
	t.Helper()
	for range 2 {
		columns, err := columnsOf(tx, query, args...)
		if err != nil {
			return err
		}
		assert.Equal(t, want, columns)
	}
	if strings.Contains(query, "@") {
		return nil // which names arguments as pgx does, and the server doesn't
	}
	st, err := tx.Prepare(query)
	if err != nil {
		return err
	}
	rows, err := st.Query(args...)
	if err != nil {
		return err
	}
	columns, err := rows.Columns()
	assert.Equal(t, want, strings.Join(columns, ","))
	_ = rows.Close()
	return err
}

func TestTenantsWithTypesOfOneNameShareAConnection(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	for _, tenant := range []string{"a", "b"} {
		mustExec(t, db, "create schema "+tenant+"; set local search_path = "+tenant+`;
			create type mood as enum ('`+tenant+`'); create table t (m mood)`)
	}
	for i := range 10 {
		tenant := []string{"a", "b"}[i%2]
		calls := 0
		err := pgprod.InTx(t.Context(), db, func(tx *sql.Tx) error {
			calls++
			mustExec(t, tx, "set local search_path = "+tenant)
			_, err := tx.Exec("insert into t values ($1)", tenant)
			if err == nil {
				assert.Equal(t, tenant, get[string](t, tx, "select * from t limit 1"))
			}
			return err
		})
		require.NoError(t, err)
		assert.Equal(t, 1, calls)
	}
}

// TestASearchPathOfAHeldConnectionHoldsInItsTransactions: set before the transaction begins, and for the next borrower
// unset.
func TestASearchPathOfAHeldConnectionHoldsInItsTransactions(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	mustExec(t, db, "create table t (a int); create schema s; create table s.t (b int)")
	read := func(q queryer) string {
		columns, err := columnsOf(q, "select * from t")
		require.NoError(t, err)
		return columns
	}
	assert.Equal(t, "a", read(db))
	conn := hold(t, db)
	mustExec(t, conn, "set search_path = s")
	for range 2 {
		tx, err := conn.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		assert.Equal(t, "b", read(tx))
		require.NoError(t, tx.Commit())
		assert.Equal(t, "b", read(conn))
	}
	require.NoError(t, conn.Close())
	require.NoError(t, inTransaction(t, db, func(tx *sql.Tx) error {
		assert.Equal(t, "a", read(tx))
		return nil
	}))
}

// TestATemporaryTableHidesTheOtherFromTheConnectionThatIsHeld: pgx goes on reading the other.
func TestATemporaryTableHidesTheOtherFromTheConnectionThatIsHeld(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	mustExec(t, openPool(t, oneConn(dsn)), "create table t (a text); insert into t values ('hidden')")
	read := func(db *sql.DB) string {
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		mustExec(t, conn, "create temp table other (a text)") // the first one is a change of search_path to the server
		for range 2 {
			assert.Equal(t, "hidden", get[string](t, conn, "select a from t"))
		}
		mustExec(t, conn, "create temp table t (a text); insert into t values ('seen')")
		return get[string](t, conn, "select a from t")
	}
	assert.Equal(t, "hidden", read(openPgx(t, dsn)), "what pgx reads")
	assert.Equal(t, "seen", read(openPool(t, oneConn(dsn))))
}

// TestATransactionThatHasChangedNothingUsesThePreparedStatements, and so does the one after a change.
func TestATransactionThatHasChangedNothingUsesThePreparedStatements(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, oneConn(proxy.DSN()))
	mustExec(t, db, "create schema s")
	parsed := func(first string, args ...any) (n int) {
		require.NoError(t, inTransaction(t, db, func(tx *sql.Tx) error {
			_, err := tx.Exec(first, args...)
			require.NoError(t, err)
			get[int](t, tx, "select $1::int", 1)
			proxy.Reset()
			get[int](t, tx, "select $1::int", 2)
			n = proxy.Stats().Messages['P']
			return nil
		}))
		return n
	}
	for _, nothing := range []string{"set local statement_timeout = 1000", "select set_config('app.tenant', 'A', true)",
		"savepoint s", "lock table pg_class in access share mode", "select 'into', 'create', 'set_config'"} {
		assert.Zero(t, parsed(nothing), nothing)
	}
	assert.Zero(t, parsed("select set_config($1, 'A', true)", "app.tenant"))
	for _, change := range []string{"set local search_path = s", "create table t (a int)"} {
		assert.Equal(t, 1, parsed(change), change)
		assert.Zero(t, parsed("select 1"), "after "+change)
	}
}

// TestATransactionIsBegunAgainIfItsPlansAreOutdated: nobody told the pool of the change. One attempt in vain is enough
// for all statements and all connections.
func TestATransactionIsBegunAgainIfItsPlansAreOutdated(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	other, db := openPool(t, oneConn(dsn)), openPool(t, with(dsn, "pool_size", "3", "max_overflow", "0"))
	mustExec(t, other, "create table t (a int)")
	queries := []string{"select * from t", "select * from t where true", "select t.* from t", "select *, 1 from t", "select *, 2 from t"}
	fill(t, db, 3)
	var conns []*sql.Conn
	for range 3 {
		conns = append(conns, hold(t, db))
	}
	for _, conn := range conns {
		for _, query := range queries {
			_, err := columnsOf(conn, query)
			require.NoError(t, err)
		}
	}
	for _, conn := range conns {
		require.NoError(t, conn.Close())
	}
	mustExec(t, other, "alter table t add b int")

	calls := 0
	readAll := func(tx *sql.Tx) error {
		calls++
		for _, query := range queries {
			if _, err := columnsOf(tx, query); err != nil {
				return fmt.Errorf("wrapped: %w", err)
			}
		}
		return nil
	}
	require.NoError(t, pgprod.InTx(t.Context(), db, readAll))
	assert.Equal(t, 2, calls)
	for range 3 {
		tx, err := db.Begin()
		require.NoError(t, err)
		defer func() { _ = tx.Rollback() }()
		require.NoError(t, readAll(tx))
	}
}

// TestATransactionAfterAChangeByThePoolIsNotOutdated, where pgx returns the server's refusal.
func TestATransactionAfterAChangeByThePoolIsNotOutdated(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	ours, theirs := openPool(t, oneConn(dsn)), openPgx(t, dsn)
	theirs.SetMaxOpenConns(1)
	run := func(db *sql.DB, change func(string)) error {
		mustExec(t, db, "drop table if exists t; create table t (a int)")
		prepared := prepare(t, db, "select * from t where true")
		for _, sql := range []string{"alter table t add b int", "alter table t drop b", "drop table t; create table t (a text)"} {
			if _, err := columnsOf(db, "select * from t"); err != nil {
				return err
			}
			change(sql)
			tx, err := db.Begin()
			require.NoError(t, err)
			defer func() { _ = tx.Rollback() }()
			rows, err := tx.Stmt(prepared).Query()
			if err != nil {
				return err
			}
			require.NoError(t, rows.Close())
			if _, err := columnsOf(tx, "select * from t"); err != nil {
				return err
			}
			require.NoError(t, tx.Commit())
		}
		return nil
	}
	alone := func(db *sql.DB) func(string) { return func(sql string) { mustExec(t, db, sql) } }
	inTx := func(db *sql.DB) func(string) {
		return func(sql string) {
			tx, err := db.Begin()
			require.NoError(t, err)
			mustExec(t, tx, sql)
			require.NoError(t, tx.Commit())
		}
	}
	assert.Error(t, run(theirs, alone(theirs)), "what pgx does")
	require.NoError(t, run(ours, alone(ours)))
	require.NoError(t, run(ours, inTx(ours)))
}

func TestTemporaryTablesMakeNobodyElsePrepareAnew(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, with(proxy.DSN(), "pool_size", "2", "max_overflow", "0"))
	conn, other := hold(t, db), hold(t, db)
	get[int](t, other, "select $1::int", 1)
	mustExec(t, conn, "create temp table t (a int)")
	mustExec(t, conn, "drop table t")
	proxy.Reset()
	tx, err := other.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	get[int](t, tx, "select $1::int", 1)
	require.NoError(t, tx.Rollback())
	assert.Equal(t, 2, proxy.Stats().RoundTrips)
	assert.Equal(t, 1, proxy.Stats().Messages['P'], "BEGIN's, which travels with the statement")
}

// insertOf is an insert of so many rows of 20 parameters each, with its arguments.
func insertOf(rows int) (string, []any) {
	var b strings.Builder
	b.WriteString("insert into wide values ")
	args := make([]any, 0, rows*20)
	for row := range rows {
		if row > 0 {
			b.WriteString(", ")
		}
		for column := range 20 {
			b.WriteString([]string{"(", ", "}[min(column, 1)])
			args = append(args, column)
			fmt.Fprintf(&b, "$%d", len(args))
		}
		b.WriteString(")")
	}
	return b.String(), args
}

// wide is a table of 20 columns.
func wide() string {
	var columns []string
	for n := range 20 {
		columns = append(columns, fmt.Sprintf("c%d int", n))
	}
	return "create table wide (" + strings.Join(columns, ", ") + ")"
}

// TestLongTextsDoNotStayPrepared: of inserts of one to 600 rows the server would keep half a gigabyte per connection.
func TestLongTextsDoNotStayPrepared(t *testing.T) {
	t.Parallel()
	const longest = 8 << 10 // what is kept
	for _, mode := range []string{"cache_statement", "cache_describe"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			db := openPool(t, oneConn(pgtest.NewDatabase(t), "default_query_exec_mode", mode))
			mustExec(t, db, wide())
			rows := 0
			for n := 1; n <= 600; n += 1 + n/20 {
				text, args := insertOf(n)
				mustExec(t, db, text, args...)
				_, err := prepare(t, db, text).Exec(args...)
				require.NoError(t, err)
				rows += 2 * n
			}
			assert.Equal(t, rows, get[int](t, db, "select count(*) from wide"))
			assert.Less(t, get[int](t, db, "select coalesce(max(length(statement)), 0) from pg_prepared_statements",
				pgx.QueryExecModeSimpleProtocol), longest)
			assert.Equal(t, mode == "cache_statement", preparedOn(t, db) > 0, "short ones are kept")
		})
	}
}

// TestALongTextIsSentWithTheSameTypes: it is described anew, and neither its arguments nor its results are others.
func TestALongTextIsSentWithTheSameTypes(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	when := time.Date(2020, 2, 3, 4, 5, 6, 7000, time.FixedZone("", 7200))
	const query = "select $1::timestamp, $2::timestamptz, $3::bytea, $4::text[], $5::jsonb, $6::numeric, $7::bigint, null::int, $8::bool"
	read := func(query string) []any {
		values, into := make([]any, 9), make([]any, 9)
		for i := range values {
			into[i] = &values[i]
		}
		require.NoError(t, db.QueryRow(query, when, when, []byte{0, 255}, []string{"a", "b"}, map[string]int{"a": 1}, "1.50", 1<<40, true).
			Scan(into...))
		return values
	}
	assert.Equal(t, read(query), read(query+" -- "+strings.Repeat("long ", 2000)))
}

// TestAnOldestStatementThatStaysFailsNoOther: it was to make room for the new one, which is prepared.
func TestAnOldestStatementThatStaysFailsNoOther(t *testing.T) {
	t.Parallel()
	spans := newTracing(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	armed := false
	spans.provider.RegisterSpanProcessor(onEnd(func(name string) {
		if armed && strings.HasPrefix(name, "PREPARE") {
			cancel()
		}
	}))
	db := openPool(t, oneConn(pgtest.NewDatabase(t)), pgprod.WithTracerProvider(spans.provider))
	for n := range 64 {
		prepare(t, db, fmt.Sprintf("select %d", n))
	}
	armed = true
	st, err := db.PrepareContext(ctx, "select 64")
	require.NoError(t, err)
	require.ErrorIs(t, ctx.Err(), context.Canceled, "after it was prepared")
	require.NoError(t, st.Close())
	armed = false
	prepare(t, db, "select 65")
	assert.Equal(t, 64, preparedOn(t, db))
}

// onEnd is told of the names of spans that have ended.
type onEnd func(name string)

func (onEnd) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (f onEnd) OnEnd(s sdktrace.ReadOnlySpan)                 { f(s.Name()) }
func (onEnd) Shutdown(context.Context) error                  { return nil }
func (onEnd) ForceFlush(context.Context) error                { return nil }

// TestALongTextIsParsedWhereItIsExecuted: behind a pooler, what is parsed in one round trip may be another client's in
// the next.
func TestALongTextIsParsedWhereItIsExecuted(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	for _, mode := range []string{"cache_statement", "cache_describe"} {
		db := openPool(t, oneConn(proxy.DSN(), "default_query_exec_mode", mode))
		query := "select $1::text -- " + strings.Repeat("long ", 2000)
		require.NoError(t, db.Ping())
		for _, trips := range []int{2, 1, 1} { // once to describe it
			proxy.Reset()
			assert.Equal(t, "x", get[string](t, db, query, "x"))
			assert.Equal(t, trips, proxy.Stats().RoundTrips, mode)
			assert.Equal(t, trips, proxy.Stats().Messages['P'], mode)
		}
	}
}

// TestAnArgumentForAnOutdatedTypeCostsATransactionNothing: nothing was sent, so that the transaction lives on.
func TestAnArgumentForAnOutdatedTypeCostsATransactionNothing(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	db, other := openPool(t, oneConn(dsn)), openPool(t, oneConn(dsn))
	mustExec(t, other, "create table t (a int)")
	const insert = "insert into t values ($1)"
	mustExec(t, db, insert, 1)
	mustExec(t, other, "alter table t alter a type bigint")
	calls := 0
	require.NoError(t, pgprod.InTx(t.Context(), db, func(tx *sql.Tx) error {
		calls++
		_, err := tx.Exec(insert, 1<<40)
		return err
	}))
	assert.Equal(t, 1, calls)
	err := pgprod.InTx(t.Context(), db, func(tx *sql.Tx) error {
		calls++
		_, err := tx.Exec(insert, "no number")
		return err
	})
	assert.Equal(t, "22P02", sqlState(err))
	assert.Equal(t, 2, calls, "what never fits is told at once")
	_, err = db.Exec(insert, "no number")
	assert.Equal(t, "22P02", sqlState(err))
	_, err = db.Exec(insert, struct{}{})
	assert.ErrorContains(t, err, "encode")
}

// TestAnArgumentThatNoTypeTakesIsToldUnderAContextThatHasEndedToo: preparing anew, in case the type has changed, would fail
// with the context, and hide the reason.
func TestAnArgumentThatNoTypeTakesIsToldUnderAContextThatHasEndedToo(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var said []string
	for _, db := range []*sql.DB{openPgx(t, dsn), openPool(t, dsn)} {
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		stmt, err := conn.PrepareContext(t.Context(), "select $1::int")
		require.NoError(t, err)
		_, err = stmt.ExecContext(ended, int64(math.MaxInt64))
		require.Error(t, err)
		said = append(said, err.Error())
		require.NoError(t, stmt.Close())
		require.NoError(t, conn.Close())
	}
	assert.Equal(t, said[0], said[1])
}
