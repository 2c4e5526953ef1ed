package main

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// poolClient is a client on pgxpool without database/sql.
type poolClient struct{ pool *pgxpool.Pool }

var _ client = poolClient{}

func (c poolClient) query(ctx context.Context, text string, args ...any) (n int64, err error) {
	err = c.pool.QueryRow(ctx, text, args...).Scan(&n)
	return n, err
}

func (c poolClient) exec(ctx context.Context, text string, args ...any) (int64, error) {
	tag, err := c.pool.Exec(ctx, text, args...)
	return tag.RowsAffected(), err
}

func (c poolClient) rows(ctx context.Context, text string) (count int, sum int64, err error) {
	rows, err := c.pool.Query(ctx, text)
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

func (c poolClient) copyIn(ctx context.Context, rows [][]any) error {
	_, err := c.pool.CopyFrom(ctx, pgx.Identifier{sink}, sinkColumns, pgx.CopyFromRows(rows))
	return err
}

func (c poolClient) close() error {
	c.pool.Close()
	return nil
}

// poolStmt is a text: pgxpool prepares each on each connection at its first use, and has no other statements.
type poolStmt struct {
	pool *pgxpool.Pool
	text string
}

func (c poolClient) prepare(_ context.Context, text string) (stmt, error) {
	return poolStmt{c.pool, text}, nil
}

func (s poolStmt) query(ctx context.Context, args ...any) (n int64, err error) {
	err = s.pool.QueryRow(ctx, s.text, args...).Scan(&n)
	return n, err
}

type poolTx struct{ pgx.Tx }

func (c poolClient) inTx(ctx context.Context, fn func(querier) error) error {
	return pgx.BeginFunc(ctx, c.pool, func(tx pgx.Tx) error { return fn(poolTx{tx}) })
}

func (t poolTx) query(ctx context.Context, text string, args ...any) (n int64, err error) {
	err = t.QueryRow(ctx, text, args...).Scan(&n)
	return n, err
}

func (t poolTx) exec(ctx context.Context, text string, args ...any) (int64, error) {
	tag, err := t.Exec(ctx, text, args...)
	return tag.RowsAffected(), err
}
