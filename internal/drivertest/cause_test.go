package drivertest

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// An incident is a pool in which a statement is slow.
type incident struct {
	t   *testing.T
	dsn string
	db  *sql.DB // the pool
	log logged
}

// newIncident opens a pool in which 100 ms are slow, on a database with a table of accounts.
func newIncident(t *testing.T, keysAndValues ...string) *incident {
	t.Helper()
	t.Parallel()
	return incidentIn(t, pgtest.NewDatabase(t), keysAndValues...)
}

// incidentIn is newIncident in a database that is there.
func incidentIn(t *testing.T, dsn string, keysAndValues ...string) *incident {
	t.Helper()
	i := &incident{t: t, dsn: dsn}
	mustExec(t, openPgx(t, i.dsn), "create table accounts (id int primary key, n int)")
	mustExec(t, openPgx(t, i.dsn), "insert into accounts select n, 0 from generate_series(1, 9) n")
	keys := append([]string{"slow_query", "100ms", "application_name", "shop", "command_timeout", "2m"}, keysAndValues...)
	i.db = openPool(t, with(dsn, keys...), i.log.option(slog.LevelInfo))
	return i
}

// other is a session of another program's, with a transaction in which it has executed a statement, and its pid.
func (i *incident) other(application, statement string) (tx *sql.Tx, pid uint32) {
	i.t.Helper()
	tx, err := openPgx(i.t, with(i.dsn, "application_name", application)).BeginTx(context.Background(), nil)
	require.NoError(i.t, err)
	i.t.Cleanup(func() { _ = tx.Rollback() }) // of a test that fails
	pid = backendPID(i.t, tx)
	mustExec(i.t, tx, statement)
	return tx, pid
}

// run executes a statement in a goroutine, which ends with the channel's value.
func run(q querier, statement string) chan error {
	done := make(chan error, 1)
	go func() { // ends with the statement, which the test sees to
		_, err := q.ExecContext(context.Background(), statement)
		done <- err
	}()
	return done
}

// causes are what the statements under way in the pool were found to wait for, as the live page has it.
func (i *incident) causes() (all []*activity.Cause) {
	for _, h := range pools(i.t, pgprod.DebugHandler(i.db))[0].Snapshot.Holders {
		if h.Cause != nil {
			all = append(all, h.Cause)
		}
	}
	return all
}

// sees waits until a statement under way was found to wait for what the pattern says, and returns it.
func (i *incident) sees(pattern string, args ...any) (found *activity.Cause) {
	i.t.Helper()
	want := regexp.MustCompile("^" + fmt.Sprintf(pattern, args...) + "$")
	seen := map[string]bool{}
	deadline := time.Now().Add(3 * patience) // the server is asked up to ten seconds apart
	for ; found == nil; time.Sleep(20 * time.Millisecond) {
		for _, c := range i.causes() {
			seen[c.String()] = true
			if want.MatchString(c.String()) {
				found = c
			}
		}
		require.True(i.t, time.Now().Before(deadline), "no cause like %s, but %v", want, seen)
	}
	return found
}

// slowLine waits for the line about the statement that was slow, and checks what it says of its cause.
func (i *incident) slowLine(pattern string, args ...any) line {
	i.t.Helper()
	lines := i.log.lines(i.t, "pgprod: slow statement")
	require.Len(i.t, lines, 1)
	assert.Regexp(i.t, "^"+fmt.Sprintf(pattern, args...)+"$", lines[0]["cause"])
	assert.Positive(i.t, lines[0]["seen_after"])
	return lines[0]
}

// Parts of causes: a duration, a lock of a row, and who holds it as a rule.
const (
	lasting   = `[0-9.msh]+`
	forRow    = `waits for Lock/transactionid held by pid %d `
	byBilling = `\(application billing, idle in transaction for ` + lasting + `\)`
	itself    = `; perhaps for itself: a statement beside a transaction of the same function waits for that transaction`
)

const update = "update accounts set n = n + 1 where id = 1"

