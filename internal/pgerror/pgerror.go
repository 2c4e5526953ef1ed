// Package pgerror is what pgprod knows of the errors of PostgreSQL's servers, of the poolers before them, and of pgx: what
// each SQLSTATE means, and what may be concluded from it. It knows neither connections nor pools, whose code draws the
// conclusions, and can be tested without a server.
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

// From returns the error that the server, or a pooler before it, has sent, if err is one or wraps one. Otherwise it returns
// nil: then err comes from the network, from pgx, from a context or from the application.
//
// All functions of this package that take an error look for the server's error in this way.
func From(err error) *pgconn.PgError {
	pg, _ := errors.AsType[*pgconn.PgError](err)
	return pg
}

// WithCauses returns an error that has causes, none of which is nil, but a text of its own that doesn't consist of theirs.
func WithCauses(text string, causes ...error) error { return &withCauses{text, causes} }

type withCauses struct {
	text   string
	causes []error
}

func (e *withCauses) Error() string { return e.text }

// Unwrap returns the causes.
func (e *withCauses) Unwrap() []error { return e.causes }
