package sqlsummary

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestIsPlain(t *testing.T) {
	for _, sql := range []string{
		"select 1", "select 1; ", "select 1; -- that's all", "select ';', '$1', E'\\';$1'", "/* a; $1 */ insert into t values ('a;b')",
		"do $$ begin perform 1; end $$", "select $a$ $1; $a$", `select ";$1"`, "(select 1)",
	} {
		assert.True(t, IsPlain(sql), sql)
	}
	for _, sql := range []string{
		"", " -- nothing", ";", ";select 1", "select 1; select 2", "select $1", "select ';' where $1", "copy t from stdin",
		"/* x */ COPY t to stdout", "create function f() returns int begin atomic select 1; end",
	} {
		assert.False(t, IsPlain(sql), sql)
	}
}
