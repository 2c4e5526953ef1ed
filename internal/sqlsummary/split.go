package sqlsummary

import "iter"

// Split yields the statements of a text, without what stands between them: spaces, comments, semicolons. It takes each
// semicolon for the end of one, those in the body of a function that is written without quotes too.
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

// FirstWords are the words that a statement begins with, as they are written, behind spaces and comments. A word is ""
// where something else stands in its place.
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
