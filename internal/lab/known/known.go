// Package known is what a caller knows of a call by the error that it got, by which the tests of faults judge clients.
package known

import (
	"database/sql/driver"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod"
)

// An Outcome is what a caller knows of its call.
type Outcome byte

const (
	Acknowledged Outcome = iota
	Denied               // it was not done
	Unknown
)

// ByPgx is what a caller knows who knows pgx well. A FATAL counts as unknown: pgx doesn't say that it came in place of the
// statement's completion.
func ByPgx(err error) Outcome {
	if err == nil {
		return Acknowledged
	}
	if _, connecting := errors.AsType[*pgconn.ConnectError](err); connecting {
		return Denied
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.SeverityUnlocalized == "ERROR" {
		return Denied
	}
	if pgconn.SafeToRetry(err) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, pgx.ErrTxCommitRollback) {
		return Denied
	}
	return Unknown
}

// ByPgprod is for pgprod: what isn't said to be unknown was not done.
func ByPgprod(err error) Outcome {
	switch {
	case err == nil:
		return Acknowledged
	case errors.Is(err, pgprod.ErrCommitUnknown), strings.Contains(err.Error(), "whether it ran is unknown"):
		return Unknown
	}
	return Denied
}
