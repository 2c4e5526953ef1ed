package hooks

import (
	"context"
	"database/sql"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// patience is how long a test waits for what must happen at some time.
const patience = 20 * time.Second

// open opens a pool without a preflight that the end of the test closes.
func open(t *testing.T, dsn string, opts ...pgprod.Option) *sql.DB {
	t.Helper()
	db, err := pgprod.Open(dsn, append([]pgprod.Option{pgprod.WithPreflight(false)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// get runs a query for one value.
func get[T any](t *testing.T, db *sql.DB, query string, args ...any) (value T) {
	t.Helper()
	require.NoError(t, db.QueryRowContext(context.Background(), query, args...).Scan(&value), query)
	return value
}
