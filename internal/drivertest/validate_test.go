package drivertest

import (
	"context"
	"database/sql"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

func TestIdleConnectionsAreReplacedAcrossARestart(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	for _, mode := range []pgtest.Mode{pgtest.Fast, pgtest.Immediate} {
		for _, prePing := range []string{"auto", "always"} {
			db := openPool(t, with(server.DSN(""), "pool_pre_ping", prePing))
			fill(t, db, 5)
			require.NoError(t, server.Restart(t.Context(), mode))
			for range 20 {
				mustExec(t, db, "select 1")
				require.NoError(t, db.Ping())
			}
			require.NoError(t, db.Close())
		}
	}
}

func TestADatabaseThatStaysDownFailsWithinPoolTimeoutAndIsUsedOnceItIsBack(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	db := openPool(t, with(server.DSN(""), "pool_timeout", "1s"))
	fill(t, db, 3)
	require.NoError(t, server.Shutdown(t.Context(), pgtest.Fast))
	for range 2 {
		within(t, patience, func() {
			err := db.Ping()
			require.ErrorIs(t, err, pgprod.ErrPoolTimeout)
			require.ErrorContains(t, err, "refused", "why")
		})
	}
	status := statusOf(t, db)
	assert.Zero(t, status.CheckedOut)
	assert.Zero(t, status.CheckedIn)
	require.NoError(t, server.Resume(t.Context()))
	pgtest.Eventually(t, patience, func() bool { return db.Ping() == nil })
}

// TestPrePingCostsWhatItsModeSays counts the round trips of a statement, whose own is one.
func TestPrePingCostsWhatItsModeSays(t *testing.T) {
	t.Parallel()
	for mode, c := range map[string]struct{ first, next, idle int }{
		"always": {first: 1, next: 2, idle: 2},
		"auto":   {first: 1, next: 1, idle: 2},
		"off":    {first: 1, next: 1, idle: 1},
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
			db := openPool(t, oneConn(proxy.DSN(), "pool_pre_ping", mode))
			roundTrips := func() int {
				proxy.Reset()
				mustExec(t, db, "select 1")
				return proxy.Stats().RoundTrips
			}
			assert.Equal(t, c.first, roundTrips(), "on a fresh connection")
			assert.Equal(t, c.next, roundTrips(), "on one that was just given back")
			<-time.After(1100 * time.Millisecond) // the time itself is what matters
			assert.Equal(t, c.idle, roundTrips(), "on one that was idle for more than a second")
		})
	}
}

func TestAStalledPingIsBoundedAndTheStatementGetsAnotherConnection(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	db := openPool(t, with(server.DSN(""), "pool_pre_ping", "always", "connect_timeout", "1"))
	pid := backendPID(t, db)
	require.NoError(t, server.FreezeBackend(pid))
	defer func() { _ = server.ThawBackend(pid) }()
	within(t, patience/2, func() { assert.NotEqual(t, pid, backendPID(t, db)) })

	// A caller with less time is not kept.
	pid = backendPID(t, db)
	require.NoError(t, server.FreezeBackend(pid))
	defer func() { _ = server.ThawBackend(pid) }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, db.PingContext(ctx), context.DeadlineExceeded)
	pgtest.Eventually(t, patience, func() bool { return statusOf(t, db).CheckedOut == 0 })
}

func TestACallerWhoLeavesDuringThePingLeavesTheConnectionToTheNext(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, oneConn(proxy.DSN(), "pool_pre_ping", "always"))
	pid := backendPID(t, db)
	proxy.SetLatency(faultproxy.ToClient, 300*time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := db.ExecContext(ctx, "select 1")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	proxy.SetLatency(faultproxy.ToClient, 0)
	assert.Equal(t, pid, backendPID(t, db))
}

