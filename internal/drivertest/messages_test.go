package drivertest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// witness is a pool, and all that it tells anybody but the caller.
type witness struct {
	db      *sql.DB
	log     logged
	tracing *tracing
	metrics *metering
}

func newWitness(t testing.TB, dsn string) *witness {
	t.Helper()
	w := &witness{tracing: newTracing(t), metrics: newMetering(t)}
	w.db = openPool(t, with(dsn, "slow_query", "1us", "echo", "on", "echo_pool", "on", "pool_name", t.Name()), w.log.option(slog.LevelDebug),
		pgprod.WithTracerProvider(w.tracing.provider), pgprod.WithMeterProvider(w.metrics.provider))
	return w
}

// told is all that was told so far: log, spans, metrics and the live page.
func (w *witness) told(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, s := range w.tracing.Ended() {
		fmt.Fprintln(&b, s.Name(), s.Status(), s.Events(), s.Attributes(), s.Links())
	}
	handler := pgprod.DebugHandler(w.db)
	fmt.Fprintln(&b, w.metrics.collect(t), w.log.buffer.String(), page(t, handler, "/"), page(t, handler, "/?format=json"))
	return html.UnescapeString(b.String())
}

// secretText and secretNumber are values that nothing else looks like.
const (
	secretText   = "s3cretvalue"
	secretNumber = 2071147114
)

