package drivertest

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/dbconv"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// pidsOf are the processes of a database's connections, in order.
func pidsOf(t testing.TB, dsn string) (pids []uint32) {
	t.Helper()
	list, err := pgtest.Shared(t).Backends(context.Background(), pgtest.DatabaseName(dsn))
	require.NoError(t, err)
	for _, b := range list {
		pids = append(pids, b.PID)
	}
	slices.Sort(pids)
	return pids
}

func TestTheMinimumIsMadeFromTheFirstUseOnAndNotBefore(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	m := newMetering(t)
	db := openPool(t, proxy.DSN(), pgprod.WithPoolSize(5), pgprod.WithPoolMin(4), pgprod.WithMeterProvider(m.provider))
	require.Zero(t, proxy.Stats().Accepted)
	require.NoError(t, db.Ping())
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.CheckedIn == 4 && s.Connecting == 0 })
	fill(t, db, 5)
	assert.Equal(t, 5, proxy.Stats().Accepted)

	name := semconv.DBClientConnectionPoolName(statusOf(t, db).PoolName)
	assert.EqualValues(t, 4, sum(m.collect(t)[dbconv.ClientConnectionIdleMin{}.Name()], name))
}

func TestTheMinimumOutlivesTheIdleTimeout(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	db := openPool(t, with(dsn, "pool_min", "2", "pool_idle_timeout", "1s"))
	all := fill(t, db, 4)
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.CheckedIn == 2 })
	var kept []uint32
	pgtest.Eventually(t, patience, func() bool { kept = pidsOf(t, dsn); return len(kept) == 2 }, "the others say goodbye")
	time.Sleep(3 * time.Second) // what is looked for here is what does not happen
	assert.Equal(t, kept, pidsOf(t, dsn))
	for _, pid := range kept {
		assert.True(t, slices.Contains(all, pid), "it was made anew")
	}
	s := statusOf(t, db)
	assert.Equal(t, map[string]int64{"idle": 2}, s.Closed)
	assert.Zero(t, s.Connecting)
}

func TestTheMinimumIsReplacedWhenItIsTooOldThoughNobodyComes(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	db := openPool(t, with(dsn, "pool_min", "2", "pool_recycle", "1s"))
	require.NoError(t, db.Ping())
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.Closed["lifetime"] >= 4 })
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.CheckedIn == 2 })
	assert.Len(t, statusOf(t, db).Closed, 1, "for no other reason")
}

func TestTheMinimumIsMadeGoodWhenConnectionsAreLost(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	db := openPool(t, with(dsn, "pool_min", "3"))
	require.NoError(t, db.Ping())
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.CheckedIn == 3 })
	lost := pidsOf(t, dsn)
	terminate(t, lost...)
	pgtest.Eventually(t, patience, func() bool { // each use finds one dead
		require.NoError(t, db.Ping())
		now := pidsOf(t, dsn)
		return len(now) == 3 && !slices.ContainsFunc(now, func(pid uint32) bool { return slices.Contains(lost, pid) })
	})
}

func TestAServerThatIsDownIsAskedNowAndThenForTheMinimum(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	log := &logged{}
	db := openPool(t, with(proxy.DSN(), "pool_min", "3", "pool_timeout", "500ms"), log.option(slog.LevelInfo))
	require.NoError(t, db.Ping())
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.CheckedIn == 3 })
	require.NoError(t, proxy.Refuse())
	proxy.CloseAll(faultproxy.RST)
	require.Error(t, db.Ping())
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.FailedConnects > 4 && s.Waiting == 0 })
	failed := statusOf(t, db).FailedConnects
	time.Sleep(3 * time.Second) // what is looked for here is what does not happen
	assert.LessOrEqual(t, statusOf(t, db).FailedConnects-failed, int64(10))
	require.NoError(t, proxy.Admit())
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.CheckedIn == 3 })
	assert.LessOrEqual(t, len(log.lines(t, "")), 4, log.buffer.String())
}
