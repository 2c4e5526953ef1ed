package main

import (
	"context"
	"database/sql"
	"errors"
)

// sqlClient is a client on database/sql.
type sqlClient struct {
	db     *sql.DB
	copier func(ctx context.Context, db *sql.DB, rows [][]any) error // nil: no COPY
	after  func()                                                    // closes what is below the db; nil: nothing
}

var _ client = (*sqlClient)(nil)

func (c *sqlClient) query(ctx context.Context, text string, args ...any) (n int64, err error) {
	err = c.db.QueryRowContext(ctx, text, args...).Scan(&n)
	return n, err
}

func (c *sqlClient) exec(ctx context.Context, text string, args ...any) (int64, error) {
	return affected(c.db.ExecContext(ctx, text, args...))
}

func affected(r sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (c *sqlClient) rows(ctx context.Context, text string) (count int, sum int64, err error) {
	rows, err := c.db.QueryContext(ctx, text)
	if err != nil {
		return 0, 0, err
	}
	defer rows.Close()
	var id int64
	var name string
	for rows.Next() {
		if err := rows.Scan(&id, &name); err != nil {
			return 0, 0, err
		}
		count++
		sum += id
	}
	return count, sum, rows.Err()
}

// session executes first and queries text on a connection of its own.
func (c *sqlClient) session(ctx context.Context, first, text string, args ...any) (n int64, err error) {
	conn, err := c.db.Conn(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if _, err := conn.ExecContext(ctx, first); err != nil {
		return 0, err
	}
	err = conn.QueryRowContext(ctx, text, args...).Scan(&n)
	return n, err
}

func (c *sqlClient) copyIn(ctx context.Context, rows [][]any) error {
	if c.copier == nil {
		return errors.ErrUnsupported
	}
	return c.copier(ctx, c.db, rows)
}

func (c *sqlClient) close() error {
	err := c.db.Close()
	if c.after != nil {
		c.after()
	}
	return err
}

type sqlStmt struct{ *sql.Stmt }

func (c *sqlClient) prepare(ctx context.Context, text string) (stmt, error) {
	s, err := c.db.PrepareContext(ctx, text)
	return sqlStmt{s}, err
}

func (s sqlStmt) query(ctx context.Context, args ...any) (n int64, err error) {
	err = s.QueryRowContext(ctx, args...).Scan(&n)
	return n, err
}

type sqlTx struct{ *sql.Tx }

func (c *sqlClient) inTx(ctx context.Context, fn func(querier) error) error {
	tx, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := fn(sqlTx{tx}); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func (t sqlTx) query(ctx context.Context, text string, args ...any) (n int64, err error) {
	err = t.QueryRowContext(ctx, text, args...).Scan(&n)
	return n, err
}

func (t sqlTx) exec(ctx context.Context, text string, args ...any) (int64, error) {
	return affected(t.ExecContext(ctx, text, args...))
}
