package pgerror

import "strings"

// ServerAnswered reports whether what ended with err was ended by the server, with success (nil) or with an error: then the
// server was alive. Otherwise the connection broke, a context ended, or pgx refused.
func ServerAnswered(err error) bool { return err == nil || From(err) != nil }

// IsFatal reports whether the server has ended the session with err, by a FATAL or a PANIC. Servers before 9.6, and some that
// only speak PostgreSQL's protocol, have no severity that isn't translated.
func IsFatal(err error) bool {
	pg := From(err)
	if pg == nil {
		return false
	}
	severity := pg.SeverityUnlocalized
	if severity == "" {
		severity = pg.Severity
	}
	return severity == "FATAL" || severity == "PANIC"
}

// ServerLeaves is asked of the error by which a session ended. It reports whether the server's other sessions can't be
// trusted any more either: the server said that it shuts down, has crashed or is starting. When an administrator ends one
// session only, the server says the same as when it shuts down. If the end came without a word of the server's, the
// connection broke, and that of the others may have as well.
func ServerLeaves(err error) bool { return From(err) == nil || leaving.has(err) }

var leaving = setOf(AdminShutdown, CrashShutdown, CannotConnectNow)

// IsReadOnly reports whether a statement was refused because it writes, and either its transaction is read-only or the server
// takes no writes: it is a standby, or default_transaction_read_only is on.
func IsReadOnly(err error) bool { return readOnly.has(err) }

var readOnly = setOf(ReadOnlyTransaction)

// ServerIsFull reports whether the server refused a connection because max_connections, or a limit of the role's or of the
// database's, was reached: the server is alive.
func ServerIsFull(err error) bool { return full.has(err) }

var full = setOf(TooManyConnections)

// IsCanceled reports whether the server cancelled a statement: a cancel request came, or statement_timeout passed.
func IsCanceled(err error) bool { return canceled.has(err) }

var canceled = setOf(QueryCanceled)

// IsStatementTimeout reports whether it was the server's statement_timeout that ended a statement, not a cancel request. The
// SQLSTATE is the same for both. The text tells them apart, but only in English: where lc_messages is another language, this
// is false.
func IsStatementTimeout(err error) bool {
	return IsCanceled(err) && strings.Contains(From(err).Message, "statement timeout")
}
