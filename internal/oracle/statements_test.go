package oracle

import (
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
)

// A statement is a text, and lists of arguments that may go with it.
type statement struct {
	text   string
	args   [][]any // nil: it takes none
	leaves bool    // something in the session, which the next borrower of the connection might find
	schema bool    // it may change the schema
}

// arguments is the list of a number, whatever the number is.
func (s statement) arguments(variant int) []any {
	if len(s.args) == 0 {
		return nil
	}
	return s.args[variant%len(s.args)]
}

// contents makes what every program begins with.
const contents = `
	drop schema if exists public, other cascade;
	create schema public;
	create schema other;
	create type mood as enum ('sad', 'ok');
	create domain small as int check (value < 100);
	create type pair as (a int, b text);
	create table item (id int primary key, n int not null check (n < 1000), t text unique, m mood, d small);
	create table ref (id int primary key, item int references item deferrable initially deferred);
	create table shared (n int);
	create table other.item (id int, x text);
	create function complain(word text) returns int language plpgsql as $$
		begin raise exception 'complaint: %', word using detail = 'in detail', hint = 'a hint', errcode = 'P0042'; end $$;
	create function warn(word text) returns int language plpgsql as $$
		begin raise warning 'warning: %', word; return 1; end $$;
	` + rows

// refill is the cheaper way, where the schema has not changed.
const refill = `truncate item, ref, shared, other.item;` + rows

const rows = `
	insert into item select i, i * 10, 'x' || i, 'ok', i from generate_series(1, 5) i;
	insert into item values (6, 60, null, null, null);
	insert into ref values (1, 1), (2, null);
	insert into other.item values (1, 'elsewhere');`

// ints is a list of arguments for each number.
func ints(numbers ...int) (lists [][]any) {
	for _, n := range numbers {
		lists = append(lists, []any{n})
	}
	return lists
}

var readings = []statement{
	{text: "select id, n, t from item order by id"},
	{text: "select 1"},
	{text: "select 1 where false"},
	{text: "select id from item where id > 100"},
	{text: "select generate_series(10, 12)"},
	{text: "select id, t from item where id = $1::int", args: [][]any{{1}, {3}, {99}, {nil}, {"2"}, {int64(6)}, {1.5}, {}, {1, 2}}},
	{text: "select generate_series(1, $1::int)", args: ints(3, 0, 2000)},
	{text: "select i, repeat('x', 1000) from generate_series(1, 300) i"},
	allItems,
	{text: "select item from item order by id"},
	{text: "table ref"},
	{text: "values (1, 'a'), (2, null)"},
	{text: "select count(*) from item"},
	{text: "select null, null::int, ''::text, row(1, 'a')::pair, 'ok'::mood, 7::small, 'a'::char(3), 'b'::varchar(5), 1.50::numeric(6, 2)"},
	{text: "select '{1,null}'::int[], '{a,\"b,c\"}'::text[], '{sad,ok}'::mood[], '[1,5)'::int4range, '1 day'::interval, '10.0.0.1'::inet, '0101'::bit(4)"},
	{text: `select 1::int2, 2::int8, 1.5::float4, 'NaN'::float8, '\x00ff'::bytea, true, '{"a": 1}'::json, '{"a": 1}'::jsonb, '<a/>'::xml, 9::oid, 'pg_class'::regclass, '"c"'::"char", 'n'::name`},
	{text: "select '2024-02-29'::date, '2024-02-29 12:00'::timestamp(3), '2024-02-29 12:00+09'::timestamptz, 'infinity'::timestamptz, '12:30'::time, '12:30+02'::timetz"},
	{text: "select 'infinity'::date"},
	{text: "select 'nan'::numeric, 1e100::numeric, 12345678901234567890.1234567890::numeric"},
	{text: "show search_path"},
	{text: "show timezone"},
	{text: "select current_setting('transaction_isolation'), current_setting('transaction_read_only')"},
	{text: "select coalesce(current_setting('app.tenant', true), '')"},
	{text: "explain (costs off) select 1"},
	{text: "select warn('careful')"},
	{text: "fetch 2 from cur"},
	{text: "execute planned"},
	{text: "select x from item"},
	{text: "select id as a, id as a from item order by id limit 1"},
	{text: "select"},
	{text: "select pg_sleep(0)"},
}

