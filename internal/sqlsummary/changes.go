package sqlsummary

import "strings"

// Change is what a statement may change of what the names in other statements mean.
type Change uint8

const (
	// Schema: tables, types, functions.
	Schema Change = 1 << iota
	// Unseen: whatever is in the body of DO or of the procedure of CALL.
	Unseen
	// Path: search_path, or the role, whose name may be in it.
	Path
	// PathByArgument: a setting whose name is no literal: set_config($1, …).
	PathByArgument
	// Temporary: an object of the session's own, which hides others of its name.
	Temporary
	// Session: the change outlives the transaction.
	Session
)

// ChangeOf says what one statement may change of what the names in others mean. Functions that it calls aren't looked
// into.
func ChangeOf(sql string) Change {
	l := lexer{src: sql}
	t := l.nextVisible()
	for t.symbol == '(' {
		t = l.nextVisible()
	}
	switch t.key {
	case kwCreate:
		return l.created()
	case kwAlter, kwDrop, kwImport:
		return Schema
	case kwCall:
		return Unseen
	case kwSet:
		return l.set()
	case kwSelect, kwWith, kwValues, kwTable, kwInsert, kwUpdate, kwDelete, kwMerge:
		return l.inQuery(t)
	}
	switch l.lower(t) {
	case "do", "discard":
		return Unseen
	case "reset":
		return l.set()
	}
	return 0
}

// lower is the text of a word or name in lower case, without quotes.
func (l *lexer) lower(t token) string {
	return strings.ToLower(strings.Trim(l.src[t.start:t.end], `"`))
}

// created is what CREATE changes. TEMPORARY, or the schema of such objects, stands in front of the object's name.
func (l *lexer) created() Change {
	for {
		switch t := l.nextVisible(); {
		case t.kind == end, t.symbol == '(', t.key == kwAs:
			return Schema
		case l.isTemporary(t):
			return Temporary | Session
		}
	}
}

// isTemporary reports whether a word says that what is created is the session's own.
func (l *lexer) isTemporary(t token) bool {
	switch l.lower(t) {
	case "temp", "temporary", "pg_temp":
		return true
	}
	return false
}

// set is what SET and RESET change.
func (l *lexer) set() Change {
	change := Session
	for {
		t := l.nextVisible()
		switch l.lower(t) {
		case "local":
			change = 0
		case "session": // SESSION search_path, or SESSION AUTHORIZATION
		case "search_path", "schema", "role", "authorization", "all":
			return change | Path
		default:
			return 0
		}
	}
}

// inQuery is what a query changes that begins with a token: by SELECT … INTO, and by calls of set_config.
func (l *lexer) inQuery(before token) (change Change) {
	selects := before.key == kwSelect || before.key == kwWith
	for depth := 0; ; {
		t := l.nextVisible()
		switch {
		case t.kind == end:
			return change
		case t.symbol == '(':
			depth++
		case t.symbol == ')':
			depth--
		case t.key == kwInto && selects && depth == 0 && before.key != kwInsert && before.key != kwMerge:
			change |= l.into()
		case t.kind == word || t.kind == quoted:
			if l.lower(t) == "set_config" {
				change |= l.setConfig()
			}
		}
		before = t
	}
}

// into is what SELECT … INTO changes.
func (l lexer) into() Change {
	for range 2 { // LOCAL TEMPORARY
		if l.isTemporary(l.nextVisible()) {
			return Temporary | Session
		}
	}
	return Schema
}

// setConfig is what set_config changes, whose parenthesis comes next.
func (l lexer) setConfig() Change {
	if l.nextVisible().symbol != '(' {
		return 0
	}
	change := Path
	switch t := l.nextVisible(); t.kind {
	case literal:
		if !IsPath(strings.ToLower(strings.Trim(l.src[t.start:t.end], "'"))) {
			return 0
		}
	case param:
		change = PathByArgument
	}
	return change | l.isLocal()
}

// IsPath reports whether a setting, in lower case, has a part in where names are looked for.
func IsPath(name string) bool {
	return name == "search_path" || name == "role" || name == "session_authorization"
}

// isLocal is Session unless the third argument of set_config is true.
func (l *lexer) isLocal() Change {
	for depth, commas := 0, 0; ; {
		t := l.nextVisible()
		switch {
		case t.kind == end, t.symbol == ')' && depth == 0:
			return Session
		case t.symbol == '(':
			depth++
		case t.symbol == ')':
			depth--
		case t.symbol == ',' && depth == 0:
			commas++
		case commas == 2 && depth == 0 && strings.EqualFold(l.src[t.start:t.end], "true"):
			return 0
		}
	}
}
