package faulttest

import (
	"context"
	"database/sql"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

const (
	commandTimeout = time.Second
	poolTimeout    = 2 * time.Second
	pingTimeout    = time.Second // by connect_timeout
	slack          = 10 * time.Second
)

// bounded opens a pool whose every wait ends soon.
func bounded(t *testing.T, dsn string, keysAndValues ...string) *sql.DB {
	return openPool(t, with(dsn, append([]string{
		"command_timeout", commandTimeout.String(), "pool_timeout", poolTimeout.String(), "connect_timeout", pingTimeout.String(),
	}, keysAndValues...)...))
}

// stuck is something under way when the other side falls silent, without a deadline of the caller's.
type stuck struct {
	name  string
	limit time.Duration // by the promise
	run   func() error
	check func(*testing.T, error)
}

func isCut(t *testing.T, err error) {
	t.Helper()
	requireHonest(t, err)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.NotErrorIs(t, err, pgprod.ErrCommitUnknown)
	assert.ErrorContains(t, err, "command_timeout")
}

func isUnknown(t *testing.T, err error) {
	t.Helper()
	requireHonest(t, err)
	assert.ErrorIs(t, err, pgprod.ErrCommitUnknown)
}

// onePerConnection prepares each kind of statement on a connection of its own, so that nothing but the last step is
// left to do. leave gives the connections back that are held otherwise than by a transaction.
func onePerConnection(t *testing.T, db *sql.DB) (all []stuck, leave func()) {
	t.Helper()
	var conns []*sql.Conn
	const limit = commandTimeout + time.Second
	conn := func() *sql.Conn {
		c, err := db.Conn(t.Context())
		require.NoError(t, err)
		conns = append(conns, c)
		require.NoError(t, c.PingContext(t.Context()))
		return c
	}
	ctx := context.Background()
	forExec, forQuery, forPrepared := conn(), conn(), conn()
	stmt, err := forPrepared.PrepareContext(ctx, "insert into runs (note) values ($1)")
	require.NoError(t, err)
	_, err = stmt.Exec("prepared before")
	require.NoError(t, err)
	rows, err := conn().QueryContext(ctx, "select repeat('x', 10000) from generate_series(1, 10000)") // more than any buffer
	require.NoError(t, err)
	require.True(t, rows.Next())
	begin := func() *sql.Tx {
		tx, err := db.Begin()
		require.NoError(t, err)
		exec(t, tx, insertLiteral)
		return tx
	}
	forTx, forTxQuery, forCommit, forRollback := begin(), begin(), begin(), begin()
	all = []stuck{
		{"Exec", limit, func() error { _, err := forExec.ExecContext(ctx, insertLiteral); return err }, isCut},
		{"Query", limit, func() error { return drain(forQuery.QueryContext(ctx, "select $1::int", 1)) }, isCut},
		{"rows", limit, func() error { return drain(rows, nil) }, isCut},
		{"Stmt.Exec", limit, func() error { _, err := stmt.Exec("x"); return err }, isCut},
		{"Tx.Exec", limit, func() error { _, err := forTx.Exec(insertLiteral); _ = forTx.Rollback(); return err }, isCut},
		{"Tx.Query", limit, func() error {
			err := drain(forTxQuery.Query("select 1"))
			_ = forTxQuery.Rollback()
			return err
		}, isCut},
		{"Commit", limit, forCommit.Commit, isUnknown},
		{"Rollback", limit, forRollback.Rollback, func(t *testing.T, err error) { requireHonest(t, err) }},
	}
	return all, func() {
		for _, c := range conns {
			require.NoError(t, c.Close())
		}
	}
}

// stuckCallers are those who have no connection yet.
func stuckCallers(db *sql.DB) []stuck {
	anyError := func(t *testing.T, err error) { requireHonest(t, err) }
	return []stuck{
		{"borrow and Exec", poolTimeout + commandTimeout + time.Second, func() error { _, err := db.Exec("select 1"); return err }, anyError},
		{"borrow and begin", poolTimeout + commandTimeout + time.Second, func() error {
			tx, err := db.Begin()
			if err == nil { // nothing was sent yet
				_, err = tx.Exec("select 1")
				_ = tx.Rollback()
			}
			return err
		}, anyError},
		{"Ping", pingTimeout + poolTimeout, db.Ping, anyError},
	}
}

// runAll runs everything at once, checks how it ends and logs how long it took.
func runAll(t *testing.T, all []stuck) {
	t.Helper()
	took := make([]time.Duration, len(all))
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			began := time.Now()
			errs[i] = all[i].run()
			took[i] = time.Since(began)
		})
	}
	wg.Wait()
	for i, s := range all {
		t.Logf("%-16s ended after %v (promised: %v): %v", s.name, took[i].Round(time.Millisecond), s.limit, errs[i])
		s.check(t, errs[i])
		assert.Less(t, took[i], s.limit+slack, s.name)
	}
}

