package drivertest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// runUntil executes a statement in a goroutine until the function that it returns is called.
func runUntil(q querier, statement string) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // ended by end
		defer close(done)
		_, _ = q.ExecContext(ctx, statement)
	}()
	return func() {
		cancel()
		<-done
	}
}

func TestASlowStatementThatSleepsSaysSo(t *testing.T) {
	i := newIncident(t)
	defer runUntil(i.db, "select pg_sleep(600)")()
	i.sees(`waits for Timeout/PgSleep \(it calls pg_sleep\)`)
}

func TestASlowStatementThatComputesIsSaidToRun(t *testing.T) {
	i := newIncident(t)
	defer runUntil(i.db, "do $$ begin loop perform 1; end loop; end $$")()
	cause := i.sees(`runs on the server, without a wait event \(CPU, as a rule\)`)
	assert.Equal(t, activity.Running, cause.State)
	assert.Empty(t, cause.Chain)
}

func TestASlowStatementThatReadsTheDiskSaysSo(t *testing.T) {
	i := newIncident(t)
	other := openPgx(t, i.dsn)
	mustExec(t, other, "create extension pg_prewarm")
	mustExec(t, other, "create table big as select repeat('x', 1000) from generate_series(1, 20000)")
	defer runUntil(i.db, "do $$ begin loop perform pg_prewarm('big', 'read'); end loop; end $$")()
	i.sees(`waits for IO/DataFileRead \(for the disk\)`)
}

func TestASlowStatementWhoseRowsAreNotReadSaysThatTheServerWaitsForUs(t *testing.T) {
	i := newIncident(t)
	rows, err := i.db.Query("select repeat('x', 1000000) from generate_series(1, 100)")
	require.NoError(t, err)
	require.True(t, rows.Next())
	i.sees(`waits for Client/ClientWrite \(for this program to read the rows\)`)
	require.NoError(t, rows.Close())
}

func TestASlowStatementWhoseRowsAreOnlyLeftOpenSaysThatTheServerIsDone(t *testing.T) {
	i := newIncident(t)
	rows := leakRows(t, i.db)
	cause := i.sees("the server is done: its answer is on the way, or this program is reading the rows")
	assert.Equal(t, activity.Reading, cause.State)
	require.NoError(t, rows.Close())
}

func TestTheSpanOfASlowStatementHasItsCause(t *testing.T) {
	t.Parallel()
	tr := newTracing(t)
	i := incidentIn(t, pgtest.NewDatabase(t), "pool_size", "2")
	traced := openPool(t, with(i.dsn, "slow_query", "100ms"), pgprod.WithTracerProvider(tr.provider),
		i.log.option(slog.LevelInfo))
	i.db = traced
	tx, pid := i.other("billing", update)
	done := run(traced, update)
	i.sees(`waits for Lock/transactionid held by pid %d .*`, pid)
	require.NoError(t, tx.Rollback())
	require.NoError(t, <-done)
	mustExec(t, traced, "select 1")
	got := asMap(tr.one(t, "update accounts").Attributes())
	assert.Regexp(t, fmt.Sprintf("^"+forRow+byBilling+"$", pid), got["pgprod.slow.cause"])
	assert.Equal(t, "Lock/transactionid", got["pgprod.slow.wait_event"])
	assert.EqualValues(t, pid, got["pgprod.slow.blocker_pid"])
	for _, name := range []attribute.Key{"pgprod.slow.cause", "pgprod.slow.wait_event", "pgprod.slow.blocker_pid"} {
		assert.NotContains(t, asMap(tr.one(t, "select").Attributes()), name, "nor has a quick one after it")
	}
}

// asked are the questions about slow statements in a server's log, which has all statements.
func asked(t *testing.T, server *pgtest.Server) (n int) {
	t.Helper()
	log, err := os.ReadFile(server.LogFile())
	require.NoError(t, err)
	return strings.Count(string(log), "with a as materialized (select * from pg_stat_activity)")
}

// checks are the pids of the sessions that a pool has for health checks and questions about slow statements.
func checks(t *testing.T, server *pgtest.Server, dsn string) (pids []uint32) {
	t.Helper()
	backends, err := server.Backends(t.Context(), pgtest.DatabaseName(dsn))
	require.NoError(t, err)
	for _, b := range backends {
		if strings.Contains(b.ApplicationName, "pgprod check") {
			pids = append(pids, b.PID)
		}
	}
	return pids
}

