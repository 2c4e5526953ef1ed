// Package pgerror is what pgprod knows of the errors of PostgreSQL's servers, of the poolers before them, and of pgx: which
// SQLSTATE means what, and which conclusion may be drawn from it. It decides nothing on its own: it holds no connection and
// no pool, and all of it can be tested without a server.
//
//	sqlstate.go  the SQLSTATEs, and what their classes are about
//	session.go   what a failure says of the session and of the server
//	tx.go        what it says of a transaction and its COMMIT
//	plan.go      whether a prepared statement has become outdated
//	report.go    how a failed statement, or a notice, is to be reported
//	prospect.go  whether connecting may succeed if it is tried again
//	advice.go    what to look at when it failed
//	timeout.go   pgx's own error for a deadline that has passed
package pgerror

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// From returns what the server, or a pooler before it, said, if that is in err or among what err wraps. It is nil if
// nothing of that kind is there: then err is the network's, pgx's, the context's or the application's.
//
// The functions of this package that take an error look into it in this way.
func From(err error) *pgconn.PgError {
	pg, _ := errors.AsType[*pgconn.PgError](err)
	return pg
}
