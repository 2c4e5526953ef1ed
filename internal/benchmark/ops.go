package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// query is a text with one parameter, whose value it returns.
func query(text string) func(context.Context, client) (op, error) {
	return func(_ context.Context, c client) (op, error) {
		return func(ctx context.Context, _, _ int) error {
			n, err := c.query(ctx, text, 7)
			return expect(text, n, 7, err)
		}, nil
	}
}

// prepared is the same through a statement that was prepared beforehand, and which all workers share. The pool's end
// ends the statement.
func prepared(text string) func(context.Context, client) (op, error) {
	return func(ctx context.Context, c client) (op, error) {
		s, err := c.prepare(ctx, text)
		return func(ctx context.Context, _, _ int) error {
			n, err := s.query(ctx, 7)
			return expect(text, n, 7, err)
		}, err
	}
}

// transaction changes the two accounts of its worker, of which nobody else knows.
func transaction(_ context.Context, c client) (op, error) {
	return func(ctx context.Context, worker, _ int) error {
		from, to := 2*worker, 2*worker+1
		return c.inTx(ctx, func(tx querier) error { return transfer(ctx, tx, from, to) })
	}, nil
}

// insertTransaction inserts one row in a transaction.
func insertTransaction(_ context.Context, c client) (op, error) {
	const text = "insert into " + sink + " (id, name) values ($1, $2)"
	return func(ctx context.Context, _, i int) error {
		return c.inTx(ctx, func(tx querier) error {
			n, err := tx.exec(ctx, text, i, "one row")
			return expect(text, n, 1, err)
		})
	}, nil
}

// session is a request that has a connection of its own, and leaves it as it is after two statements.
func session(first, text string) func(context.Context, client) (op, error) {
	return func(_ context.Context, c client) (op, error) {
		below, ok := c.(*sqlClient)
		if !ok {
			return nil, errors.ErrUnsupported
		}
		return func(ctx context.Context, _, _ int) error {
			n, err := below.session(ctx, first, text, 7)
			return expect(text, n, 7, err)
		}, nil
	}
}

const (
	readBalance   = "select balance from accounts where id = $1"
	changeBalance = "update accounts set balance = balance + $2 where id = $1"
)

func transfer(ctx context.Context, tx querier, from, to int) error {
	before, err := tx.query(ctx, readBalance, from)
	if err != nil {
		return err
	}
	if _, err := tx.query(ctx, readBalance, to); err != nil {
		return err
	}
	if n, err := tx.exec(ctx, changeBalance, from, -1); err != nil || n != 1 {
		return expect(changeBalance, n, 1, err)
	}
	if n, err := tx.exec(ctx, changeBalance, to, 1); err != nil || n != 1 {
		return expect(changeBalance, n, 1, err)
	}
	after, err := tx.query(ctx, readBalance, from)
	return expect(readBalance, after, before-1, err)
}

// rows reads the table items.
func rows(_ context.Context, c client) (op, error) {
	return func(ctx context.Context, _, _ int) error {
		count, sum, err := c.rows(ctx, "select id, name from items")
		if err == nil {
			err = expect("rows of items", int64(count), itemCount, nil)
		}
		return expect("the sum of their ids", sum, itemCount*(itemCount+1)/2, err)
	}, nil
}

// multiRow is one insert statement with many rows of parameters.
func multiRow(_ context.Context, c client) (op, error) {
	text := multiRowText()
	args := make([]any, 0, 2*insertRows)
	for _, row := range sinkRows() {
		args = append(args, row...)
	}
	return func(ctx context.Context, _, _ int) error {
		n, err := c.exec(ctx, text, args...)
		return expect("insert", n, insertRows, err)
	}, nil
}

func multiRowText() string {
	var text strings.Builder
	text.WriteString("insert into " + sink + " (id, name) values ")
	for i := range insertRows {
		if i > 0 {
			text.WriteByte(',')
		}
		fmt.Fprintf(&text, "($%d,$%d)", 2*i+1, 2*i+2)
	}
	return text.String()
}

func sinkRows() [][]any {
	rows := make([][]any, insertRows)
	for i := range rows {
		rows[i] = []any{i, fmt.Sprintf("name of row %d", i)}
	}
	return rows
}

func copyIn(_ context.Context, c client) (op, error) {
	rows := sinkRows()
	return func(ctx context.Context, _, _ int) error { return c.copyIn(ctx, rows) }, nil
}

// distinctTexts are statements that differ in a name. They are made once, as they are not what is measured.
var distinctTexts = sync.OnceValue(func() []string {
	all := make([]string, 100_000)
	for i := range all {
		all[i] = fmt.Sprintf("select $1::int as number_%06d", i)
	}
	return all
})

// texts takes turns with n texts. Two workers begin half a turn apart.
func texts(n int) func(context.Context, client) (op, error) {
	return func(_ context.Context, c client) (op, error) {
		all := distinctTexts()[:n]
		return func(ctx context.Context, worker, i int) error {
			text := all[(i+worker*n/2)%n]
			value, err := c.query(ctx, text, 7)
			return expect(text, value, 7, err)
		}, nil
	}
}
