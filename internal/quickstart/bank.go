package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

const (
	accounts     = 1000 // how many there are
	firstBalance = 1000 // of each account
)

// bank is the data on which the users work: accounts, in a schema of their own. Transfers never change the sum of the
// balances.
type bank struct {
	db      *sql.DB
	schema  string
	readOne *sql.Stmt // for read
}

// openBank creates the schema with its tables. If that fails it leaves nothing behind.
func openBank(ctx context.Context, db *sql.DB) (*bank, error) {
	b := &bank{db: db, schema: "pgprod_quickstart_" + strings.ToLower(rand.Text()[:10])}
	err := b.create(ctx)
	if err == nil {
		err = b.prepare(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, cleanup(ctx, b.drop))
	}
	return b, nil
}

// through returns the same bank on another pool. Close it.
func (b *bank) through(ctx context.Context, db *sql.DB) (*bank, error) {
	other := &bank{db: db, schema: b.schema}
	return other, other.prepare(ctx)
}

// prepare prepares the statement of read.
func (b *bank) prepare(ctx context.Context) (err error) {
	b.readOne, err = b.db.PrepareContext(ctx, b.sql("select owner, balance from SCHEMA.accounts where id = $1"))
	return err
}

func (b *bank) close() {
	if b.readOne != nil {
		_ = b.readOne.Close()
	}
}

// sql returns a statement with the schema's name in place of SCHEMA.
func (b *bank) sql(text string) string { return strings.ReplaceAll(text, "SCHEMA", b.schema) }

// create creates the schema, its tables and the accounts, in one transaction.
func (b *bank) create(ctx context.Context) error {
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	for _, text := range []string{
		"create schema SCHEMA",
		"create table SCHEMA.accounts (id int primary key, owner text not null, balance bigint not null) with (fillfactor = 70)",
		// Without a key, so that a transfer that was made twice is in it twice.
		"create table SCHEMA.transfers (number bigint not null)",
	} {
		if _, err := tx.ExecContext(ctx, b.sql(text)); err != nil {
			return fmt.Errorf("make a schema: %w", err)
		}
	}
	fill := b.sql("insert into SCHEMA.accounts select id, 'owner ' || id, $1 from generate_series(1, $2::int) id")
	if _, err := tx.ExecContext(ctx, fill, firstBalance, accounts); err != nil {
		return err
	}
	return tx.Commit()
}

// drop removes what create has made, if anything.
func (b *bank) drop(ctx context.Context) error {
	b.close()
	if _, err := b.db.ExecContext(ctx, b.sql("drop schema if exists SCHEMA cascade")); err != nil {
		return fmt.Errorf("drop schema %s: %w", b.schema, err)
	}
	return nil
}

// read is the most frequent request: it reads one row by its key, with a prepared statement.
func (b *bank) read(ctx context.Context, id int) error {
	var owner string
	var balance int64
	return b.readOne.QueryRowContext(ctx, id).Scan(&owner, &balance)
}

// list is a request that reads a page of twenty rows.
func (b *bank) list(ctx context.Context, first int) error {
	rows, err := b.db.QueryContext(ctx, b.sql("select id, balance from SCHEMA.accounts where id >= $1 order by id limit 20"), first)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id int
		var balance int64
		if err := rows.Scan(&id, &balance); err != nil {
			return err
		}
	}
	return rows.Err()
}

// transfer is an amount that is moved from one account to another.
type transfer struct {
	number   int64 // in the ledger and in the table transfers; 0: it is in neither
	from, to int
	amount   int64
}

// transfer is a request that moves an amount in a transaction. It locks the account with the lower number first, so that two
// transfers can't deadlock.
func (b *bank) transfer(ctx context.Context, t transfer) error {
	if t.from > t.to {
		t.from, t.to, t.amount = t.to, t.from, -t.amount
	}
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	if t.number > 0 {
		if _, err := tx.ExecContext(ctx, b.sql("insert into SCHEMA.transfers values ($1)"), t.number); err != nil {
			return err
		}
	}
	add := b.sql("update SCHEMA.accounts set balance = balance + $1 where id = $2")
	if _, err := tx.ExecContext(ctx, add, -t.amount, t.from); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, add, t.amount, t.to); err != nil {
		return err
	}
	return tx.Commit()
}

// check returns an error if the sum of the balances has changed, so that a transfer was done only in part.
func (b *bank) check(ctx context.Context) error {
	var sum int64
	err := b.db.QueryRowContext(ctx, b.sql("select sum(balance)::bigint from SCHEMA.accounts")).Scan(&sum)
	if err == nil && sum != accounts*firstBalance {
		err = fmt.Errorf("the balances add up to %d, not %d", sum, accounts*firstBalance)
	}
	return err
}

// committed returns how often each transfer is in the table transfers, by its number.
func (b *bank) committed(ctx context.Context) (map[int64]int, error) {
	rows, err := b.db.QueryContext(ctx, b.sql("select number, count(*) from SCHEMA.transfers group by number"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	times := map[int64]int{}
	for rows.Next() {
		var number int64
		var n int
		if err := rows.Scan(&number, &n); err != nil {
			return nil, err
		}
		times[number] = n
	}
	return times, rows.Err()
}
