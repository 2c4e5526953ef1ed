package pgerror

import "github.com/jackc/pgx/v5/pgconn"

// IsExpected reports whether a statement failed in a way that an application has to expect from time to time, however right
// its code is: it broke a constraint, or its transaction was rolled back in favour of another one.
func IsExpected(err error) bool { return expected.has(err) }

var expected = setOf(classConstraint, classRollback)

// HitsAll reports whether a failure has a cause that isn't in the statement, so that other statements fail for it as well and
// one failure tells as much as the next: the server or the transaction is read-only, the transaction has failed already, the
// server is out of something, going or gone. A statement that took too long and was cancelled is itself the cause.
func HitsAll(err error) bool { return common.has(err) && !IsCanceled(err) }

var common = setOf(ReadOnlyTransaction, InFailedTransaction, classOperator, classResources, classConnection)

// IsWarning reports whether a notice is of severity WARNING. Servers before 9.6, and some that only speak PostgreSQL's
// protocol, have no severity that isn't translated.
func IsWarning(n *pgconn.Notice) bool {
	return n.SeverityUnlocalized == "WARNING" || n.SeverityUnlocalized == "" && n.Severity == "WARNING"
}
