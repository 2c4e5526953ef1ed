package main

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/lib/pq"

	"github.com/pgprod/pgprod"
)

// target says what a peer is to open.
type target struct {
	dsn   string
	conns int // the most connections, all of which are kept
	// plain asks for what sql.Open gives with nothing set, where that is a sound pool. The peers are still given conns.
	plain bool
	telemetry
}

// A peer is one way to reach PostgreSQL, in the set-up that its documentation calls for.
type peer struct {
	name string
	open func(context.Context, target) (client, error)
	// reports says that it has spans and metrics.
	reports bool
	// wraps says that it is hand-tuned pgx below, and of interest only for its telemetry.
	wraps bool
	// unbounded says that no limit is set, so that work which needs one makes no sense.
	unbounded bool
}

// base is the peer that the others are held against.
const base = "pgx tuned"

var peers = []peer{
	{name: "pgprod", open: openPgprod, reports: true},
	{name: base, open: openTuned},
	{name: "pgx plain", open: openPlain, unbounded: true},
	{name: "pgxpool stdlib", open: openStdlibPool},
	{name: "pgxpool native", open: openNativePool},
	{name: "lib/pq", open: openPQ},
	{name: "XSAM otelsql", open: openXSAM, reports: true, wraps: true},
	{name: "uptrace otelsql", open: openUptrace, reports: true, wraps: true},
	{name: "nhatthm otelsql", open: openNhatthm, reports: true, wraps: true},
	{name: "otelpgx", open: openOtelpgx, reports: true, wraps: true},
}

// openPgprod: https://pkg.go.dev/github.com/pgprod/pgprod. A connection beyond pool_size would be closed when it comes
// back, which no peer does, so the size is the limit.
func openPgprod(_ context.Context, t target) (client, error) {
	options := []pgprod.Option{pgprod.WithTracerProvider(t.tracer), pgprod.WithMeterProvider(t.meter)}
	if !t.plain {
		options = append(options, pgprod.WithPoolSize(t.conns), pgprod.WithMaxOverflow(0))
	}
	db, err := pgprod.Open(t.dsn, options...)
	return &sqlClient{db: db, copier: pgprodCopy}, err
}

// openPlain: https://pkg.go.dev/github.com/jackc/pgx/v5/stdlib, "A database/sql connection can be established through
// sql.Open", and nothing else. database/sql then keeps two idle connections and opens as many as are asked for.
func openPlain(_ context.Context, t target) (client, error) {
	db, err := sql.Open("pgx", t.dsn)
	return &sqlClient{db: db, copier: stdlibCopy}, err
}

// openTuned: https://go.dev/doc/database/manage-connections sets both limits; that they should be equal is advice from
// https://www.alexedwards.net/blog/configuring-sqldb.
func openTuned(_ context.Context, t target) (client, error) {
	db, err := sql.Open("pgx", t.dsn)
	if err != nil {
		return nil, err
	}
	return &sqlClient{db: limit(db, t), copier: stdlibCopy}, nil
}

func limit(db *sql.DB, t target) *sql.DB {
	db.SetMaxOpenConns(t.conns)
	db.SetMaxIdleConns(t.conns)
	return db
}

// newPool: https://pkg.go.dev/github.com/jackc/pgx/v5/pgxpool#Config.
func newPool(ctx context.Context, t target) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(t.dsn)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = int32(t.conns)
	return pgxpool.NewWithConfig(ctx, cfg)
}

// openStdlibPool: https://pkg.go.dev/github.com/jackc/pgx/v5/stdlib#OpenDBFromPool, which itself sets the idle limit.
func openStdlibPool(ctx context.Context, t target) (client, error) {
	pool, err := newPool(ctx, t)
	if err != nil {
		return nil, err
	}
	return &sqlClient{db: stdlib.OpenDBFromPool(pool), copier: stdlibCopy, after: pool.Close}, nil
}

// openNativePool: https://github.com/jackc/pgx/wiki/Getting-started-with-pgx#using-a-connection-pool.
func openNativePool(ctx context.Context, t target) (client, error) {
	pool, err := newPool(ctx, t)
	if err != nil {
		return nil, err
	}
	return poolClient{pool}, nil
}

// openPQ: https://pkg.go.dev/github.com/lib/pq#Config. BinaryParameters saves the round trip in which a statement with
// parameters is prepared each time.
func openPQ(_ context.Context, t target) (client, error) {
	cfg, err := pq.NewConfig(t.dsn)
	if err != nil {
		return nil, err
	}
	cfg.BinaryParameters = true
	connector, err := pq.NewConnectorConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("lib/pq: %w", err)
	}
	return &sqlClient{db: limit(sql.OpenDB(connector), t), copier: pqCopy}, nil
}
