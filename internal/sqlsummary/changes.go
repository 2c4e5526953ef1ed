package sqlsummary

import "strings"

// A Change says how a statement may change which objects the names in other statements stand for, and so whether statements
// that were prepared before are still right. It is a set of bits; 0: it changes nothing of that.
type Change uint8

const (
	// Schema: the statement may create, alter or drop objects that all sessions see: tables, types, functions.
	Schema Change = 1 << iota
	// Unseen: the text doesn't say what the statement changes: DO, CALL, DISCARD.
	Unseen
	// Path: the statement sets search_path, or the role, whose name may be part of the path.
	Path
	// PathByArgument: the statement sets a setting whose name is an argument, set_config($1, …), and may be a Path.
	PathByArgument
	// Temporary: the statement creates an object that only this session sees, and that hides others of its name.
	Temporary
	// Session: what the statement changes in the session, by the bits above, doesn't end with the transaction.
	Session
)

// ChangeOf returns the Change of a text with one statement. It doesn't know what the functions do that the statement calls.
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

// lower is the text of a token in lower case, without double quotes.
func (l *lexer) lower(t token) string {
	return strings.ToLower(strings.Trim(l.src[t.start:t.end], `"`))
}

// created is the Change of CREATE, behind that word. TEMPORARY, or the schema pg_temp, comes before the end of the object's
// name.
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

// isTemporary reports whether a word in CREATE says that only the session sees the object.
func (l *lexer) isTemporary(t token) bool {
	switch l.lower(t) {
	case "temp", "temporary", "pg_temp":
		return true
	}
	return false
}

// set is the Change of SET and RESET, behind that word.
func (l *lexer) set() Change {
	change := Session
	for {
		t := l.nextVisible()
		switch l.lower(t) {
		case "local":
			change = 0
		case "session": // SET SESSION search_path, or SET SESSION AUTHORIZATION: the next word decides
		case "search_path", "schema", "role", "authorization", "all":
			return change | Path
		default:
			return 0
		}
	}
}

// inQuery is the Change of a query, whose first word is before: by SELECT … INTO, and by calls of set_config.
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

// into is the Change of SELECT … INTO, behind INTO. It looks ahead on a copy of the lexer.
func (l lexer) into() Change {
	for range 2 { // of LOCAL TEMPORARY the second word counts
		if l.isTemporary(l.nextVisible()) {
			return Temporary | Session
		}
	}
	return Schema
}

// setConfig is the Change of a call of set_config, behind that word. It looks ahead on a copy of the lexer.
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

// IsPath reports whether a setting, whose name is in lower case, has an influence on where the server looks for names.
func IsPath(name string) bool {
	return name == "search_path" || name == "role" || name == "session_authorization"
}

// isLocal is 0 if the third argument of set_config is true, so that the setting ends with the transaction; else Session.
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
