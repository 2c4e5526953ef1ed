package sqlsummary

import "strings"

// CopiesIn reports whether one of the statements in a text is COPY … FROM STDIN, after which the server waits for rows from
// the client. (To the server, FROM STDOUT means the same.)
func CopiesIn(sql string) bool {
	l := lexer{src: sql}
	for {
		switch t := l.nextVisible(); {
		case t.kind == end:
			return false
		case t.symbol == ';':
		case t.key == kwCopy && l.fromStdin():
			return true
		case t.key == kwCopy: // fromStdin has moved past its end
		default:
			l.skipStatement()
		}
	}
}

// nextVisible is the next token that is neither white space nor a comment.
func (l *lexer) nextVisible() token {
	for {
		if t := l.next(); t.kind != space && t.kind != comment {
			return t
		}
	}
}

// skipStatement moves past the next semicolon.
func (l *lexer) skipStatement() {
	if strings.IndexByte(l.src[l.pos:], ';') < 0 { // mostly there is none, and this finds out sooner than the tokens do
		l.pos = len(l.src)
	}
	for t := l.next(); t.kind != end && t.symbol != ';'; {
		t = l.next()
	}
}

// fromStdin reports whether a COPY, whose first word was read, is one from STDIN, and moves past its end. It doesn't look at
// what is in parentheses: names of columns, options, or a query.
func (l *lexer) fromStdin() (found bool) {
	depth, from := 0, false
	for {
		t := l.nextVisible()
		switch {
		case t.kind == end, t.symbol == ';':
			return found
		case t.symbol == '(':
			depth++
		case t.symbol == ')':
			depth--
		}
		found = found || from && t.kind == word && isStdin(l.src[t.start:t.end])
		from = depth == 0 && t.key == kwFrom
	}
}

// isStdin reports whether a word after FROM means the client.
func isStdin(word string) bool {
	return strings.EqualFold(word, "stdin") || strings.EqualFold(word, "stdout")
}
