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

// A token is a piece of the text; the tokens of a text cover it without gaps.
type token struct {
	kind       kind
	symbol     byte    // the byte of a symbol; 0 for other kinds, and for two dots
	key        keyword // the keyword of a word
	reserved   bool    // the word can't be a name
	start, end int     // where the token is in the text
}

// A lexer divides a text into tokens as PostgreSQL's scan.l does. There is a library for this, go-sqllexer, but version
// 0.2.6 lets literals through: 1_000, 0b11, E'a' that is continued on the next line, comments in comments, a $$ that isn't
// closed. The texts on which it failed are in the tests.
type lexer struct {
	src string
	pos int
}

// next returns the next token. At the end of the text each further one is of the kind end.
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

// scan moves past one token, and returns its kind. It isn't called at the end of the text.
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

// at is the byte that is n bytes ahead, 0 beyond the end of the text.
func (l *lexer) at(n int) byte {
	if l.pos+n < len(l.src) {
		return l.src[l.pos+n]
	}
	return 0
}

// word moves past a name or a keyword that begins with c, or past a string or a quoted name whose prefix begins with c.
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

// name moves past the rest of a name.
func (l *lexer) name() {
	for l.pos < len(l.src) && isNamePart(l.src[l.pos]) {
		l.pos++
	}
}

// quotedName moves past a quoted name. skip is the length of its prefix and the opening quote. If it isn't closed the rest
// of the text is a literal, and so hidden: a quote is probably in the wrong place.
func (l *lexer) quotedName(skip int) kind {
	if l.untilQuote(skip, '"') {
		return quoted
	}
	return literal
}

// untilQuote moves past the closing quote, and reports whether there is one. Two quotes are one in the string, and don't end
// it.
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

// blockComment moves past a comment, in which there may be others. One that isn't closed goes on to the end of the text.
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

// isNameStart and isNamePart report whether a name may begin with a byte, and go on with it. As in PostgreSQL all bytes
// above ASCII belong to names, whatever the encoding.
func isNameStart(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_' || c >= 0x80 }
func isNamePart(c byte) bool  { return isNameStart(c) || isDigit(c) || c == '$' }
