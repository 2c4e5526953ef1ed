package sqlsummary

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestAnExpressionOfAPlanIsMasked(t *testing.T) {
	for expression, want := range map[string]string{
		`(o.id = 4711)`:                        `(o.id = '?')`,
		`(o.id = $1)`:                          `(o.id = $1)`,
		`o.id`:                                 `o.id`,
		`(o.name = 'secret'::text)`:            `(o.name = '?'::text)`,
		`('it''s secret'::text || o."Name")`:   `('?'::text || o."Name")`,
		`(o.id = ANY ('{4711,815}'::int[]))`:   `(o.id = ANY ('?'::int[]))`,
		`(o.at > '2026-11-29 00:00:00'::date)`: `(o.at > '?'::date)`,
		`'-4711'::integer`:                     `'?'::integer`,
		`1.5e10, B'1011', NULL::text, true`:    `'?', '?', NULL::text, true`,
		`'C:\'::text`:                          `'?'::text`,
		`'C:\\'::text, 'a'::text`:              `'?'::text, '?'::text`,
	} {
		got, certain := Masked(expression)
		assert.True(t, certain, expression)
		assert.Equal(t, want, got)
	}
}

func TestWhatTheServerNeverWritesInAPlanIsNotShown(t *testing.T) {
	for _, expression := range []string{
		`(o.name = 'secret`, `"secret`, `o.name = E'secret'`, `U&'secret'`, `$$secret$$`, `$a$secret$a$`, `1 -- secret`,
		`1 /* secret */`, `N'secret'`, `'a''secret`, `'`, `E'\'secret'`, `$a$secret`,
	} {
		got, certain := Masked(expression)
		assert.False(t, certain, expression)
		assert.Empty(t, got)
	}
}

func TestOnlyASingleQueryHasAPlan(t *testing.T) {
	for _, sql := range []string{
		"select 1", "SELECT 1;", "/* tag */ select 1 -- end", "with a as (select 1) delete from t", "values (1)", "insert into t values (';')",
		"update t set a = $1", "merge into t using u on true when matched then delete", "delete from t",
		"select a @> b, '@id' from t", `select "@id" /* @id */ where a @@ b`,
	} {
		assert.True(t, IsQuery(sql), sql)
	}
	for _, sql := range []string{
		"", ";", "select 1; select 2", "select 1; drop table t", "explain select 1", "analyze", "/**/ analyze select 1", "do $$begin end$$",
		"call p()", "(select 1)", "table t", "create table t as select 1", "copy t to stdout", "execute a", "declare c cursor for select 1",
		"select 'a\x00'", "select '\xff'", "begin", "select 1;;select", `"select" 1`, "prepare a as select 1", "vacuum",
		"select @id", "select 1;;", "select n from t where n = @n",
	} {
		assert.False(t, IsQuery(sql), sql)
	}
}

func FuzzMasked(f *testing.F) {
	f.Add("secret", `'`)
	f.Add(`it's`, `"a" = `)
	f.Fuzz(func(t *testing.T, value, before string) {
		// As the server quotes a constant (simple_quote_literal).
		masked, certain := Masked(`(a = '` + strings.ReplaceAll(value, `'`, `''`) + `'::text) AND (b = 1)`)
		assert.True(t, certain)
		assert.Equal(t, `(a = '?'::text) AND (b = '?')`, masked)
		if masked, certain = Masked(before); certain {
			again, _ := Masked(masked)
			assert.Equal(t, masked, again)
		}
	})
}
