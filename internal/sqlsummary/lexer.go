package sqlsummary

import "strings"

// kind is the kind of a token.
type kind uint8

const (
	end     kind = iota
	space        // white space
	comment      // -- or /* */, without the newline that ends the former
	literal      // a number, a string of any syntax, or a quote never closed
	param        // $1
	word         // a keyword or a plain name
	quoted       // a name in double quotes
	symbol       // any other byte: operators and punctuation come byte by byte, except ..
)

// token is a piece of the text; the tokens of a text cover it without gaps.
type token struct {
	kind       kind
	symbol     byte    // the byte of a symbol
	key        keyword // of a word
	reserved   bool    // whether the word is no name
	start, end int
}

// lexer splits a text as PostgreSQL's scan.l does. There is a library, go-sqllexer, but 0.2.6 lets literals through: 1_000,
// 0b11, E'a' continued on the next line, comments in comments, an open $$. The inputs on which it failed are in the tests.
type lexer struct {
	src string
	pos int
}

// next is the next token; at the end of the text it is of kind end, for ever.
func (l *lexer) next() token {
	if l.pos >= len(l.src) {
		return token{kind: end, start: l.pos, end: l.pos}
	}
	t := token{start: l.pos}
	t.kind = l.scan()
	t.end = l.pos
	switch t.kind {
	case symbol:
		if t.end == t.start+1 {
			t.symbol = l.src[t.start]
		}
	case word:
		key := lookup(l.src[t.start:t.end])
		t.key, t.reserved = key&^reserved, key&reserved != 0
	}
	return t
}

// scan moves over one token.
func (l *lexer) scan() kind {
	c := l.src[l.pos]
	switch {
	case isSpace(c):
		for isSpace(l.at(0)) {
			l.pos++
		}
		return space
	case isNameStart(c):
		return l.word(c)
	case c == '\'':
		return l.plainString(1)
	case c == '"':
		return l.quotedName(1)
	case c == '$':
		return l.dollar()
	case isDigit(c), c == '.' && isDigit(l.at(1)):
		return l.number()
	case c == '.' && l.at(1) == '.': // 1..10, in which no number begins with a dot
		l.pos++
	case c == '-' && l.at(1) == '-':
		l.lineComment()
		return comment
	case c == '/' && l.at(1) == '*':
		return l.blockComment()
	}
	l.pos++
	return symbol
}

// at is the byte n further on, 0 beyond the end.
func (l *lexer) at(n int) byte {
	if l.pos+n < len(l.src) {
		return l.src[l.pos+n]
	}
	return 0
}

// word is a name, a keyword, or a string or quoted name with a prefix.
func (l *lexer) word(c byte) kind {
	switch c | 0x20 {
	case 'e':
		if l.at(1) == '\'' {
			return l.escapeString(2)
		}
	case 'n', 'b', 'x':
		if l.at(1) == '\'' {
			return l.plainString(2)
		}
	case 'u':
		if l.at(1) != '&' {
			break
		}
		switch l.at(2) {
		case '\'':
			return l.plainString(3)
		case '"':
			return l.quotedName(3)
		}
	}
	l.name()
	return word
}

// name moves over the rest of a name.
func (l *lexer) name() {
	for l.pos < len(l.src) && isNamePart(l.src[l.pos]) {
		l.pos++
	}
}

// quotedName moves over a name whose text begins after skip bytes. An open one hides the rest of the text, as it's
// probably a slip in the quotes.
func (l *lexer) quotedName(skip int) kind {
	if l.untilQuote(skip, '"') {
		return quoted
	}
	return literal
}

// untilQuote moves past the closing quote; two of them are one in the text. It says whether there is one.
func (l *lexer) untilQuote(skip int, quote byte) bool {
	l.pos += skip
	for {
		i := strings.IndexByte(l.src[l.pos:], quote)
		if i < 0 {
			l.pos = len(l.src)
			return false
		}
		l.pos += i + 1
		if l.at(0) != quote {
			return true
		}
		l.pos++
	}
}

// lineComment moves to the end of the line.
func (l *lexer) lineComment() {
	if i := strings.IndexAny(l.src[l.pos:], "\r\n"); i >= 0 {
		l.pos += i
		return
	}
	l.pos = len(l.src)
}

// blockComment moves past a comment, which may hold others. An open one reaches to the end.
func (l *lexer) blockComment() kind {
	depth := 1
	for l.pos += 2; l.pos < len(l.src); l.pos++ {
		switch c := l.src[l.pos]; {
		case c == '*' && l.at(1) == '/':
			depth--
			l.pos++
		case c == '/' && l.at(1) == '*':
			depth++
			l.pos++
		}
		if depth == 0 {
			l.pos++
			break
		}
	}
	return comment
}

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// isNameStart and isNamePart take all bytes above ASCII, as PostgreSQL does, whatever the encoding.
func isNameStart(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_' || c >= 0x80 }
func isNamePart(c byte) bool  { return isNameStart(c) || isDigit(c) || c == '$' }
