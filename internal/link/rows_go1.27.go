//go:build go1.27

package link

import "database/sql/driver"

// From Go 1.27 on database/sql reads rows by these, where the driver has them.
var _ driver.RowsColumnScanner = (*rows)(nil)

// NextRow implements driver.RowsColumnScanner.
func (r *rows) NextRow() (err error) {
	returned := false // as in Next
	defer func() {
		if !returned {
			r.survived(recover(), &err)
		}
	}()
	err = r.Rows.NextRow()
	returned = true
	return r.next(err)
}

// ScanColumn implements driver.RowsColumnScanner. Here a panic of a sql.Scanner becomes an error as well.
func (r *rows) ScanColumn(ctx driver.ScanContext, i int, dest any) (err error) {
	returned := false
	defer func() {
		if !returned {
			r.survived(recover(), &err)
		}
	}()
	err = r.Rows.ScanColumn(ctx, i, dest)
	returned = true
	return err
}
