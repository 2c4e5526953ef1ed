package incidents

import (
	"context"
	"database/sql"
	"log/slog"
	"testing"
	"time"

	"github.com/XSAM/otelsql"
	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// A client is a way to get a *sql.DB that tells what happens. The end of the test closes it.
type client struct {
	name string
	open func(t *testing.T, dsn string, size int, to *told) *sql.DB
	ours bool // it is pgprod, and held to what it promises
}

var clients = []client{
	{name: "pgprod", open: openPgprod, ours: true},
	{name: "XSAM/otelsql", open: openOtelsql},
	{name: "otelpgx", open: openOtelpgx},
}

// waitForPool is how long a caller waits for a connection of a full pool.
const waitForPool = time.Second

// openPgprod has statements slow early, so that an incident doesn't take long, and no limit ends one but that on the wait for
// the pool.
func openPgprod(t *testing.T, dsn string, size int, to *told) *sql.DB {
	to.page = nil
	db, err := pgprod.Open(dsn, pgprod.WithTracerProvider(to.tracers), pgprod.WithPoolSize(size), pgprod.WithMaxOverflow(0),
		pgprod.WithPoolTimeout(waitForPool), pgprod.WithSlowQuery(100*time.Millisecond), pgprod.WithCommandTimeout(10*patience),
		pgprod.WithPreflight(false), pgprod.WithLogger(slog.New(slog.NewJSONHandler(&to.log, nil))))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	to.page = pgprod.DebugHandler(db)
	return db
}

// openOtelsql sets it up as its documentation advises.
func openOtelsql(t *testing.T, dsn string, size int, to *told) *sql.DB {
	db, err := otelsql.Open("pgx", dsn, otelsql.WithTracerProvider(to.tracers),
		otelsql.WithAttributes(append(otelsql.AttributesFromDSN(dsn), semconv.DBSystemNamePostgreSQL)...))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	db.SetMaxOpenConns(size)
	return db
}

// openOtelpgx has the tracer in a pgxpool.
func openOtelpgx(t *testing.T, dsn string, size int, to *told) *sql.DB {
	config, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	config.MaxConns = int32(size)
	config.ConnConfig.Tracer = otelpgx.NewTracer(otelpgx.WithTracerProvider(to.tracers))
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	db := stdlib.OpenDBFromPool(pool)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return db
}

// dsnFor adds to a DSN what a client needs behind PgBouncer, and what this program is called.
func (c client) dsnFor(dsn string, pooled bool) string {
	dsn = pgtest.With(dsn, "application_name", "shop")
	if pooled {
		dsn = pgtest.With(dsn, "default_query_exec_mode", "exec")
	}
	return dsn
}
