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

	"github.com/pgprod/pgprod/internal/hosts"
	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/sqlsummary"
	"github.com/pgprod/pgprod/internal/wire"
)

// The values of error.type that are neither a SQLSTATE nor a Go type.
const (
	canceled  = "canceled"
	timeout   = "timeout"
	abandoned = "abandoned"
	// ConnectionLost is the error.type of what was under way when its connection ended.
	ConnectionLost = "connection_lost"
	// HostSilent is the error.type of what was under way when its connection was cut since its host says nothing any more.
	HostSilent = "host_silent"
	// PathDead is the error.type of what was under way when its connection ended, by us or by the system, since nothing that was sent
	// on it was acknowledged.
	PathDead = "path_dead"
)

// ErrAbandoned is the error of an operation that was still under way when its connection was given back.
var ErrAbandoned = errors.New("the connection was given back in the middle of the statement")

// sqlState is an error of the server; *pgconn.PgError implements it.
type sqlState interface {
	error
	SQLState() string
}

// ErrorType returns the value of error.type: the SQLSTATE if the error is the server's; else canceled, timeout,
// connection_lost, host_silent, path_dead or abandoned; else the Go type of the error. So the number of values is small. err must
// not be nil.
func ErrorType(err error) string {
	var state sqlState
	var netErr net.Error
	var silent *hosts.SilentError
	var path *hosts.PathError
	var givenUp *wire.GivenUpError
	switch {
	case errors.As(err, &state):
		return state.SQLState()
	case errors.As(err, &silent):
		return HostSilent
	case errors.As(err, &path), errors.As(err, &givenUp):
		return PathDead
	case err == ErrAbandoned:
		return abandoned
	case errors.Is(err, context.Canceled):
		return canceled
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return timeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, pgconn.ErrConnClosed), errors.As(err, &netErr):
		return ConnectionLost
	}
	return fmt.Sprintf("%T", err)
}

// statusCode is the SQLSTATE of an error, "" if the error isn't the server's.
func statusCode(err error) string {
	var state sqlState
	if errors.As(err, &state) {
		return state.SQLState()
	}
	return ""
}

// Describe returns the message of an error for a span's status or a line of log: without values, which error messages may
// quote, and without the SQLSTATE, which is an attribute of its own. The caller of a statement gets the error as it is.
//
// What may be shown is listed in messages. The rest is hidden. sql is the text as the caller wrote it, before pgx put any
// value into it, "" if it isn't known: names that are in it may be shown as well.
func Describe(err error, sql string) string {
	var login *pgconn.ConnectError
	switch pg := pgerror.From(err); {
	case errors.As(err, &login) && pg != nil:
		return pg.Message // there was no statement yet, and so no value
	case login != nil:
		return connectText(err, login)
	case pg != nil:
		return describeServer(pg, sql)
	}
	return describeClient(err, sql)
}

// connectText is the text of a failure to connect: all that pgx has said, if several hosts were tried, or else what it has.
func connectText(err error, login *pgconn.ConnectError) string {
	var several interface {
		error
		ConnectErrors()
	}
	if errors.As(err, &several) {
		return several.Error()
	}
	return login.Error()
}

// describeServer is Describe for an error of the server.
func describeServer(pg *pgconn.PgError, sql string) string {
	switch {
	case pg.Routine == "exec_stmt_raise" && pg.SeverityUnlocalized == "WARNING":
		return "a function raised a warning"
	case pg.Routine == "exec_stmt_raise", pg.Routine == "exec_stmt_assert":
		return "a function raised an exception" // whose message its author made, perhaps of values
	}
	shown, ok := say(pg.Message, func(kind byte, part string) bool { return mayShow(kind, part, pg, sql) })
	if ok {
		return shown
	}
	return pgerror.Subject(pg) + notShown
}

// notShown follows what is shown in place of a message.
const notShown = " (the message is not shown: it may hold a value)"

// describeClient is Describe for an error that isn't the server's. pgx's errors about an argument quote the argument, and
// those of an application's own types and functions may say anything.
func describeClient(err error, sql string) string {
	var network *net.OpError
	var silent *hosts.SilentError
	var path *hosts.PathError
	var givenUp *wire.GivenUpError
	if text, ok := say(err.Error(), func(kind byte, part string) bool { return mayShow(kind, part, &pgconn.PgError{}, sql) }); ok {
		return text
	}
	switch {
	case err == ErrAbandoned:
		return err.Error()
	case errors.As(err, &silent):
		return silent.Error()
	case errors.As(err, &path):
		return path.Error()
	case errors.As(err, &givenUp):
		return givenUp.Error()
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

// say returns a message of a known shape, with … in place of each part that may reports false for. ok is false if the
// message has none of the known shapes.
func say(message string, may func(kind byte, part string) bool) (shown string, ok bool) {
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

// mayShow reports whether a part of a message may be shown, by the kind of its placeholder; messages lists the kinds. sql is
// the statement, pg the error.
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

// objects are the names in the fields of an error, if they are from the server itself.
func objects(pg *pgconn.PgError) []string {
	if !slices.Contains(namers, pg.File) {
		return nil
	}
	return []string{pg.ConstraintName, pg.TableName, pg.ColumnName, pg.DataTypeName}
}

// namers are the server's source files whose errors have names of objects in their fields. A function in the database may
// raise an error with anything in these fields; it then has another file, that of the function's language.
var namers = []string{"nbtinsert.c", "tuplesort.c", "tuplesortvariants.c", "execIndexing.c", "execMain.c", "execPartition.c",
	"execExprInterp.c", "ri_triggers.c", "domains.c", "tablecmds.c", "typecmds.c"}

// Constraint returns the name of the constraint that a statement has violated; "" if the error is about something else, or
// if the name isn't from the server itself.
func Constraint(pg *pgconn.PgError) string {
	if !slices.Contains(namers, pg.File) {
		return ""
	}
	return pg.ConstraintName
}