// tellingOfText are statements whose errors or warnings quote their first parameter, a text, one a line.
const tellingOfText = `
	select $1::text::int
	select $1::text::regclass
	select $1::text::regtype
	select ($1::text || '[')::regtype
	select $1::text::regrole
	select $1::text::regproc
	select ($1::text || '(int)')::regprocedure
	select ('pg_typeof(' || $1::text || ')')::regprocedure
	select $1::text::regoper
	select ('+(' || $1::text || ',int)')::regoperator
	select $1::text::regnamespace
	select $1::text::regconfig
	select $1::text::regdictionary
	select $1::text::regcollation
	select pg_database_size($1::text)
	select pg_tablespace_size($1::text)
	select pg_total_relation_size($1::text::regclass)
	select pg_has_role($1::text, 'usage')
	select pg_has_role('postgres', $1::text)
	select has_schema_privilege($1::text, 'usage')
	select has_database_privilege($1::text, 'connect')
	select has_table_privilege($1::text, 'select')
	select has_table_privilege($1::text, 'pg_class', 'select')
	select has_table_privilege('pg_class', $1::text)
	select has_column_privilege('pg_class', $1::text, 'select')
	select has_function_privilege($1::text, 'execute')
	select has_type_privilege($1::text, 'usage')
	select has_language_privilege($1::text, 'usage')
	select has_sequence_privilege($1::text, 'usage')
	select has_server_privilege($1::text, 'usage')
	select has_foreign_data_wrapper_privilege($1::text, 'usage')
	select has_tablespace_privilege($1::text, 'create')
	select has_parameter_privilege($1::text, 'set')
	select pg_read_file($1::text)
	select pg_read_binary_file($1::text)
	select pg_stat_file($1::text)
	select pg_ls_dir($1::text)
	select lo_import($1::text)
	select convert_from('a'::bytea, $1::text)
	select convert_to('a', $1::text)
	select convert('a'::bytea, $1::text, 'utf8')
	select nextval($1::text)
	select currval($1::text)
	select setval($1::text, 1)
	select set_config($1::text, 'x', false)
	select set_config('work_mem', $1::text, false)
	select set_config('jit', $1::text, false)
	select set_config('role', $1::text, false)
	select set_config('session_authorization', $1::text, false)
	select set_config('timezone', $1::text, false)
	select set_config('datestyle', $1::text, false)
	select set_config('client_encoding', $1::text, false)
	select set_config('default_tablespace', $1::text, false)
	select set_config('temp_tablespaces', $1::text, false)
	select set_config('default_text_search_config', $1::text, false)
	select set_config('lc_messages', $1::text, false)
	select set_config('statement_timeout', $1::text, false)
	select set_config('transaction_isolation', $1::text, false)
	select set_config('session_preload_libraries', $1::text, false)
	select set_config('port', $1::text, false)
	select current_setting($1::text)
	select date_trunc($1::text, now())
	select date_part($1::text, now())
	select date_part($1::text, interval '1 day')
	select now() at time zone $1::text
	select timezone($1::text, now())
	select make_timestamptz(2020, 1, 1, 1, 1, 1, $1::text)
	select to_timestamp($1::text, 'YYYY')
	select to_date($1::text, 'YYYY-MM-DD')
	select to_number($1::text, '9')
	select to_char(1, $1::text || 'EEEE9')
	select encode('a'::bytea, $1::text)
	select decode($1::text, 'hex')
	select decode($1::text, 'base64')
	select decode($1::text, 'escape')
	select format('%' || $1::text, 1)
	select format('%1$' || $1::text)
	select regexp_match('a', '(' || $1::text)
	select regexp_replace('a', 'b', 'c', $1::text)
	select regexp_split_to_array('a', '[' || $1::text)
	select 'a' like 'b' escape $1::text
	select 'a' similar to 'b' escape $1::text
	select $1::text::jsonb
	select $1::text::json -> 'a'
	select jsonb_path_query('{}', $1::text::jsonpath)
	select jsonb_path_query('{}', ('strict $.' || $1::text)::jsonpath)
	select jsonb_path_query('{}', ('$.' || $1::text || '(')::jsonpath)
	select jsonb_path_query(to_jsonb($1::text), '$.double()')
	select jsonb_path_query(to_jsonb($1::text), '$.datetime()')
	select jsonb_set('[1]', array[$1::text], '2')
	select jsonb_insert('[1]', array[$1::text], '2')
	select '[1]'::jsonb #- array[$1::text]
	select (to_jsonb($1::text))::int
	select * from json_to_recordset($1::text::json) as x(a int)
	select json_object(array[$1::text])
	select json_populate_record(null::t, json_build_object('n', $1::text))
	select ('<' || $1::text)::xml
	select xpath($1::text || '[', '<a/>')
	select xmlparse(document $1::text)
	select $1::text::uuid
	select $1::text::inet
	select $1::text::cidr
	select $1::text::macaddr
	select $1::text::point
	select $1::text::circle
	select $1::text::bit(3)
	select $1::text::int4range
	select $1::text::int[]
	select ('{' || $1::text)::text[]
	select ('(' || $1::text)::t
	select ($1::text || ' & |')::tsquery
	select ('''' || $1::text)::tsvector
	select to_tsquery($1::text || ' & |')
	select to_tsvector($1::text::regconfig, 'a')
	select ts_lexize($1::text::regdictionary, 'a')
	select ts_stat($1::text)
	select setweight('a'::tsvector, $1::text::"char")
	select $1::text::interval
	select $1::text::timestamp
	select $1::text::date
	select $1::text::time
	select $1::text::boolean
	select $1::text::numeric
	select $1::text::real
	select $1::text::bytea || ('\x' || $1::text)::bytea
	select $1::text::money
	select $1::text::oid
	select $1::text::xid
	select $1::text::pg_lsn
	select $1::text::tid
	select $1::text::mood
	select $1::text::positive
	select $1::text::name::regclass
	select pg_get_serial_sequence('t', $1::text)
	select pg_get_serial_sequence($1::text, 'n')
	select pg_get_viewdef($1::text)
	select query_to_xml($1::text, true, true, '')
	select query_to_xml('select * from ' || $1::text, true, true, '')
	select cursor_to_xml($1::text::refcursor, 1, true, true, '')
	select table_to_xml($1::text::regclass, true, true, '')
	select schema_to_xml($1::text, true, true, '')
	select pg_notify(repeat($1::text, 100), 'x')
	select pg_notify('x', repeat($1::text, 1000))
	select pg_create_physical_replication_slot($1::text || '-UPPER')
	select pg_create_logical_replication_slot('x', $1::text)
	select pg_drop_replication_slot($1::text)
	select pg_replication_slot_advance($1::text, '0/1')
	select pg_replication_origin_drop($1::text)
	select pg_replication_origin_progress($1::text, true)
	select pg_logical_slot_get_changes($1::text, null, null)
	select pg_rotate_logfile(), pg_read_file('/' || $1::text)
	select pg_create_restore_point(repeat($1::text, 500))
	select pg_stat_get_replication_slot($1::text)
	select pg_import_system_collations($1::text::regnamespace)
	select pg_size_bytes($1::text)
	select pg_settings_get_flags($1::text), $1::text::regrole
	select string_to_array('a', 'b')::int[] || $1::text::int
	select normalize('a', nfc) || $1::text::int
	select parse_ident($1::text || '."')
	select quote_ident($1::text)::regclass
	select 'a'::text collate "C" = any($1::text::text[])
	insert into t (n, name) values (1, $1::text)
	insert into t (n, name) select 1, $1::text
	insert into t (short) values ($1::text)
	insert into t (n) values (length($1::text)), (-length($1::text))
	insert into t (parent) values ($1::text)
	insert into t (required, name) values (null, $1::text)
	insert into t (name, span) values ($1::text || '1', '[1,5)')
	update t set name = $1::text
	delete from parents where id = any(array[$1::text, 'used'])
	select raising($1::text)
	select raising_using($1::text)
	select raising_names($1::text)
	select raising_read_only($1::text)
	select raising_class($1::text)
	select raising_known($1::text)
	select warning($1::text)
	select asserting($1::text)
	select executing($1::text)
	select executing('select * from ' || $1::text)
	select executing('select ' || $1::text || '(1)')
	select executing('select 1 as a where ' || $1::text)
	select executing('select ''' || $1::text)
	select executing('drop table ' || $1::text)
	select executing('set role ' || $1::text)
	select executing('set ' || $1::text || ' = 1')
	select executing('copy t from ''/' || $1::text || '''')
	select executing('create table t (' || $1::text || ' int)')
	select casting($1::text)
	select stricter($1::text)
	set work_mem = $1
	set role $1
	set search_path to s3cretvalue, 's3cretvalue'
	set timezone to s3cretvalue
	set work_mem to s3cretvalue
	set transaction_isolation to s3cretvalue
	set session authorization $1
	set timezone = $1
	set datestyle = $1
	alter role postgres valid until $1
	copy t from $1
	copy t to $1
	comment on table $1 is 'x'
	prepare transaction $1
	commit prepared $1
	execute $1
	listen $1
	load $1
	select $1 from $1
	select $1 $1
	select * from $1
	set transaction snapshot $1
	create database $1
	create role $1
`

