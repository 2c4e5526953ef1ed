package oracle

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod"
)

// An observation is what a program sees of one step, as facts in the order in which they were seen.
type observation struct{ facts []fact }

// A fact is one thing that was seen: a row, a number, an error.
type fact struct {
	name string
	text string
	err  error    // what an error's text was made of, nil if there was none
	is   []string // what it is, see kinds
}

func (f fact) String() string { return f.name + ": " + f.text }

// note adds a fact.
func (o *observation) note(name, format string, args ...any) {
	o.facts = append(o.facts, fact{name: name, text: fmt.Sprintf(format, args...)})
}

// fault adds an error, or that there was none.
func (o *observation) fault(name string, err error) {
	o.facts = append(o.facts, fact{name: name, text: describe(err), err: err, is: kinds(err)})
}

// skip notes that a step had nothing to do.
func (o *observation) skip(format string, args ...any) { o.note("skipped", format, args...) }

// find returns the fact of a name, nil if there is none.
func (o *observation) find(name string) *fact {
	for i := range o.facts {
		if o.facts[i].name == name {
			return &o.facts[i]
		}
	}
	return nil
}

// failure is the first error among the facts.
func (o *observation) failure() error {
	for _, f := range o.facts {
		if f.err != nil {
			return f.err
		}
	}
	return nil
}

func (o *observation) lines() []string {
	lines := make([]string, len(o.facts))
	for i, f := range o.facts {
		lines[i] = f.String()
	}
	return lines
}

func (o *observation) String() string { return strings.Join(o.lines(), "\n") }

// sentinels are the errors that a program may ask for with errors.Is.
var sentinels = []struct {
	name string
	err  error
}{
	{"context.Canceled", context.Canceled},
	{"context.DeadlineExceeded", context.DeadlineExceeded},
	{"sql.ErrNoRows", sql.ErrNoRows},
	{"sql.ErrTxDone", sql.ErrTxDone},
	{"sql.ErrConnDone", sql.ErrConnDone},
	{"driver.ErrBadConn", driver.ErrBadConn},
	{"driver.ErrSkip", driver.ErrSkip},
	{"pgx.ErrTxCommitRollback", pgx.ErrTxCommitRollback},
	{"pgx.ErrTxClosed", pgx.ErrTxClosed},
	{"pgprod.ErrCommitUnknown", pgprod.ErrCommitUnknown},
	{"pgprod.ErrPoolTimeout", pgprod.ErrPoolTimeout},
	{"io.EOF", io.EOF},
	{"errValuer", errValuer},
	{"errScanner", errScanner},
}

const timeout = "a timeout"

// kinds are the names of the sentinels that an error is, and whether it is a timeout to pgx.
func kinds(err error) (is []string) {
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			is = append(is, s.name)
		}
	}
	if pgconn.Timeout(err) && !errors.Is(err, context.Canceled) { // of which pgx says the same, by the way that it ends a call
		is = append(is, timeout)
	}
	return is
}

// sqlState is the SQLSTATE of an error, "" if the server didn't send it.
func sqlState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// describe is all of an error that a program can ask for, in one line.
func describe(err error) string {
	if err == nil {
		return "none"
	}
	text := strconv.Quote(withoutOIDs(beforehand.ReplaceAllString(err.Error(), "")))
	if is := kinds(err); len(is) > 0 {
		text += " is " + strings.Join(is, ", ")
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		text += " " + describeWord(pg)
	}
	return text
}

const lockTimeout = "55P03"

// describeWord is the server's word, without the places in its sources.
func describeWord(pg *pgconn.PgError) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %q", pg.Severity, pg.Code, withoutOIDs(pg.Message))
	for _, field := range [...]struct{ name, text string }{
		{"detail", pg.Detail}, {"hint", pg.Hint}, {"where", pg.Where}, {"internal", pg.InternalQuery}, {"schema", pg.SchemaName},
		{"table", pg.TableName}, {"column", pg.ColumnName}, {"type", pg.DataTypeName}, {"constraint", pg.ConstraintName},
	} {
		if field.text != "" {
			fmt.Fprintf(&b, " %s %q", field.name, withoutOIDs(field.text))
		}
	}
	if pg.Position != 0 && pg.Code != lockTimeout { // which has one only if the statement has to be prepared yet
		fmt.Fprintf(&b, " at %d", pg.Position)
	}
	return b.String()
}

// beforehand is what pgx says in front of an error if it had something else to do before the statement, which depends on what
// an earlier program has done on the connection.
var beforehand = regexp.MustCompile(`^(statement description failed|failed to deallocate cached statement\(s\)): `)

// The OIDs of what a program creates are not the same in two databases.
var oid = regexp.MustCompile(`\b(OID|oid|type|unknown oid) (\d{5,})\b`)

func withoutOIDs(text string) string { return oid.ReplaceAllString(text, "$1 <oid>") }

// show is a value as database/sql gives it out, with its type.
func show(v any) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case []byte:
		return fmt.Sprintf("[]byte %q", shorten(string(v)))
	case string:
		return fmt.Sprintf("%q", shorten(v))
	case time.Time:
		return "time " + v.Format(time.RFC3339Nano) + " " + v.Location().String()
	default:
		return fmt.Sprintf("%T %v", v, v)
	}
}

func shorten(s string) string {
	const enough = 120
	if len(s) <= enough {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes)", s[:enough], len(s))
}

// columns notes all that the columns of a result say of themselves.
func (o *observation) columns(rows *sql.Rows) {
	names, err := rows.Columns()
	if err != nil {
		o.fault("columns", err)
		return
	}
	types, err := rows.ColumnTypes()
	if err != nil {
		o.fault("column types", err)
		return
	}
	for i, c := range types {
		o.note("column", "%q %s", names[i], describeColumn(c))
	}
}

var onlyDigits = regexp.MustCompile(`^\d{5,}$`)

func describeColumn(c *sql.ColumnType) string {
	name := c.DatabaseTypeName()
	if onlyDigits.MatchString(name) {
		name = "<oid>"
	}
	text := fmt.Sprintf("%q %s %v", c.Name(), name, c.ScanType())
	if n, ok := c.Length(); ok {
		text += fmt.Sprintf(" length %d", n)
	}
	if p, s, ok := c.DecimalSize(); ok {
		text += fmt.Sprintf(" decimal %d, %d", p, s)
	}
	if null, ok := c.Nullable(); ok {
		text += fmt.Sprintf(" nullable %v", null)
	}
	return text
}
