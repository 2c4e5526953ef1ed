//go:build go1.27

package pool

import (
	"database/sql/driver"
	"io"
)

// From Go 1.27 on database/sql reads rows by these, where the driver has them.
var _ driver.RowsColumnScanner = (*rows)(nil)

// NextRow implements driver.RowsColumnScanner.
func (r *rows) NextRow() (err error) {
	defer r.survive(&err)
	err = r.Rows.NextRow()
	if err == nil || err == io.EOF {
		return err
	}
	return r.c.explain(err, false)
}

// ScanColumn implements driver.RowsColumnScanner.
func (r *rows) ScanColumn(ctx driver.ScanContext, i int, dest any) (err error) {
	defer r.survive(&err)
	return r.Rows.ScanColumn(ctx, i, dest)
}
