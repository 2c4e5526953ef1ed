package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// demos are statements that fail, time out or are slow on purpose, once each, while the users work. The report shows them.
type demos struct {
	all []demo

	mu      sync.Mutex // guards results
	results []string
}

// demo is one of the demos.
type demo struct {
	name  string
	sql   string        // the statement, as the report shows it
	limit time.Duration // how long it may take; 0: only command_timeout limits it
	exec  func(ctx context.Context) error
}

// mostSlow is how long the slow statement takes, at most. It is above slow_query's default.
const mostSlow = 1100 * time.Millisecond

// newDemos returns demos that end within the duration of the load.
func newDemos(b *bank, duration time.Duration) *demos {
	exec := func(text string, args ...any) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := b.db.ExecContext(ctx, b.sql(text), args...)
			return err
		}
	}
	slow := min(mostSlow, duration/2)
	insert := "insert into SCHEMA.accounts values ($1, $2, $3)"
	return &demos{all: []demo{
		{name: "failing", sql: "insert an account that exists", exec: exec(insert, 1, "somebody else", 0)},
		{name: "cut short", sql: "select pg_sleep(60)", limit: min(300*time.Millisecond, duration/4), exec: exec("select pg_sleep(60)")},
		{name: "slow", sql: fmt.Sprintf("select pg_sleep(%.1f)", slow.Seconds()), exec: exec("select pg_sleep($1)", slow.Seconds())},
	}}
}

// run runs the demos one after another, until ctx ends.
func (ds *demos) run(ctx context.Context) {
	for _, d := range ds.all {
		text := d.run(ctx)
		if ctx.Err() != nil {
			return // the statement was interrupted, and its result shows nothing
		}
		ds.mu.Lock()
		ds.results = append(ds.results, text)
		ds.mu.Unlock()
	}
}

// run runs the statement, and returns its result for the report.
func (d demo) run(ctx context.Context) string {
	what := d.sql
	if d.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.limit)
		defer cancel()
		what += " within " + short(d.limit)
	}
	start := time.Now()
	err := d.exec(ctx)
	took := short(time.Since(start))
	if err != nil {
		return fmt.Sprintf("%-10s%s: ended after %s\n%-10s  %s\n", d.name, what, took, "", oneLine(err))
	}
	return fmt.Sprintf("%-10s%s: took %s\n", d.name, what, took)
}

// String returns the results so far.
func (ds *demos) String() string {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	return strings.Join(ds.results, "")
}

// oneLine is the text of an error without line breaks.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
