package drivertest

import (
	"context"
	"database/sql"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

func TestRecycleReplacesIdleConnectionsAtOnceAndBorrowedOnesWhenTheyComeBack(t *testing.T) {
	db := openPool(t, with(pgtest.NewDatabase(t), "pool_size", "5"))
	lent := hold(t, db)
	lentPID := backendPID(t, lent)
	idle := map[uint32]bool{}
	others := make([]*sql.Conn, 4)
	for i := range others {
		others[i] = hold(t, db)
		idle[backendPID(t, others[i])] = true
	}
	for _, conn := range others {
		require.NoError(t, conn.Close())
	}
	require.NoError(t, pgprod.Recycle(db))
	pgtest.Eventually(t, patience, func() bool { return statusOf(t, db).Closed["lifetime"] == 4 }, "the idle ones stay")
	assert.Equal(t, lentPID, backendPID(t, lent), "a borrower keeps what it has")
	assert.NotContains(t, idle, backendPID(t, db))
	require.NoError(t, lent.Close())
	assert.EqualValues(t, 5, statusOf(t, db).Closed["lifetime"])
	for _, pid := range fill(t, db, 5) {
		assert.NotContains(t, idle, pid)
		assert.NotEqual(t, lentPID, pid)
	}
	assert.EqualValues(t, 5, statusOf(t, db).Closed["lifetime"], "each is replaced once")
}

func TestRecycleUnderLoadFailsNothing(t *testing.T) {
	dsn := with(pgtest.NewDatabase(t), "pool_size", "6", "max_overflow", "2", "pool_min", "2")
	db := openPool(t, dsn)
	mustExec(t, db, "create table t (i int)")
	ctx, stop := context.WithCancel(context.Background())
	var (
		workers sync.WaitGroup
		done    atomic.Int64
		failed  = make(chan error, 16)
		seen    sync.Map // backends, by their PIDs
	)
	work := func() error {
		var pid int
		if err := db.QueryRow("select pg_backend_pid()").Scan(&pid); err != nil {
			return err
		}
		seen.Store(pid, true)
		return pgprod.InTx(context.Background(), db, func(tx *sql.Tx) error {
			_, err := tx.Exec("insert into t values (1)")
			return err
		}, pgprod.TxRetries(0))
	}
	for range cap(failed) {
		workers.Go(func() {
			for ctx.Err() == nil {
				if err := work(); err != nil {
					failed <- err
					return
				}
				done.Add(1)
			}
		})
	}
	for range 20 {
		before := done.Load()
		require.NoError(t, pgprod.Recycle(db))
		pgtest.Eventually(t, patience, func() bool { return done.Load() >= before+50 || len(failed) > 0 }, "nothing goes on")
	}
	stop()
	workers.Wait()
	close(failed)
	for err := range failed {
		assert.NoError(t, err)
	}
	assert.EqualValues(t, done.Load(), get[int64](t, db, "select count(*) from t"), "each ran once")
	backends := 0
	seen.Range(func(any, any) bool { backends++; return true })
	assert.GreaterOrEqual(t, backends, 20, "connections were replaced each time")
	assert.Empty(t, closedFor(t, db, "invalid")+closedFor(t, db, "dirty"))
	t.Logf("%d rounds of work on %d backends", done.Load(), backends)
}

func TestRecycleReachesAConnectionThatIsJustBeingMadeAndTheOneForHealthChecks(t *testing.T) {
	dsn := with(pgtest.NewDatabase(t), "application_name", "recycled", "pool_size", "1", "max_overflow", "0")
	connecting, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	db := openPool(t, dsn, pgprod.WithAfterConnect(func(ctx context.Context, _ *pgx.Conn) error {
		once.Do(func() {
			close(connecting)
			<-goOn
		})
		return nil
	}))
	require.Equal(t, "healthy", string(pgprod.Check(t.Context(), db).Status))
	checks := openPgx(t, pgtest.NewDatabase(t))
	const check = "select coalesce(min(pid), 0) from pg_stat_activity where application_name = 'recycled (pgprod check)'"
	kept := get[int](t, checks, check)
	require.NotZero(t, kept)

	got := make(chan error, 1)
	go func() { got <- db.Ping() }() // ends when goOn is closed
	<-connecting
	require.NoError(t, pgprod.Recycle(db))
	close(goOn)
	require.NoError(t, <-got)
	pgtest.Eventually(t, patience, func() bool { return statusOf(t, db).Closed["lifetime"] == 1 }, "its making had begun before")
	pgtest.Eventually(t, patience, func() bool { return get[int](t, checks, check) != kept }, "the connection for health checks stays")
}

func TestRecycleRefusesAPoolOfAnotherDriver(t *testing.T) {
	require.ErrorContains(t, pgprod.Recycle(openPgx(t, pgtest.NewDatabase(t))), "not to pgprod")
	db := openPool(t, pgtest.NewDatabase(t))
	require.NoError(t, db.Close())
	require.NoError(t, pgprod.Recycle(db), "a pool that is closed has none")
}
