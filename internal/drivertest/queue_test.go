package drivertest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// A request is a statement that runs in a goroutine of its own.
type request struct {
	done chan struct{}
	err  error // once done is closed
	took time.Duration
}

// ask starts a statement.
func ask(ctx context.Context, db *sql.DB) *request {
	r := &request{done: make(chan struct{})}
	go func() { // ends with the statement, which pool_timeout and command_timeout bound
		defer close(r.done)
		start := time.Now()
		_, r.err = db.ExecContext(ctx, "select 1")
		r.took = time.Since(start)
	}()
	return r
}

func askMany(ctx context.Context, db *sql.DB, n int) []*request {
	requests := make([]*request, n)
	for i := range requests {
		requests[i] = ask(ctx, db)
	}
	return requests
}

// wait returns the statement's error.
func (r *request) wait(t testing.TB) error {
	t.Helper()
	select {
	case <-r.done:
	case <-time.After(patience):
		require.Fail(t, "a statement hangs")
	}
	return r.err
}

// eventually waits until the pool's status is as wanted.
func eventually(t testing.TB, db *sql.DB, want func(pgprod.PoolStatus) bool) {
	t.Helper()
	var s pgprod.PoolStatus
	defer func() {
		if t.Failed() {
			t.Logf("%+v", s)
		}
	}()
	pgtest.Eventually(t, patience, func() bool {
		s = statusOf(t, db)
		return want(s)
	}, "the pool's status is not as wanted")
}

func waiting(n int) func(pgprod.PoolStatus) bool {
	return func(s pgprod.PoolStatus) bool { return s.Waiting == n }
}

func atRest(s pgprod.PoolStatus) bool { return s.CheckedOut+s.Waiting+s.Connecting == 0 }

func TestPoolTimeoutLastsExactlyAsLongAsSet(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	for _, text := range []string{"0.25", "50ms", "1"} {
		db := openPool(t, oneConn(dsn, "pool_timeout", text))
		limit, err := time.ParseDuration(text)
		if err != nil {
			limit, err = time.ParseDuration(text + "s")
		}
		require.NoError(t, err)
		hold(t, db)
		r := ask(t.Context(), db)
		require.ErrorIs(t, r.wait(t), pgprod.ErrPoolTimeout)
		assert.GreaterOrEqual(t, r.took, limit)
		assert.Less(t, r.took, limit+patience/2)
		netErr, ok := errors.AsType[net.Error](r.err)
		assert.True(t, ok && netErr.Timeout(), "a timeout to callers that ask")
	}
}

func TestNobodyTimesOutEarlyInARace(t *testing.T) {
	t.Parallel()
	const limit = 200 * time.Millisecond
	db := openPool(t, with(pgtest.NewDatabase(t), "pool_size", "2", "max_overflow", "0", "pool_timeout", limit.String()))
	var wg sync.WaitGroup
	var timeouts atomic.Int64
	for range 30 {
		wg.Go(func() {
			for range 3 {
				start := time.Now()
				_, err := db.Exec("select pg_sleep(0.02)")
				if err == nil {
					continue
				}
				assert.ErrorIs(t, err, pgprod.ErrPoolTimeout)
				assert.GreaterOrEqual(t, time.Since(start), limit)
				timeouts.Add(1)
			}
		})
	}
	wg.Wait()
	s := statusOf(t, db)
	assert.Equal(t, timeouts.Load(), s.Timeouts)
	assert.True(t, atRest(s), "%+v", s)
}

func TestTheCallersOwnDeadlineGivesTheContextsErrorAndNotErrPoolTimeout(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t), "pool_timeout", "10s"))
	hold(t, db)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	late := ask(ctx, db)
	require.ErrorIs(t, late.wait(t), context.DeadlineExceeded)
	require.NotErrorIs(t, late.err, pgprod.ErrPoolTimeout)
	assert.ErrorContains(t, late.err, "in use 1 of 1")

	ctx, cancel = context.WithCancel(t.Context())
	gone := ask(ctx, db)
	eventually(t, db, waiting(1))
	cancel()
	require.ErrorIs(t, gone.wait(t), context.Canceled)
	eventually(t, db, waiting(0))
}

func TestWhereTheCallersDeadlineIsLaterPoolTimeoutCounts(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t), "pool_timeout", "100ms"))
	hold(t, db)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	require.ErrorIs(t, ask(ctx, db).wait(t), pgprod.ErrPoolTimeout)
}

func TestPoolTimeoutIsNotOverrunByTheTestsOfManyDeadConnections(t *testing.T) {
	t.Parallel()
	const limit = 500 * time.Millisecond
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, with(proxy.DSN(), "pool_timeout", limit.String(), "pool_size", "40", "pool_pre_ping", "always"))
	fill(t, db, 40)
	before := statusOf(t, db).Timeouts
	proxy.BlackHole(faultproxy.ToClient, true)
	defer proxy.CloseAll(faultproxy.RST)
	within(t, 40*50*time.Millisecond, func() { // which is what the pings of all would have at least, beside limit
		_, err := db.Exec("select 1")
		require.ErrorIs(t, err, pgprod.ErrPoolTimeout)
	})
	assert.EqualValues(t, 1, statusOf(t, db).Timeouts-before)
}