func TestTheServerIsAskedNothingWhileNothingIsSlowAndOnceASecondWhileMuchIs(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Settings: map[string]string{"log_statement": "all"}})
	dsn := server.NewDatabase(t)
	quick := openPool(t, with(dsn, "slow_query", "1h", "application_name", "quick"))
	never := openPool(t, with(dsn, "slow_query", "0", "application_name", "never"))
	for range 100 {
		mustExec(t, quick, "select $1::int", 1)
	}
	mustExec(t, never, "select pg_sleep(0.2)")
	assert.Zero(t, asked(t, server))
	assert.Empty(t, checks(t, server, dsn))

	var log logged
	db := openPool(t, with(dsn, "slow_query", "10ms", "pool_size", "20", "application_name", "slow"),
		log.option(slog.LevelInfo))
	began := time.Now()
	var all []chan error
	for n := range 20 { // each of them becomes slow at another time
		all = append(all, run(db, fmt.Sprintf("select pg_sleep(%f)", 3+float64(n)/50)))
	}
	for _, done := range all {
		require.NoError(t, <-done)
	}
	most := int(time.Since(began)/time.Second) + 1
	got := asked(t, server)
	assert.Positive(t, got)
	assert.LessOrEqual(t, got, most)
	assert.LessOrEqual(t, len(checks(t, server, dsn)), 1, "over one connection")
	with := 0
	for _, l := range log.lines(t, "slow statement") {
		if l["cause"] == "waits for Timeout/PgSleep (it calls pg_sleep)" {
			with++
		}
	}
	assert.Positive(t, with)
}

func TestASlowStatementSaysWhichPreparedTransactionBlocksIt(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Settings: map[string]string{"max_prepared_transactions": "5"}})
	i := incidentIn(t, server.NewDatabase(t))
	other := openPgx(t, i.dsn)
	conn := hold(t, other)
	for _, statement := range []string{"begin", update, "prepare transaction 'order 7'"} {
		mustExec(t, conn, statement)
	}
	done := run(i.db, update)
	i.sees(`waits for Lock/transactionid held by the prepared transaction "order 7" \(for ` + lasting + `\)`)
	table := run(i.db, "alter table accounts add column note text")
	i.sees(`waits for Lock/relation held by the prepared transaction "order 7" \(for ` + lasting + `\).*`)
	mustExec(t, other, "rollback prepared 'order 7'")
	require.NoError(t, <-done)
	require.NoError(t, <-table)
}

func TestARoleThatMaySeeLittleIsToldThePidAndWhatWouldShowMore(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	i := incidentIn(t, server.NewDatabase(t))
	mustExec(t, openPgx(t, i.dsn), "create role app login; grant all on accounts to app")
	var log logged
	i.db = openPool(t, with(strings.Replace(i.dsn, "postgres@", "app@", 1), "slow_query", "100ms"), log.option(slog.LevelInfo))
	tx, pid := i.other("billing", update)
	second, middle := i.other("reports", "update accounts set n = 1 where id = 2")
	waiting := run(second, update)
	done := run(i.db, "update accounts set n = 2 where id = 2")
	hidden := `its state is hidden from this role, pg_read_all_stats would show it`
	i.sees(forRow+`\(application reports, %s\), which waits for Lock held by pid %d \(application billing, %s\)`,
		middle, hidden, pid, hidden)
	require.NoError(t, tx.Rollback())
	require.NoError(t, <-waiting)
	require.NoError(t, second.Rollback())
	require.NoError(t, <-done)
}

func TestAnAskingConnectionThatHangsIsReplacedAndNothingPilesUp(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	i := incidentIn(t, server.NewDatabase(t))
	tx, blocker := i.other("billing", update)
	done := run(i.db, update)
	first := i.sees(`waits for Lock/transactionid held by pid %d .*`, blocker)
	frozen := checks(t, server, i.dsn)
	require.Len(t, frozen, 1)
	require.NoError(t, server.FreezeBackend(frozen[0]))
	pgtest.Eventually(t, 3*patience, func() bool {
		all := i.causes()
		return len(all) == 1 && all[0].At.After(first.At) && len(checks(t, server, i.dsn)) == 2
	}, "no newer cause over another connection")
	require.NoError(t, server.ThawBackend(frozen[0]))
	pgtest.Eventually(t, patience, func() bool { return len(checks(t, server, i.dsn)) == 1 }, "the connection that hung is not closed")
	require.NoError(t, tx.Rollback())
	require.NoError(t, <-done)
}

func TestAServerThatHangsHoldsNobodyUpWhoClosesThePool(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	db, err := pgprod.Open(with(server.DSN(""), "slow_query", "10ms", "command_timeout", "0"), pgprod.WithPreflight(false))
	require.NoError(t, err)
	require.NoError(t, db.Ping())
	done := runUntil(db, "select pg_sleep(600)")
	require.NoError(t, server.Freeze())
	defer func() { _ = server.Thaw() }()
	done()
	require.NoError(t, db.Close()) // goleak looks for what it has left
}

func TestAServerThatTakesNoMoreConnectionsIsAskedOverOneOfThePoolsOwn(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	i := incidentIn(t, server.NewDatabase(t))
	mustExec(t, openPgx(t, i.dsn), "create role app login connection limit 2; grant all on accounts to app")
	i.db = openPool(t, with(strings.Replace(i.dsn, "postgres@", "app@", 1), "slow_query", "100ms", "pool_size", "2"))
	fill(t, i.db, 2)
	tx, pid := i.other("billing", update)
	done := run(i.db, update)
	i.sees(`waits for Lock/transactionid held by pid %d .*`, pid)
	require.NoError(t, tx.Rollback())
	require.NoError(t, <-done)
}