func TestASlowStatementSaysWhoHoldsTheRowThatItWaitsFor(t *testing.T) {
	i := newIncident(t)
	tx, pid := i.other("billing", update)
	done := run(i.db, update)
	const says = forRow + byBilling
	cause := i.sees(says, pid)
	assert.Equal(t, activity.Waiting, cause.State)
	assert.GreaterOrEqual(t, cause.After, 100*time.Millisecond)
	assert.Nil(t, cause.Chain[0].Own)
	require.NoError(t, tx.Rollback())
	require.NoError(t, <-done)
	i.slowLine(says, pid)
	assert.Empty(t, i.causes())
}

func TestASlowStatementSaysWhoHoldsTheTableThatItWaitsFor(t *testing.T) {
	i := newIncident(t)
	tx, pid := i.other("migration", "lock table accounts")
	done := run(i.db, "select count(*) from accounts")
	i.sees(`waits for Lock/relation held by pid %d \(application migration, idle in transaction for `+lasting+`\)`, pid)
	require.NoError(t, tx.Rollback())
	require.NoError(t, <-done)
}

func TestASlowStatementSaysWhoHoldsTheAdvisoryLockThatItWaitsFor(t *testing.T) {
	i := newIncident(t)
	tx, pid := i.other("", "select pg_advisory_xact_lock(7)")
	done := run(i.db, "select pg_advisory_lock(7)")
	i.sees(`waits for Lock/advisory held by pid %d \(user postgres, idle in transaction for `+lasting+`\)`, pid)
	require.NoError(t, tx.Rollback())
	require.NoError(t, <-done)
}

func TestASlowStatementSaysWhoIsAtTheRootOfAQueue(t *testing.T) {
	i := newIncident(t)
	first, root := i.other("billing", update)
	second, middle := i.other("reports", "update accounts set n = 1 where id = 2")
	waiting := run(second, update)
	done := run(i.db, "update accounts set n = 2 where id = 2")
	cause := i.sees(forRow+`\(application reports, active for `+lasting+`\), which `+forRow+byBilling, middle, root)
	assert.Equal(t, root, cause.Root().PID)
	require.NoError(t, first.Rollback())
	require.NoError(t, <-waiting)
	require.NoError(t, second.Rollback())
	require.NoError(t, <-done)
}

// billingJob is a caller that keeps a transaction open.
func billingJob(t *testing.T, db *sql.DB) (*sql.Tx, uint32) {
	tx, err := db.BeginTx(context.Background(), nil)
	require.NoError(t, err)
	pid := backendPID(t, tx)
	mustExec(t, tx, update)
	return tx, pid
}

func TestASlowStatementThatThisPoolBlocksSaysWhereTheBlockersCallerIs(t *testing.T) {
	i := newIncident(t)
	tx, pid := billingJob(t, i.db)
	done := run(i.db, update)
	const says = forRow + `\(this pool's own, idle in transaction for ` + lasting +
		`, held since ` + lasting + ` by drivertest\.billingJob cause_test\.go:\d+, last update accounts\)`
	cause := i.sees(says, pid)
	own := cause.Chain[0].Own
	assert.Contains(t, strings.Join(own.Stack, "\n"), "drivertest.billingJob cause_test.go:")
	assert.False(t, own.Running)
	assert.False(t, cause.Itself, "another goroutine waits")
	require.NoError(t, tx.Rollback())
	require.NoError(t, <-done)
	assert.Contains(t, fmt.Sprint(i.slowLine(says, pid)["blocker_stack"]), "drivertest.billingJob cause_test.go:")
}

// laterJob borrows the connection that billingJob has given back.
func laterJob(t *testing.T, db *sql.DB) *sql.Tx {
	tx, err := db.BeginTx(context.Background(), nil)
	require.NoError(t, err)
	mustExec(t, tx, "update accounts set n = n + 1 where id = 2")
	return tx
}

// TestABorrowerThatCameAfterTheServerWasAskedIsNotNamed has the server's answer come late: what it says of a connection of
// the pool's is about the borrower that has given it back meanwhile.
func TestABorrowerThatCameAfterTheServerWasAskedIsNotNamed(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	proxy := faultproxy.StartTB(t, dsn)
	i := incidentIn(t, dsn)
	i.db = openPool(t, with(proxy.DSN(), "slow_query", "100ms", "pool_size", "2", "max_overflow", "0",
		"application_name", "shop"))
	admin := openPgx(t, dsn)
	for range 10 {
		if i.answersLate(admin, proxy) {
			return
		}
	}
	t.Fatal("no answer came late")
}

