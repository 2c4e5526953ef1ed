package sqlsummary

import "strings"

// Remains is what a statement may leave behind that was ended before it was complete. Most statements leave nothing, since
// they are rolled back; these work in several transactions.
type Remains struct {
	Kind   RemainsKind
	Name   string // what may be left, as it is written, with the schema if the text shows it; "": the text doesn't name it
	Parent string // the table that it belongs to, as it is written; "": the text doesn't name it
}

// RemainsKind is what may be left. The zero value is nothing.
type RemainsKind uint8

// The kinds of what may be left.
const (
	RemainsNothing   RemainsKind = iota
	RemainsIndex                 // CREATE INDEX CONCURRENTLY: an invalid index
	RemainsCopy                  // REINDEX INDEX CONCURRENTLY: an invalid index beside the one that is named
	RemainsCopies                // REINDEX of a table, schema or database, CONCURRENTLY: the same of several indexes
	RemainsDropping              // DROP INDEX CONCURRENTLY: the index, invalid
	RemainsDetaching             // ALTER TABLE … DETACH PARTITION … CONCURRENTLY: a partition that is half detached
	RemainsDatabase              // DROP DATABASE: the database, invalid
)

// RemainsOf returns what a text with one statement may leave behind if it is ended early. It knows the statements of
// PostgreSQL 18.
func RemainsOf(sql string) Remains {
	l := lexer{src: sql}
	switch l.lower(l.nextVisible()) {
	case "create":
		return l.remainsOfCreate()
	case "reindex":
		return l.remainsOfReindex()
	case "drop":
		return l.remainsOfDrop()
	case "alter":
		return l.remainsOfAlter()
	}
	return Remains{}
}

// remainsOfCreate is for CREATE [UNIQUE] INDEX CONCURRENTLY [[IF NOT EXISTS] name] ON [ONLY] table.
func (l *lexer) remainsOfCreate() Remains {
	l.skipWords("unique")
	if !l.takeWords("index", "concurrently") {
		return Remains{}
	}
	l.skipWords("if", "not", "exists")
	r := Remains{Kind: RemainsIndex}
	if !l.takeWords("on") {
		r.Name = l.objectName()
		l.skipWords("on")
	}
	l.skipWords("only")
	r.Parent = l.objectName()
	if i := strings.LastIndexByte(r.Parent, '.'); i >= 0 && r.Name != "" { // an index is in its table's schema
		r.Name = r.Parent[:i+1] + r.Name
	}
	return r
}

// remainsOfReindex is for REINDEX [(option, …)] {INDEX | TABLE | SCHEMA | DATABASE | SYSTEM} [CONCURRENTLY] [name].
func (l *lexer) remainsOfReindex() Remains {
	concurrently := l.parenthesis("concurrently")
	kind := RemainsCopies
	if l.takeWords("index") {
		kind = RemainsCopy
	} else {
		l.nextVisible()
	}
	if !l.takeWords("concurrently") && !concurrently {
		return Remains{}
	}
	return Remains{Kind: kind, Name: l.objectName()}
}

// remainsOfDrop is for DROP INDEX CONCURRENTLY and DROP DATABASE, both with [IF EXISTS] name.
func (l *lexer) remainsOfDrop() Remains {
	kind := RemainsDropping
	if l.takeWords("database") {
		kind = RemainsDatabase
	} else if !l.takeWords("index", "concurrently") {
		return Remains{}
	}
	l.skipWords("if", "exists")
	return Remains{Kind: kind, Name: l.objectName()}
}

// remainsOfAlter is for ALTER TABLE [IF EXISTS] [ONLY] table DETACH PARTITION name CONCURRENTLY.
func (l *lexer) remainsOfAlter() Remains {
	if !l.takeWords("table") {
		return Remains{}
	}
	l.skipWords("if", "exists", "only")
	r := Remains{Kind: RemainsDetaching, Parent: l.objectName()}
	if !l.takeWords("detach", "partition") {
		return Remains{}
	}
	r.Name = l.objectName()
	if !l.takeWords("concurrently") {
		return Remains{}
	}
	return r
}

// takeWords moves past these words, if they are what follows, and reports whether they are.
func (l *lexer) takeWords(words ...string) bool {
	ahead := *l
	for _, w := range words {
		if t := ahead.nextVisible(); t.kind != word || ahead.lower(t) != w {
			return false
		}
	}
	*l = ahead
	return true
}

// skipWords moves past those of these words that follow.
func (l *lexer) skipWords(words ...string) {
	for _, w := range words {
		l.takeWords(w)
	}
}

// objectName moves past a name, which may have several parts, and returns it as it is written. It returns "" if none follows.
func (l *lexer) objectName() string {
	var name strings.Builder
	for {
		ahead := *l
		t := ahead.nextVisible()
		if t.kind != word && t.kind != quoted {
			return name.String()
		}
		name.WriteString(l.src[t.start:t.end])
		*l = ahead
		if ahead.nextVisible().symbol != '.' {
			return name.String()
		}
		name.WriteByte('.')
		*l = ahead
	}
}

// parenthesis moves past what is in parentheses, if they follow, and reports whether it has a word.
func (l *lexer) parenthesis(name string) (found bool) {
	ahead := *l
	if ahead.nextVisible().symbol != '(' {
		return false
	}
	for {
		t := ahead.nextVisible()
		found = found || t.kind == word && ahead.lower(t) == name
		if t.kind == end || t.symbol == ')' {
			*l = ahead
			return found
		}
	}
}
