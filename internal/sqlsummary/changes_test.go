package sqlsummary

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestWhatAStatementChangesOfTheNamesInOthers(t *testing.T) {
	for sql, want := range map[string]Change{
		"": 0, "select 1": 0, "insert into t select 1": 0, "with x as (insert into t values (1)) select * from x": 0,
		"with x as (select 1) insert into t select * from x": 0, "(select 1)": 0, "update t set search_path = 'x'": 0,
		"select 'set_config(''search_path'')'": 0, "select set_config from t": 0, "truncate t": 0, "vacuum": 0, "show search_path": 0,
		"create table t (temp int)":                                  Schema,
		"create unlogged table t (a int)":                            Schema,
		"create or replace view v as select temp":                    Schema,
		"create temp table t (a int)":                                Temporary | Session,
		"CREATE LOCAL TEMPORARY TABLE t AS SELECT 1":                 Temporary | Session,
		"create or replace temp view v as select 1":                  Temporary | Session,
		"/* x */ create /* y */ temp sequence s":                     Temporary | Session,
		"create table pg_temp.t (a int)":                             Temporary | Session,
		"create table t as select 1":                                 Schema,
		"alter table t add b int":                                    Schema,
		"drop table t":                                               Schema,
		"import foreign schema x from server y into z":               Schema,
		"select 1 into t":                                            Schema,
		"select * into temp t from u":                                Temporary | Session,
		"with x as (select 1) select * into t from x":                Schema,
		"do $$ begin end $$":                                         Unseen,
		"call p(1)":                                                  Unseen,
		"discard temp":                                               Unseen,
		"set search_path = a":                                        Path | Session,
		"SET SESSION search_path TO a":                               Path | Session,
		`set "search_path" = a`:                                      Path | Session,
		"set local search_path = a":                                  Path,
		"set schema 'a'":                                             Path | Session,
		"set local schema 'a'":                                       Path,
		"set role a":                                                 Path | Session,
		"set local role a":                                           Path,
		"set session authorization a":                                Path | Session,
		"set local session authorization a":                          Path,
		"reset search_path":                                          Path | Session,
		"reset all":                                                  Path | Session,
		"reset role":                                                 Path | Session,
		"reset timezone":                                             0,
		"set local statement_timeout = 1":                            0,
		"set app.search_path = 'a'":                                  0,
		"set time zone 'UTC'":                                        0,
		"set session characteristics as transaction read only":       0,
		"select set_config('search_path', $1, true)":                 Path,
		"select pg_catalog.set_config('Search_Path', f(a, b), TRUE)": Path,
		"select set_config('search_path', $1, false)":                Path | Session,
		"select 1, set_config('role', $1, $2) from t":                Path | Session,
		"select set_config('app.tenant', $1, true)":                  0,
		"select set_config($1, $2, true)":                            PathByArgument,
		"select set_config($1, $2, false)":                           PathByArgument | Session,
		"select set_config(setting_name => 'search_path', new_value => $1, is_local => true)": Path,
		"select set_config('app.tenant', $1, true), set_config('search_path', $1, true)":      Path,
	} {
		assert.Equal(t, want, ChangeOf(sql), "%s", sql)
	}
}

func FuzzChangeOfAcceptsEverything(f *testing.F) {
	for _, sql := range []string{"select set_config(", "create", "set local", "select into", "copy t from", "(((", "reset"} {
		f.Add(sql)
	}
	f.Fuzz(func(_ *testing.T, sql string) {
		ChangeOf(sql)
		CopiesIn(sql)
		FirstWords(sql)
	})
}
