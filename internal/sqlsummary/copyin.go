package sqlsummary

import "strings"

// CopiesIn reports whether a statement in the text is COPY … FROM STDIN, after which the server waits for the client to
// send rows. STDOUT stands for the same there.
func CopiesIn(sql string) bool {
	l := lexer{src: sql}
	for {
		switch t := l.nextVisible(); {
		case t.kind == end:
			return false
		case t.symbol == ';':
		case t.key == kwCopy && l.fromStdin():
			return true
		case t.key == kwCopy: // the lexer is past its end
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
	if strings.IndexByte(l.src[l.pos:], ';') < 0 { // as a rule, and sooner known than by looking at each token
		l.pos = len(l.src)
	}
	for t := l.next(); t.kind != end && t.symbol != ';'; {
		t = l.next()
	}
}

// fromStdin moves past the end of a COPY and reports whether it is one from STDIN. What is in parentheses, names of
// columns and options, doesn't count.
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

func isStdin(word string) bool {
	return strings.EqualFold(word, "stdin") || strings.EqualFold(word, "stdout")
}
