package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// server is the PostgreSQL to work on.
type server struct {
	dsn     string
	stop    func(context.Context) error
	restart func(context.Context) error // nil: it isn't ours
}

// opening is how a pool on it is opened: of a server of our own there is nothing to learn from a preflight.
func (s server) opening() (opts []pgprod.Option) {
	if s.restart != nil {
		opts = append(opts, pgprod.WithPreflight(false))
	}
	return opts
}

// findServer takes the server that DB_DSN names or, without it, starts one.
func findServer(ctx context.Context, out *terminal) (server, error) {
	if dsn := os.Getenv("DB_DSN"); dsn != "" {
		out.printf("PostgreSQL: the one in DB_DSN; a schema is made there, and dropped at the end.\n")
		return server{dsn: dsn, stop: func(context.Context) error { return nil }}, nil
	}
	if _, err := pgtest.Locate(); errors.Is(err, pgtest.ErrNotInstalled) {
		out.printf("PostgreSQL: none is installed here, so one is downloaded, once.\n")
	}
	own, err := pgtest.Start(ctx, pgtest.Config{Settings: map[string]string{
		"autovacuum":         "on", // unlike a test's server this one may run for days
		"synchronous_commit": "on", // what is acknowledged is in the log
	}})
	if err != nil {
		return server{}, err
	}
	out.printf("PostgreSQL: version %d, of its own, in %s; removed at the end.\n", own.Version(), filepath.Dir(own.DataDir()))
	restart := func(ctx context.Context) error { return own.Restart(ctx, pgtest.Fast) }
	return server{dsn: own.DSN(""), stop: own.Stop, restart: restart}, nil
}
