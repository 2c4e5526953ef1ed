package instruments

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"

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
// attribute of its own. What may be a value is hidden, see describeServer. sql is the text that failed, "" if it isn't
// known. Of what the client says, only contexts and networks are quoted as they are: pgx's encoding errors quote the
// argument, and an application's own functions may say anything.
func Describe(err error, sql string) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return describeServer(pg, sql)
	}
	switch ErrorType(err) {
	case canceled, timeout, connectionLost:
		return err.Error()
	}
	return redact(err.Error())
}

// describeServer is the server's message without what may be a value.
func describeServer(pg *pgconn.PgError, sql string) string {
	switch {
	case pg.Routine == "exec_stmt_raise", inClass(pg, "P0", "38", "39"):
		return "a function raised an exception" // whose message is whatever its author put together
	case inClass(pg, "22"):
		return withoutNumbers(redact(pg.Message)) // data exceptions: get_byte's index
	case inClass(pg, "55", "58"), pg.Code == "42601", pg.Code == "57014":
		// Labels of enums, files, syntax errors, and a COPY that the client ended with its own words.
		return redact(pg.Message)
	case inClass(pg, "42", "3F") && !sqlsummary.NameAt(sql, int(pg.Position)):
		// A name that stood in a value and not in the statement: $1::regclass, nextval('…'), lo_get(4711).
		return withoutNumbers(redact(pg.Message))
	}
	return pg.Message
}

func inClass(pg *pgconn.PgError, classes ...string) bool {
	return slices.ContainsFunc(classes, func(class string) bool { return strings.HasPrefix(pg.Code, class) })
}

// redact cuts off what follows a colon, and hides what stands between the first and the last quote; the server's
// translations have quotes of their own.
func redact(message string) string {
	const quotes = "\"'`“”„«»「」"
	if at := strings.IndexAny(message, ":："); at >= 0 {
		message = message[:at]
	}
	from, to := strings.IndexAny(message, quotes), strings.LastIndexAny(message, quotes)
	if from < 0 {
		return message
	}
	_, width := utf8.DecodeRuneInString(message[to:])
	return message[:from] + "…" + message[to+width:]
}

// withoutNumbers replaces the numbers in a message, but not the digits of a word such as int4 or $1.
func withoutNumbers(message string) string {
	return number.ReplaceAllString(message, "$1…")
}

var number = regexp.MustCompile(`(^|[^\pL\pN_$])\pN[\pN.,]*`)
