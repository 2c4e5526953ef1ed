package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// server is the PostgreSQL server that the load runs on.
type server struct {
	dsn     string
	stop    func(context.Context) error // does nothing if the server isn't ours
	restart func(context.Context) error // nil: the server isn't ours
}

// opening returns further options for a pool on this server. If it is ours, a preflight would find nothing of interest.
func (s server) opening() (opts []pgprod.Option) {
	if s.restart != nil {
		opts = append(opts, pgprod.WithPreflight(false))
	}
	return opts
}

// findServer returns the server that DB_DSN names; without DB_DSN it starts one.
func findServer(ctx context.Context, out *terminal) (server, error) {
	if dsn := os.Getenv("DB_DSN"); dsn != "" {
		out.printf("PostgreSQL: the one in DB_DSN; a schema is made there, and dropped at the end.\n")
		return server{dsn: dsn, stop: func(context.Context) error { return nil }}, nil
	}
	if _, err := pgtest.Locate(); errors.Is(err, pgtest.ErrNotInstalled) {
		out.printf("PostgreSQL: none is installed here, so one is downloaded, once.\n")
	}
	own, err := pgtest.Start(ctx, pgtest.Config{Settings: map[string]string{
		"autovacuum":         "on", // off by default in pgtest, but this server may run for days
		"synchronous_commit": "on", // so that no acknowledged transfer is lost in a restart
	}})
	if err != nil {
		return server{}, err
	}
	out.printf("PostgreSQL: version %d, of its own, in %s; removed at the end.\n", own.Version(), filepath.Dir(own.DataDir()))
	restart := func(ctx context.Context) error { return own.Restart(ctx, pgtest.Fast) }
	return server{dsn: own.DSN(""), stop: own.Stop, restart: restart}, nil
}
