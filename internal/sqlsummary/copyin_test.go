package sqlsummary

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestACopyFromTheClientIsFoundWhereverItStands(t *testing.T) {
	for _, sql := range []string{
		"copy t from stdin", "COPY t FROM STDIN", "Copy\tt (a, b)\nfrom\r\n stdin with (format csv)", "copy t from stdin;",
		" -- x\n copy t from stdin", "/* a /* b */ c */ copy t /* ; */ from -- ; \n stdin", "copy binary t from stdin",
		"create table t (a int); copy t from stdin", "select ';'; copy t from stdin", "select $$;$$;;copy t from stdin; select 1",
		"copy t to stdout; copy t from stdin", "copy t from '/file'; copy t from stdin", "copy \"from\" from stdin",
		"copy s.t from stdin where a > 0", "copy t (stdin) from stdin", "copy t from stdout", "begin; copy t from stdin; commit",
		"(select 1); copy t from stdin", "select 'it''s'; copy t from stdin", "copy t from stdin using delimiters ','",
	} {
		assert.True(t, CopiesIn(sql), "%s", sql)
	}
}

func TestWhatOnlyLooksLikeACopyFromTheClientIsNone(t *testing.T) {
	for _, sql := range []string{
		"", ";", "select 1", "copy", "copy t to stdout", "copy t to stdin", "copy (select a from stdin) to stdout",
		"copy t from '/stdin'", "copy t from program 'cat' with (header)", "copy \"from\" to stdout", "copy stdin to stdout",
		"select 'copy t from stdin'", "select 1; select '; copy t from stdin'", "select $$; copy t from stdin $$",
		"do $x$ begin raise notice '%', 'x'; copy t from stdin; end $x$", "-- ; copy t from stdin", "select 1 /* ; copy t from stdin */",
		"select copy from stdin", "select E'\\'; copy t from stdin'", "insert into t values ('a;b'); -- copy t from stdin",
		"copy t from \"stdin\"", "copy_t from stdin", "with copy as (select 1) select * from copy, stdin",
		"explain copy t from stdin", "select \"; copy t from stdin\"", "comment on table t is '; copy t from stdin;'",
	} {
		assert.False(t, CopiesIn(sql), "%s", sql)
	}
}
