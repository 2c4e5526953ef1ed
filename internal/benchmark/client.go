package main

import (
	"context"
	"fmt"
)

// A client does what workloads ask for, on a peer's pool. It is the thinnest cover that fits both database/sql and
// pgxpool, and allocates nothing of its own but the closure of a transaction.
type client interface {
	querier
	prepare(ctx context.Context, text string) (stmt, error)
	inTx(ctx context.Context, fn func(querier) error) error
	// rows reads pairs of a number and a text, and returns how many there were and the sum of the numbers.
	rows(ctx context.Context, text string) (count int, sum int64, err error)
	// copyIn copies into the table sink; errors.ErrUnsupported if the peer has no COPY.
	copyIn(ctx context.Context, rows [][]any) error
	close() error
}

// querier is a client or its transaction.
type querier interface {
	query(ctx context.Context, text string, args ...any) (int64, error)
	exec(ctx context.Context, text string, args ...any) (affected int64, err error)
}

// stmt is a prepared statement. It is closed with its client.
type stmt interface {
	query(ctx context.Context, args ...any) (int64, error)
}

// expect is how each operation checks that the server did what it was asked for.
func expect(what string, got, want int64, err error) error {
	if err == nil && got != want {
		return fmt.Errorf("%s: got %d, want %d", what, got, want)
	}
	return err
}