// tellingOfNumber are the same for a number.
const tellingOfNumber = `
	select chr($1::int)
	select chr(-$1::int)
	select $1::int::int2
	select $1::int * $1::int
	select ($1::numeric)::numeric(3)
	select lo_get($1::oid)
	select lo_open($1::int, 1)
	select lo_unlink($1::oid)
	select lo_lseek($1::int, 1, 1)
	select get_byte('x', $1::int)
	select set_byte('x', $1::int, 1)
	select get_bit('x', $1::int)
	select setseed($1::int)
	select percentile_cont($1::float8) within group (order by 1)
	select make_date(2020, 13, $1::int)
	select make_date($1::int, 1, 1)
	select make_time(1, 1, $1::int)
	select make_timestamp($1::int, 1, 1, 1, 1, 1)
	select make_interval(years => $1::int)
	select to_timestamp($1::float8 * 1e20)
	select repeat('x', $1::int)
	select lpad('x', $1::int)
	select array_fill(1, array[$1::int])
	select substring('x', 1, -$1::int)
	select split_part('x', 'y', $1::int - $1::int)
	select factorial($1::int)
	select sqrt(-$1::int)
	select power(-$1::int, 0.5)
	select exp($1::numeric)
	select width_bucket($1::int, 1, 1, 1)
	select pg_terminate_backend($1::int)
	select pg_cancel_backend($1::int)
	select pg_log_backend_memory_contexts($1::int)
	select pg_advisory_unlock($1::int)
	select pg_sleep(0), txid_status($1::bigint)
	select pg_get_indexdef($1::oid)::int
	select pg_relation_size($1::oid)::text::name::regclass
	select nth_value(1, -$1::int) over ()
	select generate_series(1, 2, $1::int - $1::int)
	select * from t limit -$1::int
	select * from t offset -$1::int
	select trim_scale($1::numeric)::int2
	select jsonb_path_query(to_jsonb($1::bigint), '$.datetime()')
	select to_jsonb($1::bigint)::boolean
	select '1'::jsonb - $1::int
	select pg_lsn(-$1::numeric)
	select bit_count($1::int::bit(32))::bit(3)::int / 0, overlay('a' placing 'b' from -$1::int)
	select pg_ls_dir($1::text)
	select format('%' || $1::text || '$s', 1)
	select (array[1])[$1::int] / 0
	select ntile(-$1::int) over ()
	select regexp_count('a', 'b', -$1::int)
	insert into t (n) values (-$1::int)
	insert into t (n) values ($1::bigint * 100)
	select raising($1::text)
	select raising_using($1::text)
	select setval('s', -$1::int)
	select setval('s', -$1::bigint * 100)
	select currtid2('t', ('(' || $1::text || ',1)')::tid)
	select * from t where n = $1::text
	set work_mem = $1
	set statement_timeout = $1
	select 1 $1
	alter sequence s restart $1
`

