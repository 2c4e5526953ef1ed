package drivertest

import (
	"context"
	"database/sql"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
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

// TestWhatFailsInTheMiddleOfItsExecutionIsNotSentAgain: with the same codes as a refusal, at each place where the server may
// find an error after it has begun to execute. A sequence counts, which no rollback takes back.
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