func TestADisconnectAtCommitIsAnErrorAndCostsOneConnection(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	mustExec(t, db, "create table t (a int)")
	tx, err := db.Begin()
	require.NoError(t, err)
	mustExec(t, tx, "insert into t values (1)")
	terminate(t, backendPID(t, tx))
	err = tx.Commit()
	require.ErrorContains(t, err, "COMMIT was not sent", "the server's goodbye was there before")
	require.NotErrorIs(t, err, pgprod.ErrCommitUnknown)
	require.ErrorIs(t, tx.Rollback(), sql.ErrTxDone)
	assert.Zero(t, get[int](t, db, "select count(*) from t"))
	assert.Zero(t, statusOf(t, db).CheckedOut)
}

func TestADisconnectInATransactionIsNotRetried(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	mustExec(t, db, "create table t (a int)")
	tx, err := db.Begin()
	require.NoError(t, err)
	mustExec(t, tx, "insert into t values (1)")
	terminate(t, backendPID(t, tx))
	for range 3 {
		_, err = tx.Exec("insert into t values (2)")
		require.Error(t, err)
		_, err = tx.Exec("insert into t values ($1)", 3)
		require.Error(t, err)
	}
	_ = tx.Rollback()
	assert.Zero(t, get[int](t, db, "select count(*) from t"))
}

func TestTheFirstFailedValidationFlushesWhatIsIdle(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	for _, prePing := range []string{"auto", "always"} {
		db := openPool(t, with(dsn, "pool_pre_ping", prePing))
		pids := fill(t, db, 8)
		terminate(t, pids[1:]...)
		survivor := hold(t, db) // at the latest the second meets a dead one
		defer survivor.Close()
		conn := hold(t, db)
		pgtest.Eventually(t, patience, func() bool { return statusOf(t, db).CheckedIn == 0 }, "idle ones are left")
		require.NoError(t, conn.Close())
		require.NoError(t, survivor.Close())
		assert.NotContains(t, pids, backendPID(t, db), "the one that lives was as old")
		assert.Equal(t, map[string]int64{"invalid": 8}, statusOf(t, db).Closed)
	}
}

// holdUntilTheServerEndsThem borrows n connections, on which nothing runs, gives them back when the server has ended all of
// the pool's sessions but one, and has new ones live on.
func holdUntilTheServerEndsThem(t *testing.T, server *pgtest.Server, db *sql.DB, n int) {
	t.Helper()
	require.NoError(t, server.Exec(t.Context(), "alter role postgres set idle_session_timeout = '100ms'")) // of sessions to come
	ended := make(chan struct{})
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			assert.NoError(t, pgprod.Raw(t.Context(), db, func(*pgx.Conn) error {
				<-ended
				return nil
			}))
		})
	}
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.CheckedOut == n+1 })
	pgtest.Eventually(t, patience, func() bool {
		left, err := server.Backends(t.Context())
		require.NoError(t, err)
		return len(left) == 1
	}, "the others are still there")
	require.NoError(t, server.Exec(t.Context(), "alter role postgres reset idle_session_timeout"))
	close(ended)
	wg.Wait()
}

func TestASessionThatTheServerEndsForBeingIdleCostsItselfOnly(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tls  *pgtest.TLS
		keys []string
	}{
		"auto":     {nil, []string{"pool_pre_ping", "auto"}},
		"always":   {nil, []string{"pool_pre_ping", "always"}},
		"with TLS": {&pgtest.TLS{}, []string{"sslmode", "require"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := pgtest.StartTB(t, pgtest.Config{TLS: c.tls})
			db := openPool(t, with(server.DSN(""), append(c.keys, "pool_size", "10", "max_overflow", "0")...))
			tx, err := db.Begin()
			require.NoError(t, err)
			busy := backendPID(t, tx)
			holdUntilTheServerEndsThem(t, server, db, 9)
			fill(t, db, 9)
			require.NoError(t, tx.Commit())
			assert.Equal(t, busy, backendPID(t, db), "it is as old as they were")
			assert.GreaterOrEqual(t, statusOf(t, db).Closed["invalid"], int64(9))
		})
	}
}

