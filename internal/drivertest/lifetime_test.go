package drivertest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

const age = "select extract(epoch from clock_timestamp() - backend_start) from pg_stat_activity where pid = pg_backend_pid()"

func TestAConnectionInUseOutlivesItsLifetimeAndIsClosedOnReturn(t *testing.T) {
	t.Parallel()
	db := openPool(t, with(pgtest.NewDatabase(t), "pool_recycle", "2s"))
	conn := hold(t, db)
	pid := backendPID(t, conn)
	pgtest.Eventually(t, patience, func() bool { return get[float64](t, conn, age) > 2.2 })
	assert.Equal(t, pid, backendPID(t, conn))
	assert.Empty(t, statusOf(t, db).Closed)
	require.NoError(t, conn.Close())
	s := statusOf(t, db)
	assert.Equal(t, map[string]int64{"lifetime": 1}, s.Closed)
	assert.Zero(t, s.CheckedIn)
	assert.NotEqual(t, pid, backendPID(t, db))
}

func TestNoConnectionIsLentBeyondItsLifetime(t *testing.T) {
	t.Parallel()
	const recycle = 500 * time.Millisecond
	db := openPool(t, with(pgtest.NewDatabase(t), "pool_recycle", recycle.String()))
	dialled := map[uint32]time.Duration{} // how long it may have taken to make each connection: the server counts from before
	pgtest.Eventually(t, patience, func() bool {
		before := time.Now()
		conn := hold(t, db)
		seconds := get[float64](t, conn, age)
		took, pid := time.Since(before), backendPID(t, conn)
		if _, known := dialled[pid]; !known {
			dialled[pid] = took
		}
		assert.Less(t, seconds, (recycle + took + dialled[pid] + 50*time.Millisecond).Seconds())
		require.NoError(t, conn.Close())
		return len(dialled) == 4
	})
	assert.GreaterOrEqual(t, statusOf(t, db).Closed["lifetime"], int64(3))
}

func TestIdleConnectionsEndWithTheirLifetime(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	db := openPool(t, with(dsn, "pool_recycle", "2s"))
	fill(t, db, 3)
	pgtest.Eventually(t, patience, func() bool { return backends(t, dsn) == 0 })
	s := statusOf(t, db)
	assert.Equal(t, map[string]int64{"lifetime": 3}, s.Closed)
	assert.Zero(t, s.CheckedIn)
}

func TestIdleConnectionsEndAfterTheIdleTimeout(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	db := openPool(t, with(dsn, "pool_idle_timeout", "2s"))
	fill(t, db, 3)
	held := hold(t, db)
	pgtest.Eventually(t, patience, func() bool { return backends(t, dsn) == 1 })
	s := statusOf(t, db)
	assert.Equal(t, map[string]int64{"idle": 2}, s.Closed)
	assert.Equal(t, 1, s.CheckedOut)
	require.NoError(t, held.PingContext(t.Context()))
}

func TestAConnectionWhoseRequesterHasGoneEndsAfterTheIdleTimeoutToo(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, with(proxy.DSN(), "pool_idle_timeout", "300ms"))
	proxy.DelayConnect(time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	r := ask(ctx, db)
	pgtest.Eventually(t, patience, func() bool { return proxy.Stats().Accepted == 1 })
	cancel()
	require.ErrorIs(t, r.wait(t), context.Canceled)
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.Closed["idle"] == 1 && s.CheckedIn == 0 })
	pgtest.Eventually(t, patience, func() bool { return proxy.Stats().Open == 0 })
}

func TestRecycleAndIdleTimeoutZeroAreNever(t *testing.T) {
	t.Parallel()
	db := openPool(t, with(pgtest.NewDatabase(t), "pool_recycle", "0", "pool_idle_timeout", "0"))
	pid := backendPID(t, db)
	pgtest.Eventually(t, patience, func() bool { return get[float64](t, db, age) > 1.2 })
	assert.Equal(t, pid, backendPID(t, db))
}

func TestAConnectionThatTookLongerToMakeThanItMayLiveIsLent(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	proxy.DelayConnect(400 * time.Millisecond)
	db := openPool(t, with(proxy.DSN(), "pool_recycle", "200ms", "pool_timeout", patience.String()))
	require.NoError(t, db.Ping())
}