var allItems = statement{text: "select * from item order by id"}

var writings = []statement{
	{text: "insert into item (id, n) values ($1, $2)", args: [][]any{{7, 70}, {1, 10}, {8, 2000}, {9, nil}, {10, "ten"}, {7, 70}, {11}, {12, int64(math.MaxInt64)}}},
	{text: "insert into item (id, n, t, m, d) values ($1, $2, $3, $4, $5) returning id, t, m",
		args: [][]any{{20, 1, "new", "sad", 5}, {20, 1, "x1", "ok", 5}, {21, 1, "y", "glad", 5}, {22, 1, "z", "ok", 500}, {23, 1, "", nil, nil}}},
	{text: "insert into item (id, n) values ($1, 5) on conflict (id) do update set n = item.n + 1 returning n", args: ints(1, 30)},
	{text: "insert into item (id, n) values (40, 1), (41, 2)"},
	{text: "update item set n = n + 1 where id = $1", args: ints(1, 2, 99)},
	{text: "update item set n = n + 1 where n < 50 returning id, n"},
	{text: "update item set n = n + 1000"},
	{text: "delete from item where id = $1", args: ints(6, 1, 99)},
	{text: "delete from item where false returning id"},
	{text: "insert into ref values ($1, $2)", args: [][]any{{5, 1}, {6, 999}, {1, 1}}},
	{text: "set constraints all immediate"},
	{text: "merge into item using (values (1), (50)) v (i) on id = i when matched then update set n = 9 when not matched then insert (id, n) values (i, 9)"},
	{text: "with gone as (delete from item where id = 5 returning id) select count(*) from gone"},
	{text: "truncate shared"},
	{text: "lock table shared"},
	{text: "insert into no_such_table values ($1)", args: ints(1)},
}

var failings = []statement{
	{text: "selec 1"},
	{text: "select * from nowhere"},
	{text: "select nothing from item"},
	{text: "select 1 / 0"},
	{text: "select 10 / (3 - i) from generate_series(1, 5) i"},
	{text: "select 1000 / (250 - i), repeat('x', 1000) from generate_series(1, 400) i"},
	{text: "select 'a'::int"},
	{text: "select $1::int / $2::int", args: [][]any{{7, 2}, {7, 0}}},
	{text: "select complain('word')"},
	{text: "select complain($1)", args: [][]any{{"said"}, {""}}},
	{text: "do $$ begin raise exception 'done'; end $$"},
	{text: "do $$ begin raise notice 'noted'; perform 1; end $$"},
	{text: "select $1", args: [][]any{{"text"}, {1}, {nil}}},
	{text: "select $1::text, $2::text", args: [][]any{{"a", "b"}, {"a"}, {}}},
	{text: "select unknown_function($1)", args: ints(1)},
	{text: "vacuum"},
	{text: "create index concurrently if not exists concurrent on ref (item)", schema: true},
	{text: ""},
	{text: "-- nothing"},
	{text: ";"},
	{text: "select 'unfinished"},
	{text: "select \x00 1"},
}

var transactions = []statement{
	{text: "begin", leaves: true},
	{text: "commit"},
	{text: "rollback"},
	savepoint,
	{text: "savepoint b"},
	rollbackTo,
	{text: "rollback to b"},
	{text: "release a"},
	{text: "set transaction isolation level serializable"},
	{text: "set transaction read only"},
	{text: "set local search_path to other"},
	{text: "set local app.tenant to 'local'"},
	{text: "set local application_name to 'local'"},
	{text: "set transaction isolation level repeatable read, read only, not deferrable"},
	{text: "set local transaction_isolation to serializable"},
	{text: "select set_config('app.tenant', 'local', true)"},
	{text: "declare cur cursor for select id from item order by id", leaves: true},
	{text: "close cur"},
}