func TestPoolTimeoutZeroLeavesItToTheContext(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t), "pool_timeout", "0"))
	held := hold(t, db)
	unlimited := ask(context.Background(), db)
	eventually(t, db, waiting(1))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, ask(ctx, db).wait(t), context.DeadlineExceeded)
	require.NoError(t, held.Close())
	require.NoError(t, unlimited.wait(t))
}

func TestErrPoolTimeoutSaysHowFullThePoolIs(t *testing.T) {
	t.Parallel()
	db := openPool(t, with(pgtest.NewDatabase(t), "pool_size", "1", "max_overflow", "1", "pool_timeout", "2s", "pool_name", "full"))
	hold(t, db)
	hold(t, db)
	first := ask(t.Context(), db)
	eventually(t, db, waiting(1))
	ctx, cancel := context.WithCancel(t.Context())
	second, err := db.Conn(ctx)
	require.NoError(t, err, "taking a session costs no connection")
	done := make(chan error, 1)
	go func() { // ends with cancel
		done <- second.PingContext(ctx)
	}()
	err = first.wait(t)
	cancel()
	<-done
	require.NoError(t, second.Close())

	require.ErrorIs(t, err, pgprod.ErrPoolTimeout)
	require.Regexp(t, `^pgprod: pool full: no connection became free in \d+(\.\d+)?m?s `+
		`\(pool_size 1, max_overflow 1, in use 2, waiting [01]\); look for long transactions`, err.Error())
	requireNoNilInside(t, err)
}

func TestErrPoolTimeoutSaysWhyTheLastAttemptToConnectFailed(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	require.NoError(t, proxy.Refuse())
	db := openPool(t, with(proxy.DSN(), "pool_timeout", "300ms"))
	err := db.Ping()
	require.ErrorIs(t, err, pgprod.ErrPoolTimeout)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	assert.ErrorContains(t, err, "; the last attempt to connect failed: ")
	requireNoNilInside(t, err)
}

func TestAFailureToConnectIsNoReasonForTheWaitsAfterIt(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, with(proxy.DSN(), "pool_size", "1", "max_overflow", "1", "pool_timeout", "1h"))
	hold(t, db)
	inVain := func() error {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		failures := statusOf(t, db).FailedConnects
		r := ask(ctx, db)
		eventually(t, db, func(s pgprod.PoolStatus) bool {
			return s.Waiting == 1 && (s.FailedConnects > failures || s.Connecting > 0)
		})
		cancel()
		return r.wait(t)
	}
	require.NoError(t, proxy.Refuse())
	pgtest.Eventually(t, patience, func() bool { return errors.Is(inVain(), syscall.ECONNREFUSED) }, "its own reason")
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.Connecting == 0 })

	require.NoError(t, proxy.Admit())
	proxy.SilenceNew(true)
	err := inVain()
	require.ErrorIs(t, err, context.Canceled)
	assert.NotContains(t, err.Error(), "the last attempt to connect failed")
	assert.NotErrorIs(t, err, syscall.ECONNREFUSED)
}

// requireNoNilInside checks what package errors demands of Unwrap.
func requireNoNilInside(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err, "an error wraps nil")
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			requireNoNilInside(t, inner)
		}
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			requireNoNilInside(t, inner)
		}
	}
}

func TestWaitersAreServedInTheOrderInWhichTheyCame(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	mustExec(t, db, "create table served (place serial, caller int)")
	held := hold(t, db)
	const callers = 30
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			_, err := db.Exec("insert into served (caller) values ($1)", i)
			assert.NoError(t, err)
		})
		eventually(t, db, waiting(i+1))
	}
	require.NoError(t, held.Close())
	wg.Wait()
	require.Equal(t, callers, get[int](t, db, "select count(*) from served where caller = place - 1"))
}

func TestAHundredWorkersOnTenConnectionsAreServedInTurn(t *testing.T) {
	t.Parallel()
	const workers, each = 100, 20
	db := openPool(t, with(pgtest.NewDatabase(t), "pool_size", "10", "max_overflow", "0", "pool_timeout", "1m"))
	fill(t, db, 10)
	var clock atomic.Int64
	worst := make([]int64, workers)
	ready := make(chan struct{})
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			<-ready
			for last := int64(0); last < 1 || clock.Load() < workers*each; {
				_, err := db.Exec("select pg_sleep(0.002)")
				if !assert.NoError(t, err) {
					return
				}
				now := clock.Add(1)
				worst[i] = max(worst[i], now-last)
				last = now
			}
		})
	}
	close(ready)
	wg.Wait()
	// In turn it is about 100 statements from one of a worker's to the next. Where a random waiter is woken, the longest
	// gap of most workers is three times that. The middle one, as any worker may be held up by the machine.
	slices.Sort(worst)
	assert.Less(t, worst[workers/2], int64(2*workers))
	assert.LessOrEqual(t, statusOf(t, db).PeakCheckedOut, 10)
}

