package sqlsummary

import (
	"maps"
	"strings"
)

// maxSearched is how many bytes of a statement Has reads. In a long statement the names are at the beginning, before the
// rows.
const maxSearched = 1 << 16

// maxText is the length in bytes of the longest text that Has looks for. A name has at most 63 bytes.
const maxText = 1 << 10

// Has reports whether a text can be shown without showing a value: each name, keyword, parameter and operator in it is also
// in the statement sql, or is one of the words others. What Parse hides in sql doesn't count: literals, comments and values
// of SET. The case of letters doesn't matter. The result is false if text has a literal or a comment.
func Has(sql, text string, others map[string]bool) bool {
	wanted, punctuation := map[string]bool{}, map[string]bool{}
	if len(text) > maxText || !collect(wanted, punctuation, text) {
		return false
	}
	if len(wanted) == 0 {
		wanted = punctuation // the text has nothing else, so the statement must have this
	}
	maps.DeleteFunc(wanted, func(word string, _ bool) bool { return others[word] })
	if len(sql) > maxSearched {
		sql = sql[:maxSearched]
	}
	p := parser{src: sql}
	p.reset()
	for l := (lexer{src: sql}); len(wanted) > 0; {
		t := l.next()
		switch t.kind {
		case end:
			return false
		case space, comment:
			continue
		}
		if p.take(t); !p.isValue {
			strike(wanted, t, sql)
		}
	}
	return true
}

// strike removes a token of the statement, or the words of a quoted name, from those that are wanted.
func strike(wanted map[string]bool, t token, sql string) {
	text := strings.ToLower(sql[t.start:t.end])
	switch t.kind {
	case word, param, symbol:
		delete(wanted, text)
	case quoted:
		inner := lexer{src: unquoted(text)}
		for in := inner.next(); in.kind != end; in = inner.next() {
			strike(wanted, in, inner.src)
		}
	}
}

// collect adds the tokens of a text to wanted, and commas, dots and brackets to punctuation. It reports false if one of the
// tokens is a literal or a comment, and so may be a value.
func collect(wanted, punctuation map[string]bool, text string) bool {
	l := lexer{src: text}
	for {
		t := l.next()
		switch token := strings.ToLower(text[t.start:t.end]); t.kind {
		case end:
			return true
		case literal, comment:
			return false
		case quoted:
			if !collect(wanted, punctuation, unquoted(token)) {
				return false
			}
		case word, param:
			wanted[token] = true
		case symbol:
			if strings.Contains(".,()[]", token) {
				punctuation[token] = true
			} else {
				wanted[token] = true
			}
		}
	}
}

// unquoted is a quoted name without its quotes; "" if it has none.
func unquoted(name string) string {
	if at := strings.IndexByte(name, '"'); at >= 0 && len(name) > at+1 {
		return strings.ReplaceAll(name[at+1:len(name)-1], `""`, `"`)
	}
	return ""
}
