package pool

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// outdated reports whether a statement has failed that pgx had prepared or described before, without having been
// executed, in a way that a change of the schema since then may explain. To be sent again it is prepared anew: pgx
// forgets what has failed.
//
// Either the server has refused it before it answered that its parameters are bound, which comes before any execution,
// outside of a transaction that the refusal would have ended; or pgx could not encode an argument for the type that its
// parameter had, and has sent nothing.
func (c *conn) outdated(err error) bool {
	if !c.cached || c.anew || c.pg.IsClosed() || c.pg.IsBusy() {
		return false
	}
	pg, refused := errors.AsType[*pgconn.PgError](err)
	if refused {
		return c.pg.TxStatus() == 'I' && c.tap.Refused() && mayBeOutdated(pg)
	}
	return c.tap.Mark() == c.mark && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// mayBeOutdated reports whether the server's reason for refusing a statement may be that it was prepared for another
// schema.
func mayBeOutdated(pg *pgconn.PgError) bool {
	switch pg.Code {
	case "0A000", // cached plan must not change result type
		"08P01", // bind message has … result formats but query has … columns
		"26000", // prepared statement does not exist: somebody else has deallocated it
		"XX000": // cache lookup failed for type …
		return true
	}
	// A value that the type of a parameter doesn't have, or what the statement names doesn't exist, or not for such a type.
	return strings.HasPrefix(pg.Code, "22") || strings.HasPrefix(pg.Code, "42")
}