// answersLate has a statement of the pool's wait for another program, which waits for the pool's billingJob. When the server
// has been asked that, and before it has answered, laterJob has the connection of billingJob. It reports whether that answer
// was seen.
func (i *incident) answersLate(admin querier, proxy *faultproxy.Proxy) bool {
	t := i.t
	billing, own := billingJob(t, i.db)
	reports, pid := i.other("reports", "select 1")
	reported := run(reports, update)
	awaitLocks(t, admin, 1)
	done := run(i.db, update)
	i.sees(`waits for Lock/tuple held by pid %d .*, which `+forRow+`.*held since .* by drivertest\.billingJob .*`, pid, own)

	const check = " from pg_stat_activity where application_name = 'shop (pgprod check)'"
	asking := get[int64](t, admin, "select pid"+check)
	for _, conn := range proxy.Conns() {
		if int64(conn.PID()) == asking {
			conn.SetLatency(faultproxy.ToClient, time.Second)
			defer conn.SetLatency(faultproxy.ToClient, 0)
		}
	}
	before := get[time.Time](t, admin, "select query_start"+check)
	pgtest.Eventually(t, 3*patience, func() bool {
		return get[bool](t, admin, "select coalesce(query_start, $1) > $1 and state = 'idle'"+check, before)
	}, "the server is not asked again")
	require.NoError(t, billing.Rollback())
	later := laterJob(t, i.db)
	since := time.Now()
	require.NoError(t, <-reported)
	var late *activity.Cause
	pgtest.Eventually(t, 3*patience, func() bool {
		for _, cause := range i.causes() {
			if cause.At.After(since) {
				late = cause
			}
		}
		return late != nil
	}, "no answer")
	for _, tx := range []*sql.Tx{later, reports} {
		require.NoError(t, tx.Rollback())
	}
	require.NoError(t, <-done)
	assert.NotContains(t, late.String(), "laterJob")
	if len(late.Chain) < 2 {
		return false
	}
	assert.NotNil(t, late.Chain[1].Own)
	assert.Empty(t, late.OwnStack())
	return true
}

// awaitLocks waits until so many sessions of the database wait for a lock.
func awaitLocks(t *testing.T, admin querier, n int) {
	t.Helper()
	pgtest.Eventually(t, patience, func() bool {
		return n == get[int](t, admin, `select count(*) from pg_stat_activity
			where datname = current_database() and wait_event_type = 'Lock'`)
	}, "no %d sessions wait", n)
}

func TestATransactionThatWaitsForItselfThroughThePoolIsOneLine(t *testing.T) {
	i := newIncident(t, "command_timeout", "3s")
	err := pgprod.InTx(context.Background(), i.db, func(tx *sql.Tx) error {
		if _, err := tx.Exec(update); err != nil {
			return err
		}
		_, err := i.db.Exec(update) // the mistake: beside the transaction
		return err
	})
	require.Error(t, err)
	const says = `waits for Lock/transactionid held by pid \d+ \(this pool's own, idle in transaction for ` + lasting +
		`, held since ` + lasting + ` by drivertest\.TestATransactionThatWaitsForItself\S+ cause_test\.go:\d+, ` +
		`last update accounts\)` + itself
	assert.Regexp(t, `^pgprod: pool \S+: the statement exceeded command_timeout \(3s\): .* \(seen after `+lasting+`: `+says+`\)$`,
		err.Error())
	lines := i.log.lines(t, "pgprod: statement failed")
	require.Len(t, lines, 1)
	assert.Regexp(t, "^"+says+"$", lines[0]["cause"])
}