// closeSilent closes a pool whose server says nothing.
func closeSilent(t *testing.T, db *sql.DB) {
	t.Helper()
	began := time.Now()
	require.NoError(t, db.Close())
	t.Logf("Close ended after %v", time.Since(began).Round(time.Millisecond))
	assert.Less(t, time.Since(began), 2*time.Second+slack)
}

func TestAFrozenServerKeepsNobody(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	exec(t, openPgx(t, server.DSN("")), "create table runs (id serial, note text)")
	db := bounded(t, server.DSN(""), "application_name", "hung")
	other := bounded(t, server.DSN("")) // to be closed meanwhile
	fill(t, other, 5)
	idle := fill(t, db, 20)
	all, leave := onePerConnection(t, db)
	hung, err := server.Backends(t.Context(), "hung")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(hung), len(idle))

	require.NoError(t, server.Freeze())
	runAll(t, append(all, stuckCallers(db)...))
	leave()
	began := time.Now()
	_, err = db.Exec("select 1") // nobody is left whom to ask, and nobody comes
	assert.ErrorIs(t, err, pgprod.ErrPoolTimeout)
	t.Logf("a borrow ended after %v (promised: %v)", time.Since(began).Round(time.Millisecond), poolTimeout)
	closeSilent(t, other)
	require.NoError(t, server.Thaw())

	pgtest.Eventually(t, patience, func() bool {
		_, err := db.Exec("select 1")
		return err == nil
	}, "the server is back")
	startStatements(t, db)
	pgtest.Eventually(t, patience, func() bool {
		now, err := server.Backends(t.Context(), "hung")
		require.NoError(t, err)
		return !slices.ContainsFunc(now, func(b pgtest.Backend) bool {
			return slices.ContainsFunc(hung, func(old pgtest.Backend) bool { return old.PID == b.PID })
		})
	}, "a connection that hung is still there")
	assert.GreaterOrEqual(t, statusOf(t, db).Closed["invalid"], int64(20), "all of them hung")
	assert.Zero(t, statusOf(t, db).CheckedOut)
}

// TestAServerThatIsFrozenForAMomentCostsNothing: what takes less than the limits is only slow.
func TestAServerThatIsFrozenForAMomentCostsNothing(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	exec(t, openPgx(t, server.DSN("")), "create table runs (id serial, note text)")
	db := openPool(t, server.DSN(""))
	fill(t, db, 10)
	require.NoError(t, server.Freeze())
	var wg sync.WaitGroup
	var rows int
	wg.Go(func() { rows = startStatements(t, db) })
	pgtest.Eventually(t, patience, func() bool { return statusOf(t, db).Waiting > 0 || statusOf(t, db).CheckedOut >= 10 })
	require.NoError(t, server.Thaw())
	wg.Wait()
	assert.Equal(t, rows, get[int](t, db, "select count(*) from runs"))
	assert.Empty(t, statusOf(t, db).Closed["invalid"])
}

func TestABlackHoledNetworkKeepsNobody(t *testing.T) {
	t.Parallel()
	_, proxy := runsDatabase(t)
	db := bounded(t, proxy.DSN())
	other := bounded(t, proxy.DSN())
	fill(t, other, 5)
	fill(t, db, 20)
	all, leave := onePerConnection(t, db)
	silence := func(on bool) {
		proxy.BlackHole(faultproxy.ToClient, on)
		proxy.BlackHole(faultproxy.ToServer, on)
	}
	silence(true)
	runAll(t, append(all, stuckCallers(db)...))
	leave()
	began := time.Now()
	_, err := db.Exec("select 1")
	assert.ErrorIs(t, err, pgprod.ErrPoolTimeout)
	t.Logf("a borrow ended after %v (promised: %v)", time.Since(began).Round(time.Millisecond), poolTimeout)
	closeSilent(t, other)
	silence(false)
	for _, c := range proxy.Conns() {
		c.Close(faultproxy.RST) // the black hole hid from the server that the clients left
	}

	pgtest.Eventually(t, patience, func() bool {
		_, err := db.Exec("select 1")
		return err == nil
	}, "the network is back")
	startStatements(t, db)
	assert.GreaterOrEqual(t, statusOf(t, db).Closed["invalid"], int64(20), "all of them hung")
	pgtest.Eventually(t, patience, func() bool { return proxy.Stats().Open == statusOf(t, db).CheckedIn })
}

