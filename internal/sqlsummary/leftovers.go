package sqlsummary

import "strings"

// Left says what a statement may leave behind in its session. It is a set of bits; 0: nothing.
type Left uint16

const (
	// LeftSettings are run-time parameters.
	LeftSettings Left = 1 << iota
	// LeftRole is the role, or the session's user.
	LeftRole
	// LeftLocks are advisory locks of the session.
	LeftLocks
	// LeftTables are temporary tables and other objects in the schema pg_temp.
	LeftTables
	// LeftCursors are cursors WITH HOLD.
	LeftCursors
	// LeftNames are statements that were prepared by the SQL command PREPARE.
	LeftNames
	// LeftListening are subscriptions by LISTEN.
	LeftListening
	// LeftSequences are what currval and lastval return. Statements that only leave these are taken to leave nothing.
	LeftSequences
	// LeftForgotten: the statement has deallocated all prepared statements, those included that a driver relies on.
	LeftForgotten

	// LeftAnything is all that can be left behind in the dark, by DO, by CALL, and by functions.
	LeftAnything = LeftForgotten - 1
)

// LeftBy returns what a text with one statement may leave behind. It doesn't know what the functions do that the statement
// calls.
func LeftBy(sql string) Left {
	l := lexer{src: sql}
	t := l.nextVisible()
	switch first := l.lower(t); first {
	case "do", "call":
		return LeftAnything
	case "set", "reset":
		return l.leftBySet()
	case "listen":
		return LeftListening
	case "prepare":
		if l.lower(l.nextVisible()) == "transaction" {
			return 0
		}
		return LeftNames
	case "deallocate", "discard":
		return l.leftByDiscard()
	case "declare":
		return l.leftByDeclare()
	}
	left := l.leftByCalls(t)
	if ChangeOf(sql)&Temporary != 0 {
		left |= LeftTables
	}
	return left
}

// leftBySet is what SET and RESET leave, behind that word.
func (l *lexer) leftBySet() Left {
	t := l.nextVisible()
	if l.lower(t) == "session" {
		t = l.nextVisible()
	}
	switch l.lower(t) {
	case "local", "transaction", "constraints":
		return 0
	case "role", "authorization":
		return LeftRole
	}
	return LeftSettings
}

// leftByDiscard is what DISCARD and DEALLOCATE leave, behind that word.
func (l *lexer) leftByDiscard() Left {
	t := l.nextVisible()
	if l.lower(t) == "prepare" {
		t = l.nextVisible()
	}
	if t.key == kwAll {
		return LeftForgotten
	}
	return 0
}

// leftByDeclare is what DECLARE leaves, behind that word.
func (l *lexer) leftByDeclare() (left Left) {
	for before := ""; ; {
		t := l.nextVisible()
		if t.kind == end || t.key == kwFor {
			return left | l.leftByCalls(t)
		}
		word := l.lower(t)
		if before == "with" && word == "hold" {
			left = LeftCursors
		}
		before = word
	}
}

// leftByCalls is what functions leave that are called in the rest of a statement, from t on: set_config, and those that take
// advisory locks for the session.
func (l *lexer) leftByCalls(t token) (left Left) {
	for ; t.kind != end; t = l.nextVisible() {
		if t.kind != word && t.kind != quoted {
			continue
		}
		switch l.lower(t) {
		case "set_config":
			left |= l.leftBySetConfig()
		case "pg_advisory_lock", "pg_advisory_lock_shared", "pg_try_advisory_lock", "pg_try_advisory_lock_shared":
			left |= LeftLocks
		}
	}
	return left
}

// leftBySetConfig is what a call of set_config leaves, behind that word. It looks ahead on a copy of the lexer.
func (l lexer) leftBySetConfig() Left {
	if l.nextVisible().symbol != '(' {
		return 0
	}
	name := l.nextVisible()
	left := LeftSettings | LeftRole
	if name.kind == literal {
		switch strings.ToLower(strings.Trim(l.src[name.start:name.end], "'")) {
		case "role", "session_authorization":
		default:
			left = LeftSettings
		}
	}
	if l.isLocal() == 0 {
		return 0
	}
	return left
}