func TestAStatementThatIsCutShortSaysWhatItWaitedFor(t *testing.T) {
	i := newIncident(t, "command_timeout", "2500ms")
	tx, pid := i.other("billing", "update accounts set n = 4711 where id = 1")
	_, err := i.db.Exec("update accounts set n = 4242 where id = 1")
	requireCut(t, err, context.DeadlineExceeded)
	assert.Regexp(t, fmt.Sprintf(`\(seen after `+lasting+`: `+forRow+byBilling+`\)$`, pid), err.Error())
	assert.NotContains(t, err.Error()+i.log.buffer.String(), "4242")
	assert.NotContains(t, err.Error()+i.log.buffer.String(), "4711 ")
	require.NoError(t, tx.Rollback())
	_, err = i.db.Exec(update)
	assert.NoError(t, err)

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, err = i.db.ExecContext(ctx, "select pg_sleep(60)")
	requireCut(t, err, context.DeadlineExceeded)
	assert.Regexp(t, `\(seen after `+lasting+`: waits for Timeout/PgSleep \(it calls pg_sleep\)\)$`, err.Error(),
		"nor of the one before")
}

func TestAStatementThatNeverEndsHasALineWhileItRuns(t *testing.T) {
	i := newIncident(t)
	tx, pid := i.other("billing", update)
	done := run(i.db, update)
	pgtest.Eventually(t, patience, func() bool { return len(i.log.lines(t, "still runs")) > 0 }, "no line")
	got := i.log.lines(t, "still runs")[0]
	assert.Equal(t, "WARN", got["level"])
	assert.Equal(t, "update accounts", got["db.query.summary"])
	assert.Equal(t, "update accounts set n = n + '?' where id = '?'", got["statement"])
	assert.GreaterOrEqual(t, got["runs"], float64(800*time.Millisecond))
	assert.Regexp(t, fmt.Sprintf(`^waits for Lock/transactionid held by pid %d `, pid), got["cause"])
	assert.Contains(t, got["borrower"], "drivertest.run.func1 cause_test.go:")
	i.sees(`waits for .*`)
	require.NoError(t, tx.Rollback())
	require.NoError(t, <-done)
	assert.Len(t, i.log.lines(t, "still runs"), 1, "once is enough")
	assert.Len(t, i.log.lines(t, "slow statement"), 1)
}

func TestACallerThatWaitsForASecondConnectionIsToldThatItHasOne(t *testing.T) {
	i := newIncident(t, "pool_size", "2", "max_overflow", "0", "pool_timeout", "500ms")
	held, err := i.db.BeginTx(context.Background(), nil)
	require.NoError(t, err)
	mustExec(t, held, update)
	elsewhere := func() error { _, err := i.db.Exec("select 1"); return err }
	waits := make(chan error)
	err = pgprod.InTx(context.Background(), i.db, func(tx *sql.Tx) error {
		if _, err := tx.Exec("update accounts set n = n + 1 where id = 2"); err != nil {
			return err
		}
		go func() { waits <- elsewhere() }() // ends with the wait
		require.ErrorIs(t, <-waits, pgprod.ErrPoolTimeout)
		_, err := i.db.Exec("select 1") // the mistake: beside the transaction
		return err
	})
	require.ErrorIs(t, err, pgprod.ErrPoolTimeout)
	const says = `no connection became free in \S+ \(pool_size 2, max_overflow 0, in use 2, waiting 0\); perhaps it waits for itself: ` +
		`it got a connection at drivertest\.TestACallerThatWaitsForASecond\S* cause_test\.go:\d+ ` + lasting +
		` ago and still has it \(update accounts\)$`
	assert.Regexp(t, says, err.Error())
	lines := i.log.lines(t, "a caller got no connection")
	require.Len(t, lines, 2)
	assert.NotContains(t, lines[0]["error_message"], "itself", "another goroutine has none")
	assert.Regexp(t, says, lines[1]["error_message"])
	require.NoError(t, held.Rollback())
}

func TestEachInAQueueOfThisPoolsNamesTheSameRoot(t *testing.T) {
	i := newIncident(t, "pool_size", "10")
	tx, pid := i.other("billing", update)
	var all []chan error
	for range 5 {
		all = append(all, run(i.db, update))
	}
	pgtest.Eventually(t, 3*patience, func() bool {
		right := 0
		for _, c := range i.causes() {
			if root := c.Root(); root != nil && root.PID == pid {
				right++
			}
		}
		return right == len(all)
	}, "not all name the root")
	require.NoError(t, tx.Rollback())
	for _, done := range all {
		require.NoError(t, <-done)
	}
}
