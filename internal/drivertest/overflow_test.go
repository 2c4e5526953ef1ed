package drivertest

import (
	"context"
	"database/sql"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// backends counts the connections to the test's database as the server sees them.
func backends(t testing.TB, dsn string) int {
	t.Helper()
	list, err := pgtest.Shared(t).Backends(context.Background(), pgtest.DatabaseName(dsn))
	require.NoError(t, err)
	return len(list)
}

func holdMany(t testing.TB, db *sql.DB, n int) []*sql.Conn {
	t.Helper()
	conns := make([]*sql.Conn, n)
	for i := range conns {
		conns[i] = hold(t, db)
	}
	return conns
}

func giveBack(t testing.TB, conns []*sql.Conn) {
	t.Helper()
	for _, conn := range conns {
		require.NoError(t, conn.Close())
	}
}

func TestOverflowIsNeverExceededAndClosedOnReturn(t *testing.T) {
	t.Parallel()
	const size = 2
	for _, overflow := range []int{0, 3} {
		dsn := pgtest.NewDatabase(t)
		db := openPool(t, with(dsn, "pool_size", strconv.Itoa(size), "max_overflow", strconv.Itoa(overflow), "pool_timeout", "100ms"))
		conns := holdMany(t, db, size+overflow)
		require.ErrorIs(t, db.Ping(), pgprod.ErrPoolTimeout)
		s := statusOf(t, db)
		assert.Equal(t, overflow, s.Overflow)
		assert.Equal(t, size+overflow, s.CheckedOut)
		assert.InDelta(t, 1, s.Utilisation, 0)
		assert.Equal(t, size+overflow, backends(t, dsn))

		giveBack(t, conns)
		s = statusOf(t, db)
		assert.Equal(t, size, s.CheckedIn)
		assert.Zero(t, s.Overflow+s.CheckedOut)
		assert.EqualValues(t, overflow, s.Closed["overflow"])
		pgtest.Eventually(t, patience, func() bool { return backends(t, dsn) == size })
	}
}

func TestOverflowIsNotExceededUnderLoadEither(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, with(proxy.DSN(), "pool_size", "2", "max_overflow", "3", "pool_timeout", "1m"))
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			for range 20 {
				_, err := db.Exec("select pg_sleep(0.001)")
				assert.NoError(t, err)
				s := statusOf(t, db)
				assert.LessOrEqual(t, s.CheckedOut, 5)
				assert.LessOrEqual(t, s.Overflow, 3)
			}
		})
	}
	wg.Wait()
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.Connecting == 0 && s.CheckedIn <= 2 })
	assert.LessOrEqual(t, statusOf(t, db).PeakCheckedOut, 5)
	pgtest.Eventually(t, patience, func() bool { return proxy.Stats().Open <= 2 })
}

func TestWithoutALimitOverflowIsAsLargeAsNeedBe(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	db := openPool(t, with(dsn, "pool_size", "1", "max_overflow", "-1"))
	conns := holdMany(t, db, 25)
	s := statusOf(t, db)
	assert.Equal(t, -1, s.MaxOverflow)
	assert.Equal(t, 24, s.Overflow)
	assert.InDelta(t, 25, s.Utilisation, 0)
	giveBack(t, conns)
	s = statusOf(t, db)
	assert.Equal(t, 1, s.CheckedIn)
	assert.EqualValues(t, 24, s.Closed["overflow"])
	pgtest.Eventually(t, patience, func() bool { return backends(t, dsn) == 1 })
}

func TestConnectionsWhoseRequesterHasGoneAreNotKeptBeyondPoolSize(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, with(proxy.DSN(), "pool_size", "1", "max_overflow", "5"))
	proxy.DelayConnect(time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	requests := askMany(ctx, db, 2)
	pgtest.Eventually(t, patience, func() bool { return proxy.Stats().Accepted == 2 })
	cancel()
	for _, r := range requests {
		require.ErrorIs(t, r.wait(t), context.Canceled)
	}
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.Connecting == 0 && s.CheckedIn == 1 && s.Overflow == 0 })
}

// TestAfterABurstNoMoreThanPoolSizeAreIdle has connections come back while others are being dialled: each of the two may see
// the other as not idle yet.
func TestAfterABurstNoMoreThanPoolSizeAreIdle(t *testing.T) {
	t.Parallel()
	const size = 2
	db := openPool(t, with(pgtest.NewDatabase(t), "pool_size", strconv.Itoa(size), "max_overflow", "8"))
	bursts := 2000
	if testing.Short() {
		bursts = 200
	}
	for range bursts {
		var burst sync.WaitGroup
		for range 2 * size {
			burst.Go(func() { mustExec(t, db, "select 1") })
		}
		burst.Wait()
		eventually(t, db, func(s pgprod.PoolStatus) bool { return s.CheckedIn <= size })
	}
}
