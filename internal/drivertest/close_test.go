package drivertest

import (
	"context"
	"database/sql"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

func TestReturningAConnectionTwiceIsHarmless(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t), "pool_timeout", "500ms"))
	fill(t, db, 1)
	for name, twice := range map[string]func(*testing.T){
		"rows": func(t *testing.T) {
			rows, err := db.Query("select generate_series(1, 10)")
			require.NoError(t, err)
			require.True(t, rows.Next())
			require.NoError(t, rows.Close())
			require.NoError(t, rows.Close())
			require.NoError(t, rows.Err())
		},
		"rows read to their end": func(t *testing.T) {
			rows, err := db.Query("select 1")
			require.NoError(t, err)
			for rows.Next() {
			}
			require.NoError(t, rows.Close())
			require.NoError(t, rows.Close())
		},
		"transaction": func(t *testing.T) {
			tx, err := db.Begin()
			require.NoError(t, err)
			require.NoError(t, tx.Commit())
			require.ErrorIs(t, tx.Rollback(), sql.ErrTxDone)
			require.ErrorIs(t, tx.Commit(), sql.ErrTxDone)
		},
		"connection": func(t *testing.T) {
			conn, err := db.Conn(t.Context())
			require.NoError(t, err)
			require.NoError(t, conn.PingContext(t.Context()))
			require.NoError(t, conn.Close())
			require.ErrorIs(t, conn.Close(), sql.ErrConnDone)
		},
		"statement": func(t *testing.T) {
			st, err := db.Prepare("select 1")
			require.NoError(t, err)
			require.NoError(t, st.Close())
			require.NoError(t, st.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			twice(t)
			s := statusOf(t, db)
			require.Zero(t, s.CheckedOut)
			require.Equal(t, 1, s.CheckedIn)
			conn := hold(t, db)
			require.ErrorIs(t, db.Ping(), pgprod.ErrPoolTimeout, "there is one connection, not two")
			require.NoError(t, conn.Close())
		})
	}
	assert.Empty(t, statusOf(t, db).Closed)
}

func TestCloseWithConnectionsOutWaitersAndDialsUnderWay(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, with(proxy.DSN(), "pool_size", "3", "max_overflow", "2", "connect_timeout", "1h", "pool_timeout", "1h"))
	fill(t, db, 3)
	out := holdMany(t, db, 2)
	proxy.SilenceNew(true)
	conn := hold(t, db)
	requests := askMany(t.Context(), db, 5)
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.Waiting == 5 && s.Connecting == 2 })
	require.NoError(t, conn.Close()) // serves them all, one after the other
	for _, r := range requests {
		require.NoError(t, r.wait(t))
	}
	out = append(out, hold(t, db))
	requests = askMany(t.Context(), db, 5)
	eventually(t, db, waiting(5))

	within(t, patience/2, func() { require.NoError(t, db.Close()) })
	for _, r := range requests {
		require.ErrorContains(t, r.wait(t), "closed")
		require.NotErrorIs(t, r.err, pgprod.ErrPoolTimeout)
		require.NotErrorIs(t, r.err, sql.ErrConnDone)
	}
	assert.Error(t, db.Ping())
	s := statusOf(t, db)
	assert.Equal(t, 3, s.CheckedOut)
	assert.Zero(t, s.CheckedIn+s.Waiting+s.Connecting)
	for _, conn := range out {
		require.NoError(t, conn.PingContext(t.Context()), "what is out goes on until it is given back")
	}
	giveBack(t, out)
	s = statusOf(t, db)
	assert.Zero(t, s.CheckedOut+s.CheckedIn)
	assert.EqualValues(t, 3, s.Closed["closed"])
	pgtest.Eventually(t, patience, func() bool { return proxy.Stats().Open == 0 })
}

func TestCloseDoesNotWaitForAPasswordFunctionThatTakesNoNoticeOfItsContext(t *testing.T) {
	t.Parallel()
	stop, asked := make(chan struct{}), make(chan struct{})
	db, err := pgprod.Open(pgtest.NewDatabase(t), pgprod.WithPasswordFunc(func(context.Context) (string, error) {
		close(asked)
		<-stop
		return "", nil
	}))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	require.ErrorIs(t, db.PingContext(ctx), context.Canceled)
	within(t, patience/2, func() { require.NoError(t, db.Close()) })
	close(stop)
}

func TestASecondCloseIsHarmless(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	db := openPool(t, dsn)
	fill(t, db, 3)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { assert.NoError(t, db.Close()) })
	}
	wg.Wait()
	require.NoError(t, db.Close())
	pgtest.Eventually(t, patience, func() bool { return backends(t, dsn) == 0 })

	c, err := pgprod.NewConnector(dsn)
	require.NoError(t, err)
	for range 8 {
		wg.Go(func() { assert.NoError(t, c.Close()) })
	}
	wg.Wait()
}

func TestCloseWhileManyBorrow(t *testing.T) {
	t.Parallel()
	for range 5 {
		dsn := pgtest.NewDatabase(t)
		db := openPool(t, with(dsn, "pool_size", "3", "max_overflow", "2"))
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				for {
					if _, err := db.Exec("select 1"); err != nil {
						assert.ErrorContains(t, err, "closed")
						return
					}
				}
			})
		}
		eventually(t, db, func(s pgprod.PoolStatus) bool { return s.PeakCheckedOut > 1 })
		require.NoError(t, db.Close())
		wg.Wait()
		s := statusOf(t, db)
		assert.Zero(t, s.CheckedOut+s.CheckedIn+s.Waiting+s.Connecting, "%+v", s)
	}
}

func TestASlowCloseBlocksNoBorrower(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, with(proxy.DSN(), "pool_size", "1", "max_overflow", "20"))
	conns := holdMany(t, db, 21)
	for _, c := range proxy.Conns()[1:] {
		c.BlackHole(faultproxy.ToServer, true) // no goodbye arrives
		c.BlackHole(faultproxy.ToClient, true)
	}
	start := time.Now()
	require.NoError(t, conns[0].Close()) // this one is kept
	for _, conn := range conns[1:] {
		require.NoError(t, conn.Close())
	}
	conns = nil
	within(t, patience/2, func() {
		for range 5 {
			conns = append(conns, hold(t, db))
		}
	})
	// Each goodbye takes a second before it is given up. One after the other they would take 20.
	assert.Less(t, time.Since(start), 10*time.Second)
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.CheckedOut == 5 })
	giveBack(t, conns)
}
