//go:build lab

package rivals

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/lab/known"
)

// poolSize is that of each client's pool: one connection for each worker.
const poolSize = workers

// An insert writes a row into a client's table.
type insert func(ctx context.Context, id int64) error

// A client is a way to use the database.
type client struct {
	name   string // and the way to it: "pgx, HAProxy"
	dsn    string
	open   func(t *testing.T, dsn, text string) (insert, func())
	told   func(error) known.Outcome
	pgprod bool
	direct bool // nothing stands between
}

// through are the three kinds of clients by a DSN. way is what stands between, "" if nothing does.
func through(way, dsn string) []client {
	direct := way == ""
	if way != "" {
		way = ", " + way
	}
	return []client{
		{name: "pgprod" + way, dsn: dsn, open: openPgprod, told: known.ByPgprod, pgprod: true, direct: direct},
		{name: "pgx, database/sql" + way, dsn: dsn, open: openPgx, told: known.ByPgx},
		{name: "pgxpool" + way, dsn: dsn, open: openPool, told: known.ByPgx},
	}
}

// openPgprod is pgprod with its defaults, but for the size, which is everybody's.
func openPgprod(t *testing.T, dsn, text string) (insert, func()) {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	db, err := pgprod.Open(dsn, pgprod.WithLogger(quiet), pgprod.WithPoolSize(poolSize), pgprod.WithMaxOverflow(0))
	require.NoError(t, err)
	return insertBy(db, text), func() { assert.NoError(t, db.Close()) }
}

// openPgx is pgx's driver for database/sql, with limits as they are usually set by hand.
func openPgx(t *testing.T, dsn, text string) (insert, func()) {
	db, err := sql.Open("pgx", dsn)
	require.NoError(t, err)
	db.SetMaxOpenConns(poolSize)
	db.SetMaxIdleConns(poolSize)
	db.SetConnMaxLifetime(30 * time.Minute)
	return insertBy(db, text), func() { assert.NoError(t, db.Close()) }
}

func insertBy(db *sql.DB, text string) insert {
	return func(ctx context.Context, id int64) error {
		_, err := db.ExecContext(ctx, text, id)
		return err
	}
}

func openPool(t *testing.T, dsn, text string) (insert, func()) {
	config, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	config.MaxConns = poolSize
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	require.NoError(t, err)
	return func(ctx context.Context, id int64) error {
		_, err := pool.Exec(ctx, text, id)
		return err
	}, pool.Close
}

// table is the name of a client's table, as SQL has it.
func (c client) table() string { return pgx.Identifier{c.name}.Sanitize() }

func (c client) insertion() string { return fmt.Sprintf("insert into %s values ($1)", c.table()) }
