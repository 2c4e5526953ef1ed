package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// orders are the statements that go wrong on purpose, once each, while the users work.
type orders struct {
	all []order

	mu      sync.Mutex // guards results
	results []string
}

// order is one of them: a statement, and how long it may take.
type order struct {
	name, sql string
	limit     time.Duration // 0: command_timeout alone
	run       func(ctx context.Context) error
}

const mostSlow = 1100 * time.Millisecond // above slow_query's default

// newOrders fits them into the duration of the run.
func newOrders(b *bank, duration time.Duration) *orders {
	exec := func(text string, args ...any) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := b.db.ExecContext(ctx, b.sql(text), args...)
			return err
		}
	}
	slow := min(mostSlow, duration/2)
	insert := "insert into SCHEMA.accounts values ($1, $2, $3)"
	return &orders{all: []order{
		{name: "failing", sql: "insert an account that exists", run: exec(insert, 1, "somebody else", 0)},
		{name: "cut short", sql: "select pg_sleep(60)", limit: min(300*time.Millisecond, duration/4), run: exec("select pg_sleep(60)")},
		{name: "slow", sql: fmt.Sprintf("select pg_sleep(%.1f)", slow.Seconds()), run: exec("select pg_sleep($1)", slow.Seconds())},
	}}
}

// give runs them one after another.
func (os *orders) give(ctx context.Context) {
	for _, o := range os.all {
		text := o.give(ctx)
		if ctx.Err() != nil {
			return // interrupted: it shows nothing
		}
		os.mu.Lock()
		os.results = append(os.results, text)
		os.mu.Unlock()
	}
}

// give runs the statement and tells what came of it.
func (o order) give(ctx context.Context) string {
	what := o.sql
	if o.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.limit)
		defer cancel()
		what += " within " + short(o.limit)
	}
	start := time.Now()
	err := o.run(ctx)
	took := short(time.Since(start))
	if err != nil {
		return fmt.Sprintf("%-10s%s: ended after %s\n%-10s  %s\n", o.name, what, took, "", oneLine(err))
	}
	return fmt.Sprintf("%-10s%s: took %s\n", o.name, what, took)
}

func (os *orders) String() string {
	os.mu.Lock()
	defer os.mu.Unlock()
	return strings.Join(os.results, "")
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