var (
	savepoint  = statement{text: "savepoint a"}
	rollbackTo = statement{text: "rollback to a"}
)

var sessions = []statement{
	{text: "set search_path to other", leaves: true},
	{text: "set app.tenant to 'A'", leaves: true},
	{text: "set timezone to 'Asia/Tokyo'", leaves: true},
	{text: "set application_name to 'mine'", leaves: true},
	{text: "set session authorization default", leaves: true},
	{text: "reset all", leaves: true},
	{text: "select set_config('app.tenant', $1, false)", args: [][]any{{"A"}, {""}}, leaves: true},
	{text: "do $$ begin perform set_config('app.tenant', 'do', false); end $$", leaves: true},
	{text: "create temp table scratch (a int)", leaves: true},
	{text: "create temp table scratch (a int) on commit drop", leaves: true},
	{text: "insert into scratch values (1)"},
	{text: "select count(*) from scratch"},
	tryLock,
	{text: "select pg_advisory_unlock_all()"},
	{text: "listen channel", leaves: true},
	{text: "unlisten *"},
	{text: "notify channel, 'payload'"},
	{text: "prepare planned as select 1 as planned", leaves: true},
	{text: "deallocate planned", leaves: true},
	{text: "deallocate all", leaves: true},
	{text: "discard all", leaves: true},
	{text: "declare held cursor with hold for select 1", leaves: true},
	{text: "set role none", leaves: true},
	{text: "set session characteristics as transaction read only", leaves: true},
}

var tryLock = statement{text: "select pg_try_advisory_lock(1)", leaves: true}

var schemas = []statement{
	{text: "alter table item add column extra int default 7", schema: true},
	{text: "alter table item drop column extra", schema: true},
	{text: "alter table item alter column n type bigint", schema: true},
	{text: "alter table item rename column t to u", schema: true},
	{text: "alter table item rename column u to t", schema: true},
	{text: "alter type mood add value 'glad'", schema: true},
	{text: "drop type mood cascade", schema: true},
	{text: "create type mood as enum ('glad', 'ok')", schema: true},
	{text: "alter table item add column m mood", schema: true},
	{text: "drop table ref", schema: true},
	{text: "create table ref (id int, item int)", schema: true},
	{text: "create or replace function warn(word text) returns int language sql as 'select 2'", schema: true},
	{text: "create table made as select 1 as a", schema: true},
	{text: "comment on table item is 'items'", schema: true},
}

var severals = []statement{
	{text: "select 1; select 2, 3"},
	{text: "select 1 where false; select 'second'"},
	{text: "insert into item (id, n) values (60, 1); insert into item (id, n) values (61, 2)"},
	{text: "insert into item (id, n) values (62, 1); select 1 / 0"},
	{text: "begin; insert into item (id, n) values (63, 1); commit"},
	{text: "begin; insert into item (id, n) values (64, 1)", leaves: true},
	{text: "update item set n = 1 where id = 1; select n from item where id = 1;"},
	{text: "set app.tenant to 'B'; select 1", leaves: true},
	{text: "select 1; selec 2"},
	{text: "insert into item (id, n) values (65, 1); commit; select 1 / 0"},
	{text: "select $1::int; select 2", args: ints(1)},
}

