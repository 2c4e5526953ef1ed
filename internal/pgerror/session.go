package pgerror

import "strings"

// ServerAnswered reports whether the server has answered something that ended with err, by success (nil) or by an error,
// which shows that it was alive. Otherwise the connection broke, a context ended, or pgx sent nothing.
func ServerAnswered(err error) bool { return err == nil || From(err) != nil }

// IsFatal reports whether the server has ended the session with err, because its severity is FATAL or PANIC. Servers before
// 9.6, and some that only speak PostgreSQL's protocol, send no untranslated severity; for these the translated one is looked
// at.
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

// ServerLeaves reports whether the end of a session by err concerns the server's other sessions as well. It does if the
// server said that it shuts down, has crashed or is starting. (When an administrator ends a single session, the server says
// the same as when it shuts down.) It also does if the connection broke without an error from the server, since other
// connections may be broken too.
func ServerLeaves(err error) bool { return From(err) == nil || leaving.has(err) }

var leaving = setOf(AdminShutdown, CrashShutdown, CannotConnectNow)

// IsReadOnly reports whether a statement was refused because it writes, and either its transaction is read-only or the
// server takes no writes: it is a standby, or default_transaction_read_only is on.
func IsReadOnly(err error) bool { return readOnly.has(err) }

var readOnly = setOf(ReadOnlyTransaction)

// ServerIsFull reports whether the server refused a connection because max_connections, or a limit of the role's or of the
// database's, was reached. It shows that the server is alive.
func ServerIsFull(err error) bool { return full.has(err) }

var full = setOf(TooManyConnections)

// IsCanceled reports whether the server cancelled a statement, because of a cancel request or its statement_timeout.
func IsCanceled(err error) bool { return canceled.has(err) }

var canceled = setOf(QueryCanceled)

// IsLockTimeout reports whether the server gave up waiting for a lock.
func IsLockTimeout(err error) bool { return lockTimeout.has(err) }

var lockTimeout = setOf(LockNotAvailable)

// IsStatementTimeout reports whether it was the server's statement_timeout that ended a statement, not a cancel request. The
// SQLSTATE is the same for both. The text tells them apart, but only in English: where lc_messages is another language, this
// is false.
func IsStatementTimeout(err error) bool {
	return IsCanceled(err) && strings.Contains(From(err).Message, "statement timeout")
}
