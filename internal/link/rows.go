package link

import (
	"database/sql/driver"
	"io"
	"reflect"

	"github.com/jackc/pgx/v5/stdlib"
)

// rows are the driver.Rows of one query. They are pgx's, with all optional interfaces of these, but errors are explained and
// panics become errors.
//
// Each query has a value of its own. A query without a row has ended when QueryContext returns, so that the next query may
// begin on the same connection while the caller still holds the rows of the first.
type rows struct {
	*stdlib.Rows
	c *Conn

	columns []column // the columns of a query that had ended when QueryContext returned; nil while the result is being read
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
	limited          bool // the type has a length
	precision, scale int64
	scaled           bool // the type has a precision and a scale
}

// newRows wraps the rows that pgx has returned. If the query has ended, it reads the columns at once: pgx keeps one
// description of a result per connection, which the next query replaces.
func newRows(c *Conn, result *stdlib.Rows, ended bool) *rows {
	r := &rows{Rows: result, c: c}
	if !ended {
		return r
	}
	names := result.Columns()
	columns := make([]column, len(names))
	for i, name := range names {
		col := &columns[i]
		col.name, col.typeName, col.scanType = name, result.ColumnTypeDatabaseTypeName(i), result.ColumnTypeScanType(i)
		col.length, col.limited = result.ColumnTypeLength(i)
		col.precision, col.scale, col.scaled = result.ColumnTypePrecisionScale(i)
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
		col := r.columns[i]
		return col.precision, col.scale, col.scaled
	}
	return r.Rows.ColumnTypePrecisionScale(i)
}

// Columns implements driver.Rows. pgx keeps the names once it was asked for them. If the server's description of the result
// is malformed, pgx panics; then there are no columns, and Next returns an error.
func (r *rows) Columns() []string {
	defer func() { r.survived(recover(), new(error)) }()
	return r.Rows.Columns()
}

// Next implements driver.Rows.
func (r *rows) Next(dest []driver.Value) (err error) {
	returned := false // testing it costs less than a call of recover for each row
	defer func() {
		if !returned {
			r.survived(recover(), &err)
		}
	}()
	err = r.Rows.Next(dest)
	returned = true
	return r.next(err)
}

// next returns the error that the caller gets if pgx has returned err for the next row. io.EOF, the end of the rows, stays
// as it is, unless the server has warned that the statement is not replicated.
func (r *rows) next(err error) error {
	if err == nil || err == io.EOF && !r.unconfirmed() {
		return err
	}
	return r.c.Explain(err, false)
}

// unconfirmed reports whether the server has warned, at the end of these rows, that their statement (an INSERT … RETURNING,
// for example) is committed but not replicated.
func (r *rows) unconfirmed() bool { return r.columns == nil && r.c.stmt.outcome.unconfirmed != nil }

// Close implements driver.Rows. The statement ends with it, so that the application's tracer or log handler may be called,
// and may panic.
func (r *rows) Close() (err error) {
	defer func() { r.survived(recover(), &err) }()
	if err := r.Rows.Close(); err != nil || r.unconfirmed() {
		return r.c.Explain(err, false)
	}
	return nil
}

// survived turns what recover has returned into an error, if there was a panic, and makes the connection dirty, so that
// nobody else gets it.
func (r *rows) survived(panicked any, err *error) {
	if panicked == nil {
		return
	}
	r.c.dirty = true
	*err = newPanicError(panicked)
}
