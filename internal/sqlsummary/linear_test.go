package sqlsummary

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func repeat(unit string) func(int) string {
	return func(n int) string { return strings.Repeat(unit, n/len(unit)) }
}

// shapes are texts that would be slow if something were scanned again and again.
var shapes = map[string]func(int) string{
	"quotes":            repeat("'"),
	"strings":           repeat("'a'\n"),
	"E strings":         repeat("E'\\''\n"),
	"E then comments":   func(n int) string { return repeat("E'' --\n")(n) },
	"open comments":     repeat("/*"),
	"comments":          repeat("/**/"),
	"line comments":     repeat("--\n"),
	"parentheses":       repeat("("),
	"closing":           repeat(")"),
	"pairs":             repeat("()"),
	"subqueries":        repeat("(SELECT a FROM t, "),
	"dollars":           repeat("$"),
	"open tags":         repeat("$a"),
	"tags":              repeat("$a$b"),
	"one long tag":      func(n int) string { return "$" + repeat("a")(n) },
	"long tags":         func(n int) string { return repeat("$" + strings.Repeat("a", 1000) + " ")(n) },
	"near tags":         func(n int) string { return "$aaaaaaaaaaaaaaaab$" + repeat("$aaaaaaaaaaaaaaaa")(n) },
	"dots":              func(n int) string { return "SELECT a FROM a" + repeat(" . a")(n) },
	"tables":            func(n int) string { return "SELECT a FROM t" + repeat(", t")(n) },
	"CTEs":              func(n int) string { return "WITH a AS (b)" + repeat(", c AS(TABLE z)")(n) },
	"recursive CTEs":    repeat("WITH RECURSIVE a AS ("),
	"recursive lists":   func(n int) string { return repeat("WITH RECURSIVE a AS (")(2000) + repeat("b, ")(n) },
	"CTE references":    func(n int) string { return "WITH a AS (b) SELECT a FROM a" + repeat(", A")(n) },
	"statements":        repeat("SELECT 1;"),
	"numbers":           repeat("1 "),
	"one number":        repeat("1"),
	"number and dots":   repeat("1.."),
	"double quotes":     repeat(`"`),
	"one name":          repeat("a"),
	"invalid":           repeat("\xff "),
	"rows":              func(n int) string { return "INSERT INTO t VALUES (1)" + repeat(", (1, 'a')")(n) },
	"comment and blank": repeat("a /**/ "),
}

// TestTimeIsLinear compares each shape with ordinary SQL of the same size, a megabyte. Whatever is quadratic takes hundreds
// of times as long, even if it only searches for a byte again and again; whatever is linear no more than a few times.
func TestTimeIsLinear(t *testing.T) {
	const size, most = 1 << 20, 60
	ordinary := repeat(typicalWithLiterals + ";\n")(size)
	for name, text := range shapes {
		linear := false
		for range 5 { // other processes may disturb a measurement
			if linear = timeOf(text(size)) < most*timeOf(ordinary); linear {
				break
			}
		}
		assert.True(t, linear, name)
	}
}

func timeOf(sql string) time.Duration {
	start := time.Now()
	Parse(sql)
	return time.Since(start)
}