// schemaOfSecrets is what the statements need.
const schemaOfSecrets = `
	create type mood as enum ('sad');
	create domain positive as text check (length(value) < 3);
	create sequence s maxvalue 10;
	create table parents (id text primary key);
	insert into parents values ('used');
	create table t (n int check (n >= 0), name text unique, short varchar(3), parent text references parents, required int not null default 1,
		span int4range, exclude using gist (span with &&));
	insert into t (n, name, span) values (1, 's3cretvalue', '[1,9)');
	insert into t (parent) values ('used'), ('used');
	create function raising(x text) returns int language plpgsql as $$begin raise exception 'no %', x; end$$;
	create function raising_using(x text) returns int language plpgsql as
		$$begin raise using message = x, detail = x, hint = x, errcode = '23505', constraint = x, table = x, column = x; end$$;
	create function raising_names(x text) returns int language plpgsql as
		$$begin raise exception 'duplicate key value violates unique constraint "%"', x using errcode = '23505', constraint = x; end$$;
	create function raising_read_only(x text) returns int language plpgsql as
		$$begin raise exception 'cannot execute % in a read-only transaction', x using errcode = '25006'; end$$;
	create function raising_class(x text) returns int language plpgsql as $$begin raise exception '%', x using errcode = '57P01'; end$$;
	create function raising_known(x text) returns int language plpgsql as
		$$begin raise exception 'relation "%" does not exist', x using errcode = 'undefined_table'; end$$;
	create function warning(x text) returns int language plpgsql as $$begin raise warning '%', x; return 1; end$$;
	create function asserting(x text) returns int language plpgsql as $$begin assert false, x; end$$;
	create function executing(x text) returns int language plpgsql as $$begin execute x; return 1; end$$;
	create function casting(x text) returns int language plpgsql as $$begin return x; end$$;
	create function stricter(x text) returns int language plpgsql as $$declare r record; begin select * into strict r from t where name = x || 'y'; end$$;
`

// wayOut are the ways in which a statement with a parameter reaches the server.
var wayOut = map[string]func(db *sql.DB, query string, arg any) error{
	"Exec":  func(db *sql.DB, query string, arg any) error { _, err := db.Exec(query, arg); return err },
	"Query": func(db *sql.DB, query string, arg any) error { return drained(db.Query(query, arg)) },
	"Stmt": func(db *sql.DB, query string, arg any) error {
		st, err := db.Prepare(query)
		if err != nil {
			return err
		}
		_, err = st.Exec(arg)
		return errors.Join(err, st.Close())
	},
	"Tx": func(db *sql.DB, query string, arg any) error {
		tx, err := db.Begin()
		if err != nil {
			return err
		}
		_, err = tx.Exec(query, arg)
		_, _ = tx.Exec("select 1")
		return errors.Join(err, tx.Rollback())
	},
	"Raw": func(db *sql.DB, query string, arg any) error {
		return pgprod.Raw(context.Background(), db, func(conn *pgx.Conn) error {
			b := &pgx.Batch{}
			b.Queue(query, arg)
			return conn.SendBatch(context.Background(), b).Close()
		})
	},
	"named": func(db *sql.DB, query string, arg any) error {
		_, err := db.Exec(strings.ReplaceAll(query, "$1", "@value"), pgx.NamedArgs{"value": arg})
		return err
	},
}

