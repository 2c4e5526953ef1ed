package sqlsummary

import "iter"

// Split yields the statements of a text, without the spaces, comments and semicolons between them. Each semicolon ends one,
// also in the body of a function that is written without quotes (BEGIN ATOMIC).
func Split(sql string) iter.Seq[string] {
	return func(yield func(string) bool) {
		l := lexer{src: sql}
		first, last := -1, 0
		for {
			t := l.next()
			switch {
			case t.kind == space, t.kind == comment:
			case t.kind == end, t.symbol == ';':
				if first >= 0 && !yield(sql[first:last]) || t.kind == end {
					return
				}
				first = -1
			default:
				if first < 0 {
					first = t.start
				}
				last = t.end
			}
		}
	}
}

// FirstWords returns the first two words of a statement, as they are written. A word is "" if something else is in its
// place. Spaces and comments don't count.
func FirstWords(sql string) (first, second string) {
	l := lexer{src: sql}
	if t := l.nextVisible(); t.kind == word {
		first = sql[t.start:t.end]
	}
	if t := l.nextVisible(); t.kind == word {
		second = sql[t.start:t.end]
	}
	return first, second
}
