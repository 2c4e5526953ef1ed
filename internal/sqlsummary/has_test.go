package sqlsummary

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestAStatementHasTheNamesThatStandInItOutsideOfLiterals(t *testing.T) {
	const sql = `select u."My ""odd"" Name", 's3cret', $1, 4711, $$quoted$$, E'a\'b' /* comment */ from app.Users u where a @> b -- end`
	for text, want := range map[string]bool{
		"users": true, "USERS": true, "app.users": true, "u.a": true, `My "odd" Name`: true, "My": true, "$1": true, "@>": true,
		"from": true, "(users)": true, "a, b": true, ",": true, "$1)": true, "": true,
		"s3cret": false, "4711": false, "quoted": false, "comment": false, "end": false, "a'b": false, "userss": false,
		"$2": false, "users s3cret": false, "'users'": false, "<": false, "(": false, "users -- x": false,
		strings.Repeat("users ", 1000): false,
	} {
		assert.Equal(t, want, Has(sql, text, nil), text)
	}
	assert.False(t, Has("set work_mem to s3cret", "s3cret", nil), "a value, though it is written as a name")
	assert.True(t, Has("set no_such_setting to s3cret", "no_such_setting", nil))
	assert.True(t, Has(sql, "integer, users[]", map[string]bool{"integer": true}))
	assert.False(t, Has("", "integer, users[]", map[string]bool{"integer": true}))
	assert.False(t, Has("select 'users", "users", nil), "an open quote hides the rest")
	assert.True(t, Has("select a"+strings.Repeat(", 'x'", 1<<20), "a", nil))
}
