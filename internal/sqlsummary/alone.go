package sqlsummary

// ComputesNothing reports whether a text with one statement begins, ends or divides a transaction, or is another one for
// which the server takes no snapshot: SET, whatever it sets, LOCK, LISTEN and NOTIFY. Run-time parameters make no difference
// to these, and no query must be put in front of them: the server refuses SET TRANSACTION after a query, and a query after
// LOCK has to see what was committed while the lock was waited for.
func ComputesNothing(sql string) bool {
	l := lexer{src: sql}
	switch l.lower(l.nextVisible()) {
	case "begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "set", "lock", "listen", "unlisten", "notify":
		return true
	case "prepare":
		return l.lower(l.nextVisible()) == "transaction"
	}
	return false
}

// StandsAlone reports whether a text with one statement must not be executed behind another statement in the same
// transaction: because the server refuses it in a transaction, or because it may commit in its midst (CALL, DO). It knows the
// statements of PostgreSQL 18. In doubt, as with an index that is made concurrently on a partition, it reports true.
func StandsAlone(sql string) bool {
	l := lexer{src: sql}
	switch l.lower(l.nextVisible()) {
	case "vacuum", "call", "do", "cluster", "reindex":
		return true
	case "discard":
		return l.nextVisible().key == kwAll
	case "commit", "rollback": // PREPARED
		return l.lower(l.nextVisible()) == "prepared"
	case "create", "drop", "alter":
		switch l.lower(l.nextVisible()) {
		case "database", "tablespace", "subscription", "system":
			return true
		}
		return l.mentions("concurrently")
	}
	return false
}

// mentions reports whether a word is in the rest of a statement.
func (l *lexer) mentions(name string) bool {
	for t := l.nextVisible(); t.kind != end; t = l.nextVisible() {
		if t.kind == word && l.lower(t) == name {
			return true
		}
	}
	return false
}
