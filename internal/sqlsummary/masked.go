package sqlsummary

import (
	"strings"
	"unicode/utf8"
)

// IsQuery reports whether a text is exactly one statement that begins with SELECT, VALUES, WITH, INSERT, UPDATE, DELETE or
// MERGE, and so has a plan. In doubt it reports false, as for a text with parameters of pgx's (@name), which aren't sent.
func IsQuery(sql string) bool {
	l := lexer{src: sql}
	first := l.nextVisible()
	switch l.lower(first) {
	case "select", "values", "with", "insert", "update", "delete", "merge":
	default:
		return false
	}
	if first.kind != word || strings.IndexByte(sql, 0) >= 0 || !utf8.ValidString(sql) {
		return false
	}
	at := false // the token before is @
	for t := l.next(); t.kind != end; t = l.next() {
		switch {
		case t.symbol == ';':
			return l.nextVisible().kind == end
		case at && t.kind == word:
			return false
		}
		at = t.symbol == '@'
	}
	return true
}

// Masked returns an expression, as the server writes those of a plan, without its literals. The words true, false and
// null stay, as in Parse. certain is false, and the text empty, if the expression has something that the server never
// writes there, so that it may be divided into tokens wrongly: a quote that isn't closed, a comment, or a string with a
// prefix or in dollars.
func Masked(expression string) (text string, certain bool) {
	s := sanitiser{src: expression}
	for l := (lexer{src: expression}); ; {
		t := l.next()
		if t.kind == comment || t.kind == literal && !isServers(expression[t.start:t.end]) {
			return "", false
		}
		s.take(t)
		if t.kind == end {
			return s.text(), true
		}
	}
}

// isServers reports whether a literal is written as the server does: a number, or a string that is closed, without a prefix
// other than that of bits.
func isServers(literal string) bool {
	switch c := literal[0]; {
	case isDigit(c), c == '.':
		return true
	case c == 'B', c == 'b', c == 'X', c == 'x':
		literal = literal[1:]
	}
	return len(literal) > 1 && literal[0] == '\'' && literal[len(literal)-1] == '\'' && strings.Count(literal, "'")%2 == 0
}
