package link

import (
	"database/sql/driver"
	"io"
	"reflect"

	"github.com/jackc/pgx/v5/stdlib"
)

// rows are the rows of one query: pgx's, with all their optional interfaces. Errors are explained on the way through,
// and panics become errors.
//
// Each query has its own, since a query without a row has ended by the time QueryContext returns: the next query may
// begin on the same connection while the caller still holds the rows of the first.
type rows struct {
	*stdlib.Rows
	c *Conn

	columns []column // of a query that has ended; nil while the result is being read
}

var (
	_ driver.Rows                           = (*rows)(nil)
	_ driver.RowsColumnTypeDatabaseTypeName = (*rows)(nil)
	_ driver.RowsColumnTypeLength           = (*rows)(nil)
	_ driver.RowsColumnTypePrecisionScale   = (*rows)(nil)
	_ driver.RowsColumnTypeScanType         = (*rows)(nil)
)

// column is what can be asked about one column of a result.
type column struct {
	name, typeName   string
	scanType         reflect.Type
	length           int64
	limited          bool // length is known
	precision, scale int64
	scaled           bool // precision and scale are known
}

// newRows wraps what pgx returned. Of a query that has ended it reads the columns at once: pgx keeps the description of
// one result per connection, and a query that follows replaces it.
func newRows(c *Conn, result *stdlib.Rows, ended bool) *rows {
	r := &rows{Rows: result, c: c}
	if !ended {
		return r
	}
	names := result.Columns()
	columns := make([]column, len(names))
	for i, name := range names {
		one := &columns[i]
		one.name, one.typeName, one.scanType = name, result.ColumnTypeDatabaseTypeName(i), result.ColumnTypeScanType(i)
		one.length, one.limited = result.ColumnTypeLength(i)
		one.precision, one.scale, one.scaled = result.ColumnTypePrecisionScale(i)
	}
	r.columns = columns
	return r
}

// ColumnTypeDatabaseTypeName implements driver.RowsColumnTypeDatabaseTypeName.
func (r *rows) ColumnTypeDatabaseTypeName(i int) string {
	if r.columns != nil {
		return r.columns[i].typeName
	}
	return r.Rows.ColumnTypeDatabaseTypeName(i)
}

// ColumnTypeScanType implements driver.RowsColumnTypeScanType.
func (r *rows) ColumnTypeScanType(i int) reflect.Type {
	if r.columns != nil {
		return r.columns[i].scanType
	}
	return r.Rows.ColumnTypeScanType(i)
}

// ColumnTypeLength implements driver.RowsColumnTypeLength.
func (r *rows) ColumnTypeLength(i int) (length int64, ok bool) {
	if r.columns != nil {
		return r.columns[i].length, r.columns[i].limited
	}
	return r.Rows.ColumnTypeLength(i)
}

// ColumnTypePrecisionScale implements driver.RowsColumnTypePrecisionScale.
func (r *rows) ColumnTypePrecisionScale(i int) (precision, scale int64, ok bool) {
	if r.columns != nil {
		one := r.columns[i]
		return one.precision, one.scale, one.scaled
	}
	return r.Rows.ColumnTypePrecisionScale(i)
}

// Columns implements driver.Rows. pgx remembers the names once it was asked. If the server's description of the result
// makes no sense there are none, and Next says so.
func (r *rows) Columns() []string {
	defer func() { r.survived(recover(), new(error)) }()
	return r.Rows.Columns()
}

// Next implements driver.Rows.
func (r *rows) Next(dest []driver.Value) (err error) {
	returned := false // asking it costs less than recover, and there may be many rows
	defer func() {
		if !returned {
			r.survived(recover(), &err)
		}
	}()
	err = r.Rows.Next(dest)
	returned = true
	return r.next(err)
}

// next is what the caller gets when pgx has returned err for the next row.
func (r *rows) next(err error) error {
	if err == nil || err == io.EOF && !r.unconfirmed() {
		return err
	}
	return r.c.Explain(err, false)
}

// unconfirmed reports whether the server has warned at the end of these rows that their statement, an INSERT … RETURNING
// say, is committed but not replicated.
func (r *rows) unconfirmed() bool { return r.columns == nil && r.c.stmt.outcome.unconfirmed != nil }

// Close implements driver.Rows.
func (r *rows) Close() (err error) {
	defer func() { r.survived(recover(), &err) }() // a tracer or a log handler is told of the statement's end
	if err := r.Rows.Close(); err != nil || r.unconfirmed() {
		return r.c.Explain(err, false)
	}
	return nil
}

// survived turns a panic that was recovered from, if there was one, into an error. The connection is not lent again.
func (r *rows) survived(panicked any, err *error) {
	if panicked == nil {
		return
	}
	r.c.dirty = true
	*err = newPanicError(panicked)
}
