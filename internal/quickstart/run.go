package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	_ "github.com/pgprod/pgprod"
)

// cleanupTimeout bounds each step of leaving nothing behind.
const cleanupTimeout = 10 * time.Second

// run does it all. What it made it removes, also when ctx ends.
func run(ctx context.Context, o options, out terminal) (err error) {
	server, err := findServer(ctx, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanup(ctx, server.stop)) }()

	db, err := sql.Open("pgprod", server.dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()

	b, err := openBank(ctx, db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanup(ctx, b.drop)) }()
	return work(ctx, o, db, b, out)
}

// cleanup calls f with time to do its work, though ctx may have ended.
func cleanup(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	return f(ctx)
}

// work puts the load on the bank, shows how it goes, and reports. If ctx ends early that is no error.
func work(ctx context.Context, o options, db *sql.DB, b *bank, out terminal) error {
	l := newLoad(db, b, o)
	until, stop := l.deadline(ctx)
	defer stop()
	if o.addr != "" {
		site, err := serve(o.addr, l)
		if err != nil {
			return err
		}
		defer site.close()
		out.printf("Serving http://%s/ and /status until interrupted, under a light load.\n\n", site.addr)
	} else {
		out.printf("%d users for %v: point reads (prepared), lists, transfers (transactions).\n\n", o.users, o.duration)
	}
	l.start(ctx, until)
	showProgress(until, l, out)
	l.wait()
	if ctx.Err() != nil {
		out.printf("Stopped: %v.\n", context.Cause(ctx))
	}
	return conclude(ctx, l, out)
}

// conclude prints the report; an error that nobody ordered makes the program fail.
func conclude(ctx context.Context, l *load, out terminal) error {
	text, err := l.report()
	if err != nil {
		return err
	}
	out.printf("\n%s", text)
	if err := cleanup(ctx, l.bank.check); err != nil {
		return err
	}
	if n := l.failures.count(); n > 0 {
		return fmt.Errorf("%d requests failed", n)
	}
	return nil
}
