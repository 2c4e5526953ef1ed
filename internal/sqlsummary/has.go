package sqlsummary

import "unicode/utf8"

// NameAt reports whether a name, or any other token that is no value, begins at a position as the server gives it with an
// error: counted in characters from 1, 0 for none. It is false where a literal, a parameter or nothing begins there.
func NameAt(sql string, position int) bool {
	at := 0
	for n := 1; n < position && at < len(sql); n++ {
		_, width := utf8.DecodeRuneInString(sql[at:])
		at += width
	}
	if position <= 0 || at >= len(sql) {
		return false
	}
	for l := (lexer{src: sql}); ; {
		t := l.next()
		switch {
		case t.start == at:
			return t.kind == word || t.kind == quoted || t.kind == symbol
		case t.start > at, t.kind == end:
			return false
		}
	}
}