func TestNoParameterIsInWhatIsToldOfAServersMessage(t *testing.T) {
	t.Parallel()
	for _, mode := range eachExecMode {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w := newWitness(t, with(pgtest.NewDatabase(t), "default_query_exec_mode", mode))
			mustExec(t, w.db, schemaOfSecrets)
			w.tracing.Reset()
			failed, quoted := 0, 0
			for way, send := range wayOut {
				if way != "Exec" && mode != "cache_statement" && mode != "simple_protocol" {
					continue // what differs between the others is how the server hears of a statement
				}
				for _, set := range []struct {
					queries string
					arg     any
				}{{tellingOfText, secretText}, {tellingOfNumber, secretNumber}, {tellingOfNumber, fmt.Sprint(secretNumber)}} {
					for query := range strings.Lines(strings.TrimSpace(set.queries)) {
						err := send(w.db, strings.TrimSpace(query), set.arg)
						if err == nil {
							continue
						}
						failed++
						if strings.Contains(err.Error(), fmt.Sprint(set.arg)) {
							quoted++
						}
					}
				}
				told := w.told(t)
				told = strings.ReplaceAll(told, "insert into t (n, name, span) values (1, 's3cretvalue'", "")
				for _, secret := range []string{secretText, strings.ToUpper(secretText), fmt.Sprint(secretNumber)} {
					if at := strings.Index(told, secret); at >= 0 {
						t.Fatalf("%s: …%s…", way, told[max(0, at-300):min(len(told), at+200)])
					}
				}
			}
			t.Logf("%d failed, of which the caller's error quotes the value in %d", failed, quoted)
			assert.Greater(t, quoted, 100, "else this tests nothing")
		})
	}
}

// TestWhatHelpsWhoIsOnCallIsReadable has a parameter in each statement that the server could quote.
func TestWhatHelpsWhoIsOnCallIsReadable(t *testing.T) {
	t.Parallel()
	for _, mode := range eachExecMode {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w := newWitness(t, with(pgtest.NewDatabase(t), "default_query_exec_mode", mode))
			mustExec(t, w.db, `create table parents (id int primary key);
				create table t (n int, name text not null, parent int references parents deferrable, constraint positive check (n > 0),
					constraint one_name unique (name)); create view v as select count(*) from t;
				create function broken() returns int language sql as 'select 1/0'`)
			mustExec(t, w.db, "insert into t values (1, 's3cret')")
			for query, message := range map[string]string{
				"select 1/length($1) - 1/(length($1) - 6)":       "division by zero",
				"select * from missing where a = $1":             `relation "missing" does not exist`,
				"select * from nowhere.Missing where a = $1":     `relation "nowhere.missing" does not exist`,
				"select nme from t where name = $1":              `column "nme" does not exist`,
				"select x.nme from t x where name = $1":          "column x.nme does not exist",
				"update t set nme = $1":                          `column "nme" of relation "t" does not exist`,
				"select other.a from t where name = $1":          `missing FROM-clause entry for table "other"`,
				"select n from t, t as u where t.name = $1":      `column reference "n" is ambiguous`,
				"select lenth($1::text)":                         "function lenth(text) does not exist",
				"select n = $1::text from t":                     "operator does not exist: integer = text",
				"select $1::nosuchtype":                          `type "nosuchtype" does not exist`,
				"selct $1":                                       `syntax error at or near "selct"`,
				"select $1 from":                                 "syntax error at end of input",
				"select ($1::text))":                             `syntax error at or near ")"`,
				"select $1::text group by having":                `syntax error at or near "having"`,
				"insert into t (n) values ($1, 2)":               "INSERT has more expressions than target columns",
				"select $1::text::int":                           `invalid input syntax for type integer: "…"`,
				"select $1::text::timestamptz":                   `invalid input syntax for type timestamp with time zone: "…"`,
				"insert into t (n) select length($1)":            `null value in column "name" of relation "t" violates not-null constraint`,
				"insert into t (name) values ($1)":               `duplicate key value violates unique constraint "one_name"`,
				"insert into t values (-length($1), 'x')":        `new row for relation "t" violates check constraint "positive"`,
				"insert into t values (1, 'x', length($1))":      `insert or update on table "t" violates foreign key constraint "t_parent_fkey"`,
				"update t set name = (select $1 from pg_class)":  "more than one row returned by a subquery used as an expression",
				"insert into v select length($1)":                `cannot insert into view "v"`,
				"select broken(), $1::text":                      "division by zero",
				"select set_config('no such', $1, false)":        `unrecognized configuration parameter "…"`,
				"select t.name, count(*) from t where name = $1": `column "t.name" must appear in the GROUP BY clause or be used in an aggregate function`,
			} {
				_, err := w.db.Exec(query, "s3cret")
				if assert.Error(t, err, query) {
					w.assertSaid(t, query, message)
				}
			}
		})
	}
}

