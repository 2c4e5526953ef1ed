package drivertest

import (
	"context"
	"database/sql"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
	"github.com/pgprod/pgprod/internal/pgtest/loopback"
)

func TestAServerThatDoesNotServeIsBoundedByPoolTimeoutWithAClearError(t *testing.T) {
	t.Parallel()
	const limit = 700 * time.Millisecond
	for _, c := range []struct {
		name string
		dsn  func(*testing.T) string
		says string
	}{
		{"refused", refusing, "refused"},
		{"not accepted", notAccepting, "timeout"},
		{"closed at once", closingAtOnce, "failed to connect"},
		{"silent", silent, "timeout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := openPool(t, with(c.dsn(t), "pool_timeout", limit.String(), "connect_timeout", "0.2"))
			requests := askMany(t.Context(), db, 5)
			for _, r := range requests {
				require.ErrorIs(t, r.wait(t), pgprod.ErrPoolTimeout)
				assert.GreaterOrEqual(t, r.took, limit)
				assert.Less(t, r.took, limit+patience/2)
				assert.ErrorContains(t, r.err, "; the last attempt to connect failed: ")
				assert.ErrorContains(t, r.err, c.says)
				assert.NotContains(t, r.err.Error(), "\n")
			}
			s := statusOf(t, db)
			assert.Positive(t, s.FailedConnects)
			assert.EqualValues(t, 5, s.Timeouts)
			within(t, patience/2, func() { require.NoError(t, db.Close()) })
			assert.True(t, atRest(statusOf(t, db)))
		})
	}
}

func TestPoolTimeoutCountsEvenWhereTheDialTakesLonger(t *testing.T) {
	t.Parallel()
	db := openPool(t, with(silent(t), "pool_timeout", "250ms", "connect_timeout", "1m"))
	r := ask(t.Context(), db)
	require.ErrorIs(t, r.wait(t), pgprod.ErrPoolTimeout)
	within(t, patience/2, func() { require.NoError(t, db.Close(), "Close ends the dial") })
}

func refusing(t *testing.T) string {
	port, err := loopback.FreePort()
	require.NoError(t, err)
	return "postgres://postgres@" + net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) + "/postgres?sslmode=disable"
}

func notAccepting(t *testing.T) string {
	listener, err := loopback.Listen()
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	return "postgres://postgres@" + listener.Addr().String() + "/postgres?sslmode=disable"
}

func closingAtOnce(t *testing.T) string {
	listener, err := loopback.Listen()
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() { // ends when the listener is closed
		for {
			var conn net.Conn
			if conn, err = listener.Accept(); err != nil {
				return
			}
			_ = conn.Close()
		}
	})
	t.Cleanup(func() { _ = listener.Close(); wg.Wait() })
	return "postgres://postgres@" + listener.Addr().String() + "/postgres?sslmode=disable"
}

func silent(t *testing.T) string {
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	proxy.SilenceNew(true)
	return proxy.DSN()
}

func TestAServerThatIsBackWithinTheWaitCostsNoError(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	db := openPool(t, with(server.DSN(""), "pool_timeout", "1m"))
	fill(t, db, 3)
	require.NoError(t, server.Shutdown(t.Context(), pgtest.Fast))
	requests := askMany(t.Context(), db, 20)
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.FailedConnects >= 3 && s.Waiting == 20 })
	require.NoError(t, server.Resume(t.Context()))
	for _, r := range requests {
		require.NoError(t, r.wait(t))
	}
}

func TestAFailedConnectGivesItsPlaceBack(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	require.NoError(t, proxy.Refuse())
	db := openPool(t, oneConn(proxy.DSN(), "pool_timeout", "1m"))
	ctx, cancel := context.WithCancel(t.Context())
	gone, waiting := ask(ctx, db), ask(t.Context(), db)
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.FailedConnects >= 3 && s.Waiting == 2 })
	cancel()
	require.ErrorIs(t, gone.wait(t), context.Canceled)
	require.NoError(t, proxy.Admit())
	require.NoError(t, waiting.wait(t))
	hold(t, db)
	assert.Equal(t, 1, statusOf(t, db).CheckedOut)
}

func TestARefusalForGoodFailsEverybodyAtOnceWithTheServersError(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	db := openPool(t, with(dsn, "dbname", "no_such_database", "pool_timeout", "1h"))
	for _, r := range askMany(t.Context(), db, 10) {
		require.Equal(t, "3D000", sqlState(r.wait(t)))
		require.NotErrorIs(t, r.err, pgprod.ErrPoolTimeout)
	}
	eventually(t, db, atRest)
}

func TestOneHangingConnectBlocksNobodyElse(t *testing.T) {
	t.Parallel()
	for _, delay := range []time.Duration{0, 400 * time.Millisecond} {
		t.Run(delay.String(), func(t *testing.T) {
			t.Parallel()
			proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
			db := openPool(t, with(proxy.DSN(), "connect_timeout", "1h", "pool_timeout", "1h"))
			proxy.SilenceNew(true)
			unlucky := ask(t.Context(), db)
			pgtest.Eventually(t, patience, func() bool { return proxy.Stats().Accepted == 1 })
			proxy.SilenceNew(false)
			proxy.DelayConnect(delay)
			conns := holdMany(t, db, 2) // of which the unlucky one has had the first
			require.NoError(t, unlucky.wait(t))
			conns = append(conns, holdMany(t, db, 5)...)
			assert.Equal(t, len(conns), statusOf(t, db).CheckedOut)
			eventually(t, db, func(s pgprod.PoolStatus) bool { return s.Connecting == 1 }) // it still hangs
		})
	}
}

func TestACancelDuringConnectLeavesTheConnectionToTheNext(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, oneConn(proxy.DSN()))
	proxy.DelayConnect(time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	gone := ask(ctx, db)
	pgtest.Eventually(t, patience, func() bool { return proxy.Stats().Accepted == 1 })
	cancel()
	require.ErrorIs(t, gone.wait(t), context.Canceled)
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.CheckedIn == 1 })
	require.NoError(t, db.Ping())
	assert.Equal(t, 1, proxy.Stats().Accepted)
	assert.Empty(t, statusOf(t, db).Closed)
}

func TestAColdStartUnderDeadlinesShorterThanADialSucceedsInTheEnd(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	proxy.DelayConnect(300 * time.Millisecond)
	db := openPool(t, proxy.DSN())
	pgtest.Eventually(t, patience, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		// No statement: one that the deadline ends on a busy machine costs a cancel request, a connection of its own.
		return pgprod.Raw(ctx, db, func(*pgx.Conn) error { return nil }) == nil
	})
	assert.Equal(t, 1, proxy.Stats().Accepted, "one dial served them all")
}

func TestASpikeOfShortStatementsIsServed(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	proxy.DelayConnect(150 * time.Millisecond)
	db := openPool(t, with(proxy.DSN(), "pool_size", "50", "max_overflow", "0"))
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			_, err := db.Exec("select pg_sleep(0.002)")
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	// How many it takes depends on the machine; package lease tests it with a clock of its own.
	eventually(t, db, atRest)
	t.Logf("50 callers: %d connections", statusOf(t, db).CheckedIn)
}

func TestACallerWithAFinishedContextCostsNothing(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, proxy.DSN())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, ask(ctx, db).wait(t), context.Canceled)
	_, err := db.BeginTx(ctx, &sql.TxOptions{})
	require.ErrorIs(t, err, context.Canceled)
	assert.Zero(t, proxy.Stats().Accepted)
}