// TestOnlyConnectionsAsOldAsTheLostOneAreSweptAway has new ones made and given back before the old ones are swept away.
func TestOnlyConnectionsAsOldAsTheLostOneAreSweptAway(t *testing.T) {
	t.Parallel()
	h := newSlowHandler("the server closed a connection")
	db := openPool(t, with(pgtest.NewDatabase(t), "pool_size", "4", "max_overflow", "0"), pgprod.WithLogger(slog.New(h)))
	pids := fill(t, db, 4)
	terminate(t, pids...)
	first := ask(t.Context(), db) // finds a dead one, and tells of it
	<-h.entered
	conns := holdMany(t, db, 3)
	var newer []uint32
	for _, conn := range conns {
		newer = append(newer, backendPID(t, conn))
	}
	giveBack(t, conns)
	close(h.leave)
	require.NoError(t, first.wait(t))
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.Closed["invalid"] == 4 })
	assert.Subset(t, fill(t, db, 4), newer)
	assert.Equal(t, map[string]int64{"invalid": 4}, statusOf(t, db).Closed)
}

func TestMoreBadConnectionsThanRetriesCostNoErrorAndNoRow(t *testing.T) {
	t.Parallel()
	for name, idle := range map[string]time.Duration{"at once": 0, "after more than a second": 1100 * time.Millisecond} {
		for _, prePing := range []string{"auto", "always"} {
			t.Run(prePing+" "+name, func(t *testing.T) {
				t.Parallel()
				server := pgtest.StartTB(t, pgtest.Config{})
				db := openPool(t, with(server.DSN(""), "pool_size", "30", "max_overflow", "0", "pool_pre_ping", prePing))
				mustExec(t, db, "create table t (a int)")
				pids := fill(t, db, 30)
				<-time.After(idle)
				require.NoError(t, server.Terminate(t.Context(), pids...))
				for i := range 50 {
					mustExec(t, db, "insert into t values (1)")
					mustExec(t, db, "insert into t values ($1)", i)
				}
				assert.Equal(t, 100, get[int](t, db, "select count(*) from t"))

				pids = fill(t, db, 30)
				require.NoError(t, server.Terminate(t.Context(), pids...))
				var wg sync.WaitGroup
				for i := range 100 {
					wg.Go(func() {
						_, err := db.Exec("insert into t values ($1)", i)
						assert.NoError(t, err)
					})
				}
				wg.Wait()
				assert.Equal(t, 200, get[int](t, db, "select count(*) from t"))
			})
		}
	}
}

func TestAConnectionIsProvenByTheServerAndNotByItsReturn(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, with(proxy.DSN(), "connect_timeout", "1s"))
	conn := hold(t, db)
	backendPID(t, conn)
	for _, c := range proxy.Conns() { // the network has forgotten it
		c.BlackHole(faultproxy.ToClient, true)
		c.BlackHole(faultproxy.ToServer, true)
	}
	<-time.After(1200 * time.Millisecond)
	require.NoError(t, conn.Close())
	mustExec(t, db, "select 1")
	for _, c := range proxy.Conns() {
		c.Close(faultproxy.RST)
	}
}

func TestWithPrePingOffADeadConnectionIsAnErrorOnceAndItsGenerationIsReplaced(t *testing.T) {
	t.Parallel()
	db := openPool(t, with(pgtest.NewDatabase(t), "pool_pre_ping", "off"))
	mustExec(t, db, "create table t (a int)")
	terminate(t, fill(t, db, 5)...)
	errs := 0
	for range 10 {
		if _, err := db.Exec("insert into t values (1)"); err != nil {
			errs++
		}
	}
	assert.LessOrEqual(t, errs, 1)
	assert.Equal(t, 10-errs, get[int](t, db, "select count(*) from t"))
}

