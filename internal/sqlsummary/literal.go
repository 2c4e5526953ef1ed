package sqlsummary

import "strings"

// plainString moves over a string in which a backslash is only a backslash; its text begins after skip bytes.
func (l *lexer) plainString(skip int) kind {
	l.untilQuote(skip, '\'')
	return literal
}

// escapeString moves over an E string and its continuations, in which backslashes escape too.
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

// continued says whether a string goes on, which takes a newline and then a quote, and moves past that quote. There may
// be more white space and line comments between, but no block comment.
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

// dollar is a parameter, a dollar-quoted string or a dollar sign with no meaning. An open string reaches to the end.
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

// tag is the opening quote here, $$ or $tag$, or "".
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

// number moves over a number and the letters glued to it. Those are an error since PostgreSQL 15; before, they began the
// next token, so that an e before a quote is an E string: 1e'\”.
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

func (l *lexer) digits() {
	for isDigit(l.at(0)) || l.at(0) == '_' {
		l.pos++
	}
}
