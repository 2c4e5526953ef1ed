package link

import (
	"strings"

	"github.com/pgprod/pgprod/internal/sqlsummary"
)

// A visit is what one borrower has done on a connection, as far as it tells whether something was left in the session
// that nobody could use: db.Exec("set search_path to other") gives its connection back at once, and the next statement
// runs on another, or on this one after it was cleaned.
type visit struct {
	ran   int    // statements, but for those that begin and end a transaction
	sql   string // of the last of them
	tag   string // of the last of them, "" if it failed
	shown bool   // the caller had the *pgx.Conn, and may have done what isn't seen here
}

// began is called for each statement before it is sent.
func (v *visit) began(kind, sql string) {
	switch {
	case kind == "PREPARE", isCommit(sql):
	case sql == "rollback":
		v.ran = 0 // whatever it was is undone
	default:
		v.ran++
		v.sql, v.tag = sql, ""
	}
}

// ended is called for each statement that has ended, with its command tag.
func (v *visit) ended(kind, sql, tag string) {
	if kind != "PREPARE" && !isCommit(sql) {
		v.tag = tag
	}
}

// isCommit reports whether a statement only begins or commits a transaction. The texts are pgx's own.
func isCommit(sql string) bool { return sql == "commit" || strings.HasPrefix(sql, "begin") }

// lasting is what a statement left in its session for later ones, and where it belongs; nil for nothing, and for what
// can't be told by looking at the tag and the first words.
func (v *visit) lasting() *Remedy {
	switch {
	case v.ran != 1 || v.shown:
		return nil // a session that others used after it, or that somebody has set and set back
	case v.tag == "SET":
		if isSetting(v.sql) {
			return &remedies.setting
		}
	case v.tag == "LISTEN":
		return &remedies.listen
	case v.tag == "PREPARE":
		return &remedies.prepared
	case v.tag == "CREATE TABLE":
		if isTemporary(v.sql) {
			return &remedies.temporary
		}
	case strings.HasPrefix(v.tag, "SELECT"):
		return lastingSelect(v.sql)
	}
	return nil
}

// isSetting reports whether a text consists of nothing but settings that outlive their transaction, and takes none back.
func isSetting(sql string) bool {
	text := strings.ToLower(strings.TrimRight(sql, "; \t\r\n"))
	if strings.HasSuffix(text, "default") || strings.HasSuffix(text, "none") {
		return false
	}
	for one := range sqlsummary.Split(sql) {
		if !marks(one) {
			return false
		}
	}
	return true
}

// isTemporary reports whether CREATE TABLE makes a temporary table.
func isTemporary(sql string) bool {
	first, second := sqlsummary.FirstWords(sql)
	if !strings.EqualFold(first, "create") {
		return false
	}
	switch strings.ToLower(second) {
	case "temp", "temporary", "local", "global":
		return true
	}
	return false
}

// lastingSelect is for what looks like a query: a call of a function that changes the session, or CREATE TEMP TABLE … AS.
func lastingSelect(sql string) *Remedy {
	const selects = "select "
	switch {
	case sql == "" || sql[0]|0x20 != 's':
		if isTemporary(sql) {
			return &remedies.temporary
		}
	case len(sql) < len(selects) || !strings.EqualFold(sql[:len(selects)], selects):
	default:
		call := strings.ToLower(sql[len(selects):min(len(sql), 200)])
		call = strings.TrimPrefix(strings.TrimLeft(call, " \t\r\n"), "pg_catalog.")
		switch {
		case strings.HasPrefix(call, "set_config(") && strings.Contains(call, "false"):
			return &remedies.setting
		case strings.HasPrefix(call, "pg_advisory_lock"), strings.HasPrefix(call, "pg_try_advisory_lock"):
			return &remedies.lock
		}
	}
	return nil
}

// A Remedy says what doesn't outlive its statement, and where it belongs.
type Remedy struct{ What, Instead string }

var remedies = struct{ setting, listen, prepared, temporary, lock Remedy }{
	setting: Remedy{"a setting", "for every session: server_settings, or a run-time parameter in the DSN; for a transaction: SET LOCAL in it; " +
		"for several statements: a *sql.Conn, on which it lasts until Close"},
	listen:    Remedy{"LISTEN", "LISTEN and WaitForNotification in one call of pgprod.Raw"},
	prepared:  Remedy{"PREPARE", "db.Prepare, or none: each text is prepared at its first use"},
	temporary: Remedy{"a temporary table", "a *sql.Conn, on which it lasts until Close; or a transaction, with ON COMMIT DROP"},
	lock:      Remedy{"an advisory lock", "pg_advisory_xact_lock in a transaction; or a *sql.Conn that is held as long as the lock shall be"},
}

// Left ends a visit: if its borrower did nothing but to leave something in the session, of no use to anybody, it returns what
// that is and the statement without its literals. Otherwise it returns nil.
func (c *Conn) Left() (left *Remedy, text string) {
	v := c.visit
	c.visit = visit{}
	if left = v.lasting(); left != nil {
		text = c.target.Summary(v.sql).Text
	}
	return left, text
}