func TestWhatTheServerSendsToAnIdleConnectionDoesNotCostIt(t *testing.T) {
	t.Parallel()
	for _, prePing := range []string{"auto", "always", "off"} {
		t.Run(prePing, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.NewDatabase(t)
			proxy := faultproxy.StartTB(t, dsn)
			db := openPool(t, oneConn(proxy.DSN(), "pool_pre_ping", prePing))
			mustExec(t, db, "do $$ begin execute 'listen channel'; end $$") // so that the driver doesn't know
			pid := backendPID(t, db)
			sender := openPgx(t, dsn)
			pinged := 0
			for range 20 {
				mustExec(t, sender, "notify channel")
				proxy.Reset()
				require.Equal(t, pid, backendPID(t, db))
				if proxy.Stats().Messages['Q'] > 0 { // a query is extended, a ping is not
					pinged++
				}
			}
			switch prePing {
			case "auto":
				t.Logf("%d of 20 arrived before the next statement and were pinged for", pinged)
			case "always":
				assert.Equal(t, 20, pinged)
			case "off":
				assert.Zero(t, pinged)
			}
		})
	}
}

func TestAReloadOfTheServerDoesNotCostConnections(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	db := openPool(t, server.DSN(""))
	pids := fill(t, db, 3)
	require.NoError(t, server.Exec(t.Context(), "alter system set datestyle = 'German'")) // which is reported to clients
	require.NoError(t, server.Exec(t.Context(), "select pg_reload_conf()"))
	pgtest.Eventually(t, patience, func() bool { return get[string](t, db, "show datestyle") == "German, DMY" })
	for range 10 {
		assert.Contains(t, pids, backendPID(t, db))
	}
	assert.Equal(t, 3, statusOf(t, db).CheckedIn)
}

func TestALateErrorOfAnOldGenerationKillsNoNewConnection(t *testing.T) {
	t.Parallel()
	db := openPool(t, pgtest.NewDatabase(t))
	first, second := hold(t, db), hold(t, db)
	fail := func(conn *sql.Conn) {
		terminate(t, backendPID(t, conn))
		_, err := conn.ExecContext(t.Context(), "select 1")
		require.Error(t, err)
		require.NoError(t, conn.Close())
	}
	fail(first)
	pid := backendPID(t, db) // of the new generation, and idle
	fail(second)
	assert.Equal(t, pid, backendPID(t, db))
	assert.Equal(t, map[string]int64{"invalid": 2}, statusOf(t, db).Closed)
}

func TestConnectionsInUseOfAnOldGenerationAreDroppedWhenTheyComeBack(t *testing.T) {
	t.Parallel()
	db := openPool(t, pgtest.NewDatabase(t))
	healthy, dead := hold(t, db), hold(t, db)
	pid := backendPID(t, healthy)
	terminate(t, backendPID(t, dead))
	_, err := dead.ExecContext(t.Context(), "select 1")
	require.Error(t, err)
	assert.Equal(t, pid, backendPID(t, healthy), "who has it may go on")
	require.NoError(t, healthy.Close())
	assert.NotEqual(t, pid, backendPID(t, db))
}

func TestAnErrorOfOneSessionDoesNotInvalidateTheOthers(t *testing.T) {
	t.Parallel()
	db := openPool(t, with(pgtest.NewDatabase(t), "server_settings", "idle_in_transaction_session_timeout=100"))
	pid := backendPID(t, db)
	other := hold(t, db)
	another := hold(t, db)
	_, err := another.ExecContext(t.Context(), "begin")
	require.NoError(t, err)
	pgtest.Eventually(t, patience, func() bool {
		var there bool
		require.NoError(t, other.QueryRowContext(t.Context(), "select exists (select from pg_stat_activity "+
			"where datname = current_database() and pid <> pg_backend_pid() and state like 'idle in tr%')").Scan(&there))
		return !there
	})
	_, err = another.ExecContext(t.Context(), "select 1")
	require.Error(t, err)
	require.NoError(t, another.Close())
	require.NoError(t, other.Close())
	assert.Equal(t, int64(1), statusOf(t, db).Closed["invalid"])
	assert.Equal(t, pid, backendPID(t, db), "the server ended one session for a reason of its own")
}

func TestADeadConnectionFoundByRawIsReplaced(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	terminate(t, backendPID(t, db))
	err := pgprod.Raw(t.Context(), db, func(conn *pgx.Conn) error { return conn.Ping(t.Context()) })
	require.NoError(t, err)
}
