package sqlsummary

import "strings"

// plainString moves past a string in which a backslash has no meaning. skip is the length of its prefix and the opening
// quote.
func (l *lexer) plainString(skip int) kind {
	l.untilQuote(skip, '\'')
	return literal
}

// escapeString moves past an E string and its continuations, in which a backslash is an escape as well. skip is the length
// of its prefix and the opening quote.
func (l *lexer) escapeString(skip int) kind {
	l.pos += skip
	for l.pos < len(l.src) {
		c := l.src[l.pos]
		l.pos++
		switch {
		case c == '\\':
			l.pos = min(l.pos+1, len(l.src))
		case c != '\'':
		case l.at(0) == '\'':
			l.pos++
		case !l.continued():
			return literal
		}
	}
	return literal
}

// continued reports whether the string that has just ended is continued, and moves past the quote with which it is: white
// space with a newline and then a quote continue a string. There may be line comments between them, but no block comment. If
// the string isn't continued the lexer stays where it is.
func (l *lexer) continued() bool {
	from := *l
	for newline := false; l.pos < len(l.src); {
		switch c := l.src[l.pos]; {
		case isSpace(c):
			newline = newline || c == '\n' || c == '\r'
			l.pos++
		case c == '-' && l.at(1) == '-':
			l.lineComment()
		case c == '\'' && newline:
			l.pos++
			return true
		default:
			*l = from
			return false
		}
	}
	*l = from
	return false
}

// dollar moves past what a dollar sign begins: a parameter, a dollar-quoted string, or nothing. A string that isn't closed
// goes on to the end of the text.
func (l *lexer) dollar() kind {
	if isDigit(l.at(1)) {
		for l.pos++; isDigit(l.at(0)); l.pos++ {
		}
		return param
	}
	tag := l.tag()
	if tag == "" {
		l.pos++
		return symbol
	}
	l.pos += len(tag)
	if i := strings.Index(l.src[l.pos:], tag); i >= 0 {
		l.pos += i + len(tag)
	} else {
		l.pos = len(l.src)
	}
	return literal
}

// tag is the opening quote of a dollar-quoted string, $$ or $tag$, that is here; "": there is none.
func (l *lexer) tag() string {
	i := l.pos + 1
	for i < len(l.src) && (isNameStart(l.src[i]) || i > l.pos+1 && isDigit(l.src[i])) {
		i++
	}
	if i < len(l.src) && l.src[i] == '$' {
		return l.src[l.pos : i+1]
	}
	return ""
}

// number moves past a number and the letters that touch it. Such letters are an error since PostgreSQL 15. Before, they
// began the next token, so that an e before a quote begins an E string: 1e'…'.
func (l *lexer) number() kind {
	l.digits()
	if l.at(0) == '.' && l.at(1) != '.' {
		l.pos++
		l.digits()
	}
	if l.at(0)|0x20 == 'e' {
		switch next := l.at(1); {
		case next == '\'':
			return literal
		case (next == '+' || next == '-') && isDigit(l.at(2)):
			l.pos += 2
			l.digits()
		}
	}
	if isNameStart(l.at(0)) {
		l.name()
	}
	return literal
}

// digits moves past digits and underscores.
func (l *lexer) digits() {
	for isDigit(l.at(0)) || l.at(0) == '_' {
		l.pos++
	}
}
