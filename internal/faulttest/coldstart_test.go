package faulttest

import (
	"context"
	"database/sql"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// request is one of a server whose callers wait a tenth of a second.
func request(db *sql.DB) error {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, err := db.ExecContext(ctx, "select 1")
	return err
}

func TestRequestsWithShortDeadlinesSucceedFromTheFirstFinishedDialOn(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	proxy.DelayConnect(300 * time.Millisecond)
	db := openPool(t, with(proxy.DSN(), "pool_size", "3", "max_overflow", "1"))
	failed := 0
	began := time.Now()
	for statusOf(t, db).CheckedIn == 0 { // requests come one after the other; nobody waits longer than his own limit
		if err := request(db); err != nil {
			failed++
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		require.Less(t, time.Since(began), patience)
	}
	t.Logf("%d requests failed until a connection was there, after %v", failed, time.Since(began).Round(time.Millisecond))
	succeeded := 0
	for range 20 {
		if request(db) == nil {
			succeeded++
		}
	}
	assert.Greater(t, succeeded, 10, "all of them, unless this machine is too slow for a tenth of a second")
	assert.LessOrEqual(t, proxy.Stats().Startups-closedSoFar(t, db), 4, "more dials than places")
}

func TestDialsNeverExceedThePlacesHoweverManyRequestsComeAndGo(t *testing.T) {
	t.Parallel()
	const places = 4
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	proxy.DelayConnect(300 * time.Millisecond)
	db := openPool(t, with(proxy.DSN(), "pool_size", "3", "max_overflow", "1"))
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			for range 8 {
				_ = request(db)
				made := proxy.Stats().Startups // cancel requests aside
				assert.LessOrEqual(t, made-closedSoFar(t, db), places)
			}
		})
	}
	wg.Wait()
	pgtest.Eventually(t, patience, func() bool { return statusOf(t, db).Connecting == 0 })
	exec(t, db, "select 1")
	pgtest.Eventually(t, patience, func() bool { return statusOf(t, db).CheckedOut == 0 })
	assert.LessOrEqual(t, statusOf(t, db).CheckedIn, places)
	assert.Equal(t, proxy.Stats().Startups, statusOf(t, db).CheckedIn+closedSoFar(t, db), "no dial was thrown away")
}

// closedSoFar is how many connections the pool has closed.
func closedSoFar(t testing.TB, db *sql.DB) (n int) {
	t.Helper()
	for _, closed := range statusOf(t, db).Closed {
		n += int(closed)
	}
	return n
}

// TestPgxNeverGetsThroughAColdStart shows what the tests above protect from.
func TestPgxNeverGetsThroughAColdStart(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	proxy.DelayConnect(300 * time.Millisecond)
	db := openPgx(t, proxy.DSN())
	for range 12 {
		require.Error(t, request(db), "pgx has been fixed?")
	}
	assert.GreaterOrEqual(t, proxy.Stats().Accepted, 12, "each of them dialled, for nothing")
}

// TestASpikeEndsWithFewConnections is what HikariCP's documentation measures pools with. It has the machine to itself.
func TestASpikeEndsWithFewConnections(t *testing.T) {
	pgprod := func(t *testing.T, dsn string) *sql.DB { return openPool(t, with(dsn, "preflight", "off")) }
	few := false
	for range 3 { // where a statement takes long, more connections are right
		few = few || spike(t, "pgprod", pgprod, 1) <= 12
	}
	assert.True(t, few, "connections")
	assert.LessOrEqual(t, spike(t, "pgprod", pgprod, 20), 30, "the places")
	spike(t, "pgx", openTuned, 1)
	spike(t, "pgx", openTuned, 20)
}

// spike has fifty callers appear at once, and returns how many connections that made.
func spike(t *testing.T, driver string, open func(*testing.T, string) *sql.DB, statements int) (dialled int) {
	t.Helper()
	const callers = 50
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	proxy.DelayConnect(150 * time.Millisecond)
	db := open(t, proxy.DSN())
	var wg sync.WaitGroup
	began := time.Now()
	for range callers {
		wg.Go(func() {
			for range statements {
				_, err := db.Exec("select pg_sleep(0.002)")
				assert.NoError(t, err)
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	s := proxy.Stats()
	t.Logf("%s: %d callers, %d statements of 2 ms each, 150 ms to connect: %d connections (%d dialled) after %v",
		driver, callers, statements, s.Open, s.Startups, took.Round(time.Millisecond))
	return s.Startups
}