// typed asks for a value of each type back, as itself and as a text.
var typed = func() (all []statement) {
	tokyo := time.FixedZone("", 9*3600)
	moment := time.Date(2024, 2, 29, 23, 59, 59, 123456789, tokyo)
	var nilInt *int
	seven := 7
	for _, t := range []struct {
		name   string
		values []any
	}{
		{"int2", []any{0, math.MaxInt16, math.MinInt16, 40000, "7", "seven", nil}},
		{"int4", []any{1, math.MaxInt32, int64(math.MaxInt32) + 1, uint8(3), sql.NullInt64{}, sql.NullInt64{Int64: 4, Valid: true}, nilInt, &seven, true}},
		{"int8", []any{int64(math.MaxInt64), int64(math.MinInt64), uint64(math.MaxUint64), "12", 1.0}},
		{"float4", []any{float32(1.5), 1e300, math.NaN()}},
		{"float8", []any{1.5, math.NaN(), math.Inf(-1), math.Copysign(0, -1), math.MaxFloat64, math.SmallestNonzeroFloat64, 3}},
		{"numeric", []any{"1.50", "NaN", "12345678901234567890.123", 2.5, 7, "many"}},
		{"text", []any{"", "héllo", "a\x00b", "\xff", "it's", nil, sql.NullString{}, []byte("bytes"), 5, true}},
		{"varchar(3)", []any{"abc", "abcd"}},
		{"bytea", []any{[]byte{}, []byte{0, 255}, []byte(nil), "\\x41", "plain"}},
		{"bool", []any{true, "t", "maybe", 1}},
		{"json", []any{`{"a": [1, null]}`, json.RawMessage(`[1]`), []byte(`{}`), map[string]any{"k": 1}, `{bad`, nil}},
		{"jsonb", []any{`{"a": [1, null]}`, json.RawMessage(`[1]`), []byte(`{}`), map[string]any{"k": 1}, `{bad`, []int{1}}},
		{"uuid", []any{"00112233-4455-6677-8899-aabbccddeeff", [16]byte{1, 2}, "zz"}},
		{"timestamptz", []any{moment, moment.UTC(), time.Time{}, "infinity", "2024-01-01", "never"}},
		{"timestamp", []any{moment, moment.UTC(), "2024-01-01 10:00"}},
		{"date", []any{moment, "2024-02-30", "2024-02-29"}},
		{"time", []any{"10:00:00", "25:00"}},
		{"interval", []any{"1 day", 90 * time.Minute}},
		{"int[]", []any{[]int{1, 2}, []int{}, []int32(nil), "{1,NULL}", "{1", []string{"3"}}},
		{"text[]", []any{[]string{"a", "b,c", "", `q"`}, "{}", []any{"x", nil}}},
		{"inet", []any{"1.2.3.4", "::1/64", "host"}},
		{"mood", []any{"ok", "glad", "none", nil}},
		{"mood[]", []any{[]string{"ok", "sad"}, "{ok}"}},
		{"small", []any{5, 200, "6"}},
		{"pair", []any{"(1,a)", "(x,a)", "()"}},
		{"int4range", []any{"[1,5)", "empty"}},
		{"text", []any{valuer("given"), failing{}, (*pointed)(nil), named("x")}},
		{"int", []any{valuer("12"), valuer("twelve"), failing{}}},
	} {
		s := statement{text: "select $1::" + t.name + ", ($1::" + t.name + ")::text"}
		for _, v := range t.values {
			s.args = append(s.args, []any{v})
		}
		all = append(all, s)
	}
	return append(all, statement{text: "select @a::int + 1", args: [][]any{{pgx.NamedArgs{"a": 1}}, {pgx.NamedArgs{}}, {pgx.StrictNamedArgs{"a": 1, "b": 2}}}})
}()

var (
	errValuer  = errors.New("the valuer fails")
	errScanner = errors.New("the scanner fails")
)

// A valuer is an argument that says its value itself.
type valuer string

func (v valuer) Value() (driver.Value, error) { return string(v), nil }

// failing is an argument that has none.
type failing struct{}

func (failing) Value() (driver.Value, error) { return nil, errValuer }

// pointed has its value only behind a pointer, which may be nil.
type pointed string

func (p *pointed) Value() (driver.Value, error) {
	if p == nil {
		return nil, nil
	}
	return string(*p), nil
}

func named(v string) sql.NamedArg { return sql.Named("name", v) }

// bug is an argument that panics when it is asked for its value, in the midst of a statement.
type bug struct{}

const panicked = "the valuer panics"

func (bug) Value() (driver.Value, error) { panic(panicked) }

// refusing is a destination that takes nothing.
type refusing struct{}

func (*refusing) Scan(any) error { return errScanner }
