package link

import (
	"strings"

	"github.com/pgprod/pgprod/internal/sqlsummary"
)

// A visit is the time from when a borrower gets the connection to when it gives it back. What the borrower has done is noted
// to find a frequent mistake: a statement whose effect is lost with the visit. db.Exec("set search_path to other"), for
// example, gives its connection back at once, and the next statement runs on another one that doesn't have the setting.
type visit struct {
	ran   int             // how many statements have run, without those that begin and end a transaction
	sql   string          // the text of the last of them
	tag   string          // the command tag of the last of them; "" if it failed
	left  sqlsummary.Left // what they are seen to have left in the session
	shown bool            // the borrower has had the *pgx.Conn, by which statements may run that aren't seen here
}

// began is called for each statement before it is sent. kind and sql are as in Statement.
func (v *visit) began(kind, sql string) {
	switch {
	case kind == "PREPARE", isCommit(sql):
	case sql == "rollback":
		v.ran = 0 // what has run is undone
	default:
		v.ran++
		v.sql, v.tag = sql, ""
	}
}

// ended is called for each statement that has succeeded, with its command tag.
func (v *visit) ended(kind, sql, tag string) {
	if kind != "PREPARE" && !isCommit(sql) {
		v.tag = tag
	}
}

// isCommit reports whether a statement only begins or commits a transaction. These are the texts that pgx sends.
func isCommit(sql string) bool { return sql == "commit" || strings.HasPrefix(sql, "begin") }

// unkept returns the remedy if the visit consisted of a single statement that has left something in the session for later
// statements, of which there were none. It is nil if there is no such thing, or if the tag and the text don't show it.
func (v *visit) unkept() *Remedy {
	if v.ran != 1 || v.shown || v.left == 0 {
		return nil // later statements of the visit have used it, or may have
	}
	word, _, _ := strings.Cut(v.tag, " ")
	switch {
	case word != "SET" && !isSingle(v.sql):
		return nil // a later statement of the same text may have used it
	case word == "SET":
		if !setsBack(v.sql) {
			return &remedies.setting
		}
	case word == "LISTEN":
		return &remedies.listen
	case word == "PREPARE":
		return &remedies.prepared
	case v.left&sqlsummary.LeftTables != 0 && (v.tag == "CREATE TABLE" || word == "SELECT"): // the tag of CREATE TABLE AS
		return &remedies.temporary
	case word != "SELECT": // DO and CALL may leave anything, and perhaps nothing
		return nil
	case v.left&sqlsummary.LeftLocks != 0:
		return &remedies.lock
	case v.left&sqlsummary.LeftSettings != 0:
		return &remedies.setting
	}
	return nil
}

// setsBack reports whether a SET sets something back, to DEFAULT or NONE.
func setsBack(sql string) bool {
	text := strings.ToLower(strings.TrimRight(sql, "; \t\r\n"))
	return strings.HasSuffix(text, "default") || strings.HasSuffix(text, "none")
}

// A Remedy says what was left in a session where nobody can use it, and what to do instead, in words for a line of log.
type Remedy struct{ What, Instead string }

// remedies are all remedies, by what is left in the session.
var remedies = struct{ setting, listen, prepared, temporary, lock Remedy }{
	setting: Remedy{"a setting", "for every session: server_settings, or a run-time parameter in the DSN; for a transaction: SET LOCAL in it; " +
		"for several statements: a *sql.Conn, on which it lasts until Close"},
	listen:    Remedy{"LISTEN", "LISTEN and WaitForNotification in one call of pgprod.Raw"},
	prepared:  Remedy{"PREPARE", "db.Prepare, or none: each text is prepared at its first use"},
	temporary: Remedy{"a temporary table", "a *sql.Conn, on which it lasts until Close; or a transaction, with ON COMMIT DROP"},
	lock:      Remedy{"an advisory lock", "pg_advisory_xact_lock in a transaction; or a *sql.Conn that is held as long as the lock shall be"},
}

// Unkept is called after EndVisit. If the borrower's only statement has left something in the session that nobody can use,
// it returns the remedy, and the statement's text without its literals. Otherwise it returns nil. It forgets the visit.
func (c *Conn) Unkept() (left *Remedy, text string) {
	v := c.visit
	c.visit = visit{}
	if left = v.unkept(); left != nil {
		text = c.target.Summary(v.sql).Text
	}
	return left, text
}
