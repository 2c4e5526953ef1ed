package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/pgprod/pgprod"
)

// pgprodCopy: https://pkg.go.dev/github.com/pgprod/pgprod#Raw.
func pgprodCopy(ctx context.Context, db *sql.DB, rows [][]any) error {
	return pgprod.Raw(ctx, db, func(c *pgx.Conn) error { return copyFrom(ctx, c, rows) })
}

// stdlibCopy: https://pkg.go.dev/github.com/jackc/pgx/v5/stdlib, "(*sql.Conn) Raw() can be used to get a *pgx.Conn".
// XSAM's wrapper has the connection below as Raw; the other wrappers keep it to themselves.
func stdlibCopy(ctx context.Context, db *sql.DB, rows [][]any) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(c any) error {
		if wrapper, ok := c.(interface{ Raw() driver.Conn }); ok {
			c = wrapper.Raw()
		}
		below, ok := c.(*stdlib.Conn)
		if !ok {
			return errors.ErrUnsupported
		}
		return copyFrom(ctx, below.Conn(), rows)
	})
}

func copyFrom(ctx context.Context, c *pgx.Conn, rows [][]any) error {
	_, err := c.CopyFrom(ctx, pgx.Identifier{sink}, sinkColumns, pgx.CopyFromRows(rows))
	return err
}

// pqCopy: https://pkg.go.dev/github.com/lib/pq#hdr-Bulk_imports.
func pqCopy(ctx context.Context, db *sql.DB, rows [][]any) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := pqCopyTx(ctx, tx, rows); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func pqCopyTx(ctx context.Context, tx *sql.Tx, rows [][]any) error {
	stmt, err := tx.PrepareContext(ctx, "copy "+sink+" (id, name) from stdin")
	if err != nil {
		return err
	}
	defer stmt.Close()
	for _, row := range rows {
		if _, err := stmt.ExecContext(ctx, row...); err != nil {
			return err
		}
	}
	_, err = stmt.ExecContext(ctx) // flushes, and waits for the server
	return err
}
