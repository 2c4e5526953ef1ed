package instruments

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/sqlsummary"
)

const (
	canceled       = "canceled"
	timeout        = "timeout"
	connectionLost = "connection_lost"
	abandoned      = "abandoned"
)

// ErrAbandoned is the failure of an operation of which nobody saw the end.
var ErrAbandoned = errors.New("the connection was given back in the middle of the statement")

// sqlState is what *pgconn.PgError implements.
type sqlState interface {
	error
	SQLState() string
}

// ErrorType is the error's class for error.type: the SQLSTATE if the server gave one, else canceled, timeout,
// connection_lost or abandoned, else the Go type. It has few values, whatever happens.
func ErrorType(err error) string {
	var state sqlState
	var netErr net.Error
	switch {
	case errors.As(err, &state):
		return state.SQLState()
	case err == ErrAbandoned:
		return abandoned
	case errors.Is(err, context.Canceled):
		return canceled
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return timeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, pgconn.ErrConnClosed), errors.As(err, &netErr):
		return connectionLost
	}
	return fmt.Sprintf("%T", err)
}

// statusCode is the SQLSTATE, or "".
func statusCode(err error) string {
	var state sqlState
	if errors.As(err, &state) {
		return state.SQLState()
	}
	return ""
}

// Describe is the message for a span's status or a line of log: the server's without the SQLSTATE, which has an
// attribute of its own. The caller gets the error as it is; here what may be shown is a list (sayings), and the rest is
// hidden, since it may hold a value. sql is the text as the caller wrote it, before pgx put any value into it, "" if it
// isn't known: the names that stand in it may be shown.
func Describe(err error, sql string) string {
	var login *pgconn.ConnectError
	switch pg := pgerror.From(err); {
	case errors.As(err, &login) && pg != nil:
		return pg.Message // of the DSN: no statement was there yet, and no value
	case login != nil:
		return login.Error()
	case pg != nil:
		return describeServer(pg, sql)
	}
	return describeClient(err, sql)
}

// describeServer is the server's message as far as it may be shown.
func describeServer(pg *pgconn.PgError, sql string) string {
	switch {
	case pg.Routine == "exec_stmt_raise" && pg.SeverityUnlocalized == "WARNING":
		return "a function raised a warning"
	case pg.Routine == "exec_stmt_raise", pg.Routine == "exec_stmt_assert":
		return "a function raised an exception" // whose message is whatever its author put together
	}
	shown, ok := say(pg.Message, func(kind byte, part string) bool { return mayShow(kind, part, pg, sql) })
	if ok {
		return shown
	}
	return pgerror.Subject(pg) + notShown
}

const notShown = " (the message is not shown: it may hold a value)"

// describeClient is the text of an error that didn't come from the server. pgx's encoding errors quote the argument, and
// an application's own functions may say anything.
func describeClient(err error, sql string) string {
	var network *net.OpError
	if text, ok := say(err.Error(), func(kind byte, part string) bool { return mayShow(kind, part, &pgconn.PgError{}, sql) }); ok {
		return text
	}
	switch {
	case err == ErrAbandoned:
		return err.Error()
	case errors.As(err, &network):
		return network.Error()
	}
	for _, known := range []error{context.Canceled, context.DeadlineExceeded, io.ErrUnexpectedEOF, io.EOF, net.ErrClosed, pgconn.ErrConnClosed} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return fmt.Sprintf("an error of type %T%s", err, notShown)
}

// say is a message with the parts that may be shown, if its form is a known one.
func say(message string, may func(kind byte, part string) bool) (string, bool) {
	for _, s := range shapes() {
		parts, ok := s.match(message)
		if !ok {
			continue
		}
		return s.fill(parts, func(kind byte, part string) string {
			if may(kind, part) {
				return part
			}
			return "…"
		}), true
	}
	return "", false
}

// mayShow reports whether a part of a message that stands for a placeholder of this kind is no value.
func mayShow(kind byte, part string, pg *pgconn.PgError, sql string) bool {
	switch kind {
	case 'n':
		return sqlsummary.Has(sql, part, nil)
	case 'a':
		n, err := strconv.Atoi(part)
		return err == nil && sqlsummary.Has(sql, "$"+strconv.Itoa(n+1), nil)
	case 't':
		return sqlsummary.Has(sql, part, typeWords)
	case 'o':
		return part != "" && slices.Contains(objects(pg), part) || sqlsummary.Has(sql, part, nil)
	case 's':
		return !strings.ContainsAny(sql, `'"`) && !strings.Contains(sql, "$$") && sqlsummary.Has(sql, part, nil)
	}
	return false
}

// objects are the names that an error has fields for, if the server itself has filled them.
func objects(pg *pgconn.PgError) []string {
	if !slices.Contains(namers, pg.File) {
		return nil
	}
	return []string{pg.ConstraintName, pg.TableName, pg.ColumnName, pg.DataTypeName}
}

// namers are the server's source files that fill these fields. A function's RAISE, or another language's raising, may
// fill them with anything, and says that it is of a file of its own.
var namers = []string{"nbtinsert.c", "tuplesort.c", "tuplesortvariants.c", "execIndexing.c", "execMain.c", "execPartition.c",
	"execExprInterp.c", "ri_triggers.c", "domains.c", "tablecmds.c", "typecmds.c"}

// Constraint is the name of the constraint that a statement broke, "" if there is none or if it isn't the server that
// names it.
func Constraint(pg *pgconn.PgError) string {
	if !slices.Contains(namers, pg.File) {
		return ""
	}
	return pg.ConstraintName
}