// TestAFrozenBackendCostsItsStatementOnly: one of them hangs, the others go on.
func TestAFrozenBackendCostsItsStatementOnly(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	exec(t, openPgx(t, server.DSN("")), "create table runs (id serial, note text)")
	db := bounded(t, server.DSN(""))
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	pid := get[uint32](t, conn, "select pg_backend_pid()")
	fill(t, db, 5)
	require.NoError(t, server.FreezeBackend(pid))
	began := time.Now()
	_, err = conn.ExecContext(context.Background(), insertLiteral)
	isCut(t, err)
	t.Logf("ended after %v", time.Since(began))
	require.NoError(t, conn.Close())
	startStatements(t, db)
	require.NoError(t, server.ThawBackend(pid))
	assert.Equal(t, map[string]int64{"invalid": 1}, closedButForOverflow(t, db), "the others proved themselves")
}

func TestARollbackOnAConnectionThatIsLostCostsNoOther(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	for name, lose := range map[string]func(t *testing.T, tx *sql.Tx, pid uint32){
		"frozen": func(t *testing.T, tx *sql.Tx, pid uint32) {
			require.NoError(t, server.FreezeBackend(pid))
			_, err := tx.Exec("select 1")
			isCut(t, err)
			require.NoError(t, server.ThawBackend(pid))
		},
		"idle in transaction for too long": func(t *testing.T, tx *sql.Tx, pid uint32) {
			_, err := tx.Exec("set local idle_in_transaction_session_timeout = 50")
			require.NoError(t, err)
			pgtest.Eventually(t, patience, func() bool {
				backends, err := server.Backends(t.Context())
				require.NoError(t, err)
				return !slices.ContainsFunc(backends, func(b pgtest.Backend) bool { return b.PID == pid })
			}, "it goes on")
			_, err = tx.Exec("select 1")
			require.Equal(t, "25P03", sqlState(err), "%v", err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := bounded(t, server.DSN(""))
			tx, err := db.Begin()
			require.NoError(t, err)
			pid := get[uint32](t, tx, "select pg_backend_pid()")
			pids := fill(t, db, 5)
			lose(t, tx, pid)
			require.ErrorContains(t, tx.Rollback(), "before the statement was sent")
			assert.ElementsMatch(t, pids, fill(t, db, 5))
			assert.Equal(t, map[string]int64{"invalid": 1}, closedButForOverflow(t, db))
		})
	}
}

func closedButForOverflow(t *testing.T, db *sql.DB) map[string]int64 {
	closed := statusOf(t, db).Closed
	delete(closed, "overflow")
	return closed
}

// TestCloseDoesNotWaitForAPingThatHangs: such a ping has five seconds, a program that ends hasn't.
func TestCloseDoesNotWaitForAPingThatHangs(t *testing.T) {
	t.Parallel()
	_, proxy := runsDatabase(t)
	db := openPool(t, with(proxy.DSN(), "pool_pre_ping", "always", "connect_timeout", "10s"))
	fill(t, db, 1)
	proxy.Reset()
	proxy.BlackHole(faultproxy.ToClient, true)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := db.ExecContext(ctx, insertLiteral)
		assert.Error(t, err)
	})
	pgtest.Eventually(t, patience, func() bool { return proxy.Stats().RoundTrips > 0 }, "no ping")
	began := time.Now()
	require.NoError(t, db.Close())
	t.Logf("Close ended after %v", time.Since(began).Round(time.Millisecond))
	assert.Less(t, time.Since(began), 4*time.Second)
	wg.Wait()
	for _, c := range proxy.Conns() {
		c.Close(faultproxy.RST) // the black hole hid from the server that the client left
	}
}
