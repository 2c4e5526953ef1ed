package sqlsummary

import (
	"maps"
	"strings"
)

// maxSearched bounds how much of a statement Has reads: names stand at the beginning, and rows of values behind.
const maxSearched = 1 << 16

// maxText bounds the texts that are looked for. A name has at most 63 bytes.
const maxText = 1 << 10

// Has reports whether every name, keyword, parameter and operator of a text stands in a statement too, outside of its
// literals and comments, and of what Parse hides besides (the value of a SET), or is among the other words. Whether
// letters are capital doesn't matter. It is false for a text with a literal or a comment in it.
func Has(sql, text string, others map[string]bool) bool {
	wanted, punctuation := map[string]bool{}, map[string]bool{}
	if len(text) > maxText || !collect(wanted, punctuation, text) {
		return false
	}
	if len(wanted) == 0 {
		wanted = punctuation // a part of the statement's, and not what stands between two types
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
		if p.token(t); !p.isValue {
			strike(wanted, t, sql)
		}
	}
	return true
}

// strike takes a token of a statement, or the words of a quoted name, from those that are wanted.
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

// collect sorts the tokens of a text, and reports whether there is none that may be a value.
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

// unquoted is what stands within the quotes of a name.
func unquoted(name string) string {
	if at := strings.IndexByte(name, '"'); at >= 0 && len(name) > at+1 {
		return strings.ReplaceAll(name[at+1:len(name)-1], `""`, `"`)
	}
	return ""
}