// assertSaid looks for a message in the last failure's line of log, and in its span.
func (w *witness) assertSaid(t *testing.T, query, message string) {
	t.Helper()
	lines := w.log.lines(t, "pgprod: statement failed")
	if assert.NotEmpty(t, lines, query) {
		assert.Equal(t, message, lines[len(lines)-1]["error_message"], query)
	}
	spans := w.tracing.Ended()
	assert.Equal(t, message, spans[len(spans)-1].Status().Description, query)
}

func TestWhatTheServerSaysOfTransactionsAndRightsIsReadable(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	w := newWitness(t, dsn)
	mustExec(t, w.db, "create table t (n int); insert into t values (1); drop role if exists "+role(t)+"; create role "+role(t)+"; create schema hidden")
	other := hold(t, openPool(t, dsn))
	for name, c := range map[string]struct {
		before []string // on the connection
		query  string
		want   string
	}{
		"a failed transaction":   {[]string{"begin", "select 1/0"}, "select 1", "current transaction is aborted, commands ignored until end of transaction block"},
		"a read-only one":        {[]string{"begin read only"}, "insert into t values (1)", "cannot execute INSERT in a read-only transaction"},
		"vacuum in one":          {[]string{"begin"}, "vacuum t", "VACUUM cannot run inside a transaction block"},
		"rights on a table":      {[]string{"set role " + role(t)}, "select * from t", "permission denied for table t"},
		"rights on a schema":     {[]string{"set role " + role(t)}, "select * from hidden.x", "permission denied for schema hidden"},
		"an owner's right":       {[]string{"set role " + role(t)}, "drop table t", "must be owner of table t"},
		"a lock's timeout":       {[]string{"set lock_timeout = '10ms'"}, "update t set n = 2", "canceling statement due to lock timeout"},
		"no wait for a lock":     {nil, "select * from t for update nowait", `could not obtain lock on row in relation "t"`},
		"an ended session":       {nil, "select pg_terminate_backend(pg_backend_pid())", "terminating connection due to administrator command"},
		"the server's own limit": {[]string{"set statement_timeout = '10ms'"}, "select pg_sleep(60)", "canceling statement due to statement timeout"},
	} {
		mustExec(t, other, "begin; update t set n = 1")
		conn, err := w.db.Conn(t.Context())
		require.NoError(t, err)
		for _, query := range c.before {
			_, _ = conn.ExecContext(t.Context(), query)
		}
		_, err = conn.ExecContext(t.Context(), c.query)
		require.Error(t, err, name)
		if name == "the server's own limit" {
			assert.Contains(t, w.log.buffer.String(), "statement_timeout", name)
		} else {
			w.assertSaid(t, name, c.want)
		}
		mustExec(t, other, "rollback")
		_ = conn.Close() // the session may be gone
	}
}

func TestASerializationFailureIsReadable(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	w := newWitness(t, dsn)
	mustExec(t, w.db, "create table t (n int); insert into t values (1)")
	tx, err := w.db.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	require.NoError(t, err)
	require.Equal(t, 1, get[int](t, tx, "select n from t"))
	mustExec(t, openPool(t, dsn), "update t set n = 2")
	_, err = tx.Exec("update t set n = 3")
	require.Error(t, err)
	w.assertSaid(t, "update", "could not serialize access due to concurrent update")
	require.NoError(t, tx.Rollback())
}

// role is the name of a role that only this test has; roles are the whole server's.
func role(t testing.TB) string { return strings.ToLower(t.Name()) }

// TestAFunctionThatRaisesReadOnlyPutsNoValueIntoThePoolsLog: it is taken for a demoted server's word, whose message is told.
func TestAFunctionThatRaisesReadOnlyPutsNoValueIntoThePoolsLog(t *testing.T) {
	t.Parallel()
	w := newWitness(t, with(pgtest.NewDatabase(t), "target_session_attrs", "read-write"))
	mustExec(t, w.db, `create function raising(x text) returns int language plpgsql as $$begin raise '%', x using errcode = '25006'; end$$`)
	conn := hold(t, w.db)
	mustExec(t, conn, "set default_transaction_read_only = on") // so that the server doesn't say that it takes writes
	_, err := conn.ExecContext(t.Context(), "select raising($1)", secretText)
	require.Equal(t, "25006", sqlState(err))
	require.NoError(t, conn.Close())
	assert.NotEmpty(t, w.log.lines(t, "idle ones are replaced"))
	assert.NotContains(t, w.told(t), secretText)
}
