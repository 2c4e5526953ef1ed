// Package dropin holds what is tested of every library on top of pgprod alike.
package dropin

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// patience is how long a test waits for what must happen at some time.
const patience = 20 * time.Second

// A Client is a library on a pool, with an empty table of unique names that it made. Its functions use the library's
// own means, never DB.
type Client struct {
	DB     *sql.DB
	Insert func(ctx context.Context, name string) error
	Names  func(ctx context.Context) ([]string, error) // sorted
	// InTx runs f in a transaction, with an Insert of its own. It commits if f returns nil.
	InTx func(ctx context.Context, f func(insert func(name string) error) error) error
}

// Adopt closes db at the end of the test, when no connection may be in use any more.
func Adopt(t testing.TB, db *sql.DB) *sql.DB {
	t.Helper()
	t.Cleanup(func() {
		RequireNothingPinned(t, db)
		assert.NoError(t, db.Close())
	})
	return db
}

// Open opens a pool by the driver's name, as most users do, and adopts it.
func Open(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(pgprod.DriverName, dsn)
	require.NoError(t, err)
	return Adopt(t, db)
}

// RequireNothingPinned checks that no connection is in use. What a context ended is given back a moment later, by
// database/sql's own goroutine: hence the wait.
func RequireNothingPinned(t testing.TB, db *sql.DB) {
	t.Helper()
	var status pgprod.PoolStatus
	pgtest.Eventually(t, patience, func() bool {
		var err error
		status, err = pgprod.Status(db)
		return err != nil || status.CheckedOut == 0
	}, "a connection is still in use")
	require.Zero(t, status.CheckedOut)
	require.NotEmpty(t, status.PoolName, "this is not pgprod's pool")
}

// RequireState checks that the server's own error is to be found in err, and has the SQLSTATE.
func RequireState(t testing.TB, err error, state string) {
	t.Helper()
	refused, ok := errors.AsType[*pgconn.PgError](err)
	require.True(t, ok, "no *pgconn.PgError in %T: %v", err, err)
	require.Equal(t, state, refused.Code, "%v", err)
}

// OneConn limits a pool to one connection: what holds a second one, or keeps the first, fails soon.
func OneConn(dsn string) string {
	return pgtest.With(dsn, "pool_size", "1", "max_overflow", "0", "pool_timeout", "10s")
}

// Check runs all that is tested of every library. open opens one on an empty database.
func Check(t *testing.T, open func(t testing.TB, dsn string) Client) {
	t.Helper()
	for _, one := range []struct {
		name  string
		check func(*testing.T, func(testing.TB, string) Client)
	}{
		{"the server's error arrives", errorArrives},
		{"a transaction is rolled back", rollsBack},
		{"a cancelled transaction gives its connection back", cancelled},
		{"terminated connections are replaced", terminated},
		{"many share one connection", oneConnection},
		{"tenants see the rows of their own", tenants},
	} {
		t.Run(one.name, func(t *testing.T) { one.check(t, open) })
	}
}

func errorArrives(t *testing.T, open func(testing.TB, string) Client) {
	c := open(t, pgtest.NewDatabase(t))
	require.NoError(t, c.Insert(t.Context(), "ann"))
	RequireState(t, c.Insert(t.Context(), "ann"), "23505")
	RequireNothingPinned(t, c.DB)

	err := c.InTx(t.Context(), func(insert func(string) error) error { return insert("ann") })
	RequireState(t, err, "23505")
	requireNames(t, c, "ann")
}

func rollsBack(t *testing.T, open func(testing.TB, string) Client) {
	c := open(t, pgtest.NewDatabase(t))
	require.NoError(t, c.InTx(t.Context(), func(insert func(string) error) error { return insert("ann") }))
	changedMind := errors.New("changed my mind")
	err := c.InTx(t.Context(), func(insert func(string) error) error { return errors.Join(insert("bob"), changedMind) })
	require.ErrorIs(t, err, changedMind)
	requireNames(t, c, "ann")
}

func cancelled(t *testing.T, open func(testing.TB, string) Client) {
	c := open(t, OneConn(pgtest.NewDatabase(t)))
	ctx, cancel := context.WithCancel(t.Context())
	err := c.InTx(ctx, func(insert func(string) error) error {
		if err := insert("ann"); err != nil {
			return err
		}
		cancel()
		return insert("bob")
	})
	require.Error(t, err)
	requireNames(t, c)
}

func terminated(t *testing.T, open func(testing.TB, string) Client) {
	dsn := pgtest.NewDatabase(t)
	c := open(t, dsn)
	require.NoError(t, c.Insert(t.Context(), "ann"))
	fill(t, c.DB, 3)
	require.NoError(t, pgtest.Shared(t).TerminateAll(t.Context(), pgtest.DatabaseName(dsn)))

	requireNames(t, c, "ann")
	fill(t, c.DB, 3)
	require.NoError(t, pgtest.Shared(t).TerminateAll(t.Context(), pgtest.DatabaseName(dsn)))
	require.NoError(t, c.Insert(t.Context(), "bob"))
	require.NoError(t, c.InTx(t.Context(), func(insert func(string) error) error { return insert("cid") }))
	requireNames(t, c, "ann", "bob", "cid")
}

func oneConnection(t *testing.T, open func(testing.TB, string) Client) {
	const users = 8
	c := open(t, OneConn(pgtest.NewDatabase(t)))
	errs := make([]error, users)
	var all sync.WaitGroup
	for i := range users {
		all.Go(func() { // ends by pool_timeout at the latest
			_, err := c.Names(t.Context())
			errs[i] = errors.Join(err, c.Insert(t.Context(), fmt.Sprint("a", i)), c.InTx(t.Context(),
				func(insert func(string) error) error { return insert(fmt.Sprint("b", i)) }))
		})
	}
	all.Wait()
	require.NoError(t, errors.Join(errs...))
	names, err := c.Names(t.Context())
	require.NoError(t, err)
	require.Len(t, names, 2*users)
	RequireNothingPinned(t, c.DB)
}

func requireNames(t testing.TB, c Client, want ...string) {
	t.Helper()
	got, err := c.Names(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, want, got)
	RequireNothingPinned(t, c.DB)
}

// fill makes the pool hold n idle connections at least.
func fill(t testing.TB, db *sql.DB, n int) {
	t.Helper()
	conns := make([]*sql.Conn, n)
	for i := range conns {
		var err error
		conns[i], err = db.Conn(t.Context())
		require.NoError(t, err)
		require.NoError(t, conns[i].PingContext(t.Context()))
	}
	for _, conn := range conns {
		require.NoError(t, conn.Close())
	}
}