func TestCancelledWaitersLeakNoPlace(t *testing.T) {
	t.Parallel()
	db := openPool(t, with(pgtest.NewDatabase(t), "pool_size", "2", "max_overflow", "0"))
	fill(t, db, 2)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 20 {
				ctx, cancel := context.WithTimeout(t.Context(), rand.N(5*time.Millisecond))
				_, err := db.ExecContext(ctx, "select pg_sleep(0.001)")
				cancel()
				if err != nil {
					assert.ErrorIs(t, err, context.DeadlineExceeded)
				}
			}
		})
	}
	wg.Wait()
	eventually(t, db, atRest)
	hold(t, db)
	hold(t, db)
	assert.Equal(t, 2, statusOf(t, db).CheckedOut)
	assert.Equal(t, 2, statusOf(t, db).PeakCheckedOut)
}

func TestWaitersAreServedAfterAnInvalidation(t *testing.T) {
	t.Parallel()
	db := openPool(t, with(pgtest.NewDatabase(t), "pool_size", "2", "max_overflow", "0", "pool_timeout", "1m"))
	held := []*sql.Conn{hold(t, db), hold(t, db)}
	pids := []uint32{backendPID(t, held[0]), backendPID(t, held[1])}
	requests := askMany(t.Context(), db, 6)
	eventually(t, db, waiting(6))
	terminate(t, pids...)
	_, err := held[0].ExecContext(t.Context(), "select 1")
	require.Error(t, err)
	require.NoError(t, held[0].Close())
	for _, r := range requests {
		require.NoError(t, r.wait(t), "though the second connection has not come back yet")
	}
	require.NoError(t, held[1].Close())
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.Closed["invalid"] == 2 })
}

func TestALimitThatTheApplicationSetsOnItsDBHoldsToo(t *testing.T) {
	t.Parallel()
	db := openPool(t, with(pgtest.NewDatabase(t), "pool_size", "10"))
	db.SetMaxOpenConns(3)
	held := []*sql.Conn{hold(t, db), hold(t, db), hold(t, db)}
	requests := askMany(t.Context(), db, 20)
	pgtest.Eventually(t, patience, func() bool { return db.Stats().WaitCount == 20 })
	s := statusOf(t, db)
	assert.Equal(t, 3, s.CheckedOut)
	assert.Zero(t, s.Waiting, "the application's *sql.DB has them wait")
	for _, conn := range held {
		require.NoError(t, conn.Close())
	}
	for _, r := range requests {
		require.NoError(t, r.wait(t))
	}
	assert.Equal(t, 3, statusOf(t, db).PeakCheckedOut)
}

func TestWhatTheApplicationsDBDropsCostsNoConnection(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	db.SetMaxIdleConns(-1)
	db.SetConnMaxLifetime(time.Nanosecond)
	pid := backendPID(t, db)
	for range 20 {
		require.Equal(t, pid, backendPID(t, db))
	}
	assert.Empty(t, statusOf(t, db).Closed)
}

func TestManyDisconnectsAtOnceCloseEachConnectionOnceAndReplaceItOnce(t *testing.T) {
	t.Parallel()
	const n = 10
	for _, inUse := range []bool{false, true} {
		t.Run(fmt.Sprintf("in use %v", inUse), func(t *testing.T) {
			proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
			db := openPool(t, with(proxy.DSN(), "pool_size", "10", "max_overflow", "0", "pool_timeout", "1m"))
			pids := fill(t, db, n)
			require.Equal(t, n, proxy.Stats().Startups)
			var held []*sql.Conn
			for inUse && len(held) < n {
				held = append(held, hold(t, db))
			}
			terminate(t, pids...)
			for _, conn := range held {
				require.Error(t, conn.PingContext(t.Context()))
			}
			for _, conn := range held {
				require.NoError(t, conn.Close())
			}
			var wg sync.WaitGroup
			all := make(chan struct{})
			for range n {
				wg.Go(func() {
					conn, err := db.Conn(t.Context())
					if !assert.NoError(t, err) || !assert.NoError(t, conn.PingContext(t.Context())) {
						return
					}
					<-all // each has one of its own
					assert.NoError(t, conn.Close())
				})
			}
			eventually(t, db, func(s pgprod.PoolStatus) bool { return s.CheckedOut == n })
			close(all)
			wg.Wait()
			s := statusOf(t, db)
			assert.Equal(t, map[string]int64{"invalid": n}, s.Closed)
			assert.Equal(t, 2*n, proxy.Stats().Startups)
			assert.Equal(t, n, s.CheckedIn)
		})
	}
}
