package sqlsummary

// IsPlain reports whether a text is exactly one statement, other than a COPY, and has no parameters. In doubt, as with the
// body of a function that has statements of its own, it reports false.
func IsPlain(sql string) bool {
	l := lexer{src: sql}
	t := l.nextVisible()
	if t.kind == end || t.symbol == ';' || l.lower(t) == "copy" {
		return false
	}
	for ; t.kind != end; t = l.nextVisible() {
		switch {
		case t.kind == param:
			return false
		case t.symbol == ';':
			return l.nextVisible().kind == end
		}
	}
	return true
}
