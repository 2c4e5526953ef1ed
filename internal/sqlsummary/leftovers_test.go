package sqlsummary

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestLeftBy(t *testing.T) {
	for sql, want := range map[string]Left{
		"":                                                     0,
		"select 1":                                             0,
		"select set_config from t":                             0,
		"select 'set_config(a, b, c)'":                         0,
		"set local a.b = 'c'":                                  0,
		"set transaction read only":                            0,
		"set constraints all deferred":                         0,
		"prepare transaction 'x'":                              0,
		"deallocate x":                                         0,
		"deallocate prepare x":                                 0,
		"discard plans":                                        0,
		"create table t (a int)":                               0,
		"select a into t from b":                               0,
		"insert into temp values (1)":                          0,
		"select pg_advisory_xact_lock(1)":                      0,
		"select pg_advisory_unlock(1)":                         0,
		"select set_config('a.b', 'c', true)":                  0,
		"declare c cursor for select 1":                        0,
		"declare c cursor without hold for select 1":           0,
		"SET search_path TO x":                                 LeftSettings,
		"set session a = b":                                    LeftSettings,
		"set session characteristics as transaction read only": LeftSettings,
		"set time zone 'UTC'":                                  LeftSettings,
		"reset all":                                            LeftSettings,
		"reset a.b":                                            LeftSettings,
		"/* x */ set role a":                                   LeftRole,
		"set session role a":                                   LeftRole,
		"reset role":                                           LeftRole,
		"set session authorization a":                          LeftRole,
		"select set_config('a.b', $1, false)":                  LeftSettings,
		"select set_config('role', $1, false)":                 LeftSettings | LeftRole,
		"select pg_catalog.set_config($1, $2, $3)":             LeftSettings | LeftRole,
		"insert into t select SET_CONFIG('a.b', 'c', false)":   LeftSettings,
		"with x as (select set_config('a.b', 'c', false)) select 1":          LeftSettings,
		"select pg_advisory_lock(1), 1/0":                                    LeftLocks,
		"select pg_try_advisory_lock_shared($1)":                             LeftLocks,
		"explain analyze select pg_advisory_lock(1)":                         LeftLocks,
		"create temp table x (a int)":                                        LeftTables,
		"CREATE LOCAL TEMPORARY TABLE x AS SELECT 1":                         LeftTables,
		"create function pg_temp.f() returns int language sql as 'select 1'": LeftTables,
		"select a into temp x from t":                                        LeftTables,
		"declare c cursor with hold for select pg_advisory_lock(1)":          LeftCursors | LeftLocks,
		"declare c scroll cursor with hold for select 1":                     LeftCursors,
		"prepare x as select 1":                                              LeftNames,
		"listen x":                                                           LeftListening,
		"deallocate all":                                                     LeftForgotten,
		"deallocate prepare all":                                             LeftForgotten,
		"discard all":                                                        LeftForgotten,
		"do $$ begin end $$":                                                 LeftAnything,
		"call p()":                                                           LeftAnything,
	} {
		assert.Equal(t, want, LeftBy(sql), sql)
	}
}
