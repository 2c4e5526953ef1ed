package pgerror

import "github.com/jackc/pgx/v5/pgconn"

// IsExpected reports whether a statement failed in a way that an application has to expect from time to time, however right
// its code is: it broke a constraint, or its transaction was rolled back in favour of another one.
func IsExpected(err error) bool { return expected.has(err) }

var expected = setOf(classConstraint, classRollback)

// HitsAll reports whether a statement failed because of something that isn't in the statement, so that other statements fail
// as well: the server or the transaction is read-only, the transaction has failed already, or the server lacks resources,
// shuts down or is gone. For a statement that was cancelled because it took too long, it reports false.
func HitsAll(err error) bool { return common.has(err) && !IsCanceled(err) }

var common = setOf(ReadOnlyTransaction, InFailedTransaction, classOperator, classResources, classConnection)

// IsWarning reports whether a notice is of severity WARNING. Servers before 9.6, and some that only speak PostgreSQL's
// protocol, send no untranslated severity; for these the translated one is looked at.
func IsWarning(n *pgconn.Notice) bool {
	return n.SeverityUnlocalized == "WARNING" || n.SeverityUnlocalized == "" && n.Severity == "WARNING"
}

// IsUnknownThere reports whether the server doesn't know what it was asked, or forbids it, as it will the next time.
func IsUnknownThere(err error) bool { return unknownThere.has(err) }

var unknownThere = setOf(FeatureNotSupported, classSyntaxOrRight)
