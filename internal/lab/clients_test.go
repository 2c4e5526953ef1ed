//go:build linux

package lab

import (
	"context"
	"database/sql"
	"io"
	"log/slog"
	"os"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/lab/known"
)

// An insert writes a row.
type insert func(ctx context.Context, id int64) error

// An opened is a pool of connections.
type opened struct {
	call  insert
	close func()
	// ready reports whether the pool has got to know all hosts, as a pool that has worked for a second has; nil: it never does.
	ready func() bool
}

// A client is a way to use the database, with its defaults.
type client struct {
	name   string
	open   func(t *testing.T, dsn string) opened
	told   func(error) known.Outcome
	pgprod bool
}

var (
	ourselves = client{name: "pgprod", open: openPgprod, told: known.ByPgprod, pgprod: true}
	others    = []client{
		{name: "pgx", open: openPgx, told: known.ByPgx},
		{name: "pgxpool", open: openPool, told: known.ByPgx},
	}
)

const insertion = "insert into ledger values ($1)"

// newPool opens a pool of pgprod.
func newPool(t *testing.T, dsn string, opts ...pgprod.Option) *sql.DB {
	t.Helper()
	db, err := pgprod.Open(dsn, append([]pgprod.Option{pgprod.WithLogger(logger()), pgprod.WithPreflight(false)}, opts...)...)
	require.NoError(t, err)
	return db
}

func logger() *slog.Logger {
	if *logs {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.NewTextHandler(io.Discard, nil))
}

func openPgprod(t *testing.T, dsn string) opened {
	db := newPool(t, dsn)
	return opened{call: insertBy(db), close: closing(t, db), ready: func() bool { return knowsItsHosts(t, db) }}
}

func closing(t *testing.T, db *sql.DB) func() {
	return func() { assert.NoError(t, db.Close()) }
}

// knowsItsHosts reports whether the pool knows the role of each host.
func knowsItsHosts(t *testing.T, db *sql.DB) bool {
	status, err := pgprod.Status(db)
	require.NoError(t, err)
	return !slices.ContainsFunc(status.Hosts, func(h pgprod.HostStatus) bool { return h.Role == "" })
}

func insertBy(db *sql.DB) insert {
	return func(ctx context.Context, id int64) error {
		_, err := db.ExecContext(ctx, insertion, id)
		return err
	}
}

// patient has a limit for connecting, without which pgx waits for what the kernel has: two minutes.
func patient(dsn string) string { return dsn + "&connect_timeout=5" }

// openPgx is pgx's driver, with limits as they are usually set by hand.
func openPgx(t *testing.T, dsn string) opened {
	db, err := sql.Open("pgx", patient(dsn))
	require.NoError(t, err)
	db.SetMaxOpenConns(30)
	db.SetMaxIdleConns(20)
	return opened{call: insertBy(db), close: closing(t, db)}
}

func openPool(t *testing.T, dsn string) opened {
	config, err := pgxpool.ParseConfig(patient(dsn))
	require.NoError(t, err)
	config.MaxConns = 30
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	call := func(ctx context.Context, id int64) error {
		_, err := pool.Exec(ctx, insertion, id)
		return err
	}
	return opened{call: call, close: pool.Close}
}
