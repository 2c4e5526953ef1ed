package incidents

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

var rounds = flag.Int("rounds", 1, "how many rounds of each incident TestEachIncidentNamesItsCause has")

// An incident makes a statement of a pool slow.
type incident struct {
	name   string
	size   int                        // of the pool
	befall func(s *scene) (is string) // is is a pattern for what is right to say
	// also is a pattern for what is true at moments, but isn't the cause; "": nothing is.
	also string
	// others is a pattern for the line of another client that shows the cause in its way; "": it must say the same as pgprod.
	others string
	pooled bool // the pool is behind PgBouncer
}

// Parts of what is right to say.
const (
	lasting = `[0-9.]+(ms|s|m[0-9]+s)` // a duration
	idling  = `idle in transaction for ` + lasting
	forRow  = `waits for Lock/transactionid held by pid %d `
	update  = "update accounts set n = n + 1 where id = 1"
)

var incidents = []incident{
	{name: "row lock, an idle transaction", size: 2, befall: idleTransaction},
	{name: "row lock, a program at work", size: 2, befall: programAtWork},
	{name: "table lock", size: 2, befall: tableLock},
	{name: "advisory lock", size: 2, befall: advisoryLock},
	{name: "this pool's own lock", size: 2, befall: ownLock},
	{name: "a chain of three", size: 2, befall: chain},
	{name: "a transaction waits for its own lock", size: 2, befall: ownTransaction},
	{name: "a transaction waits for a second connection", size: 1, befall: secondConnection},
	{name: "the disk", size: 2, befall: disk, also: cpu},
	{name: "the processor", size: 2, befall: processor},
	{name: "a reader that doesn't read", size: 2, befall: reader, others: `span "sql.rows"`},
	{name: "a reader that leaves its rows open", size: 2, befall: openRows, others: `span "sql.rows"`},
	{name: "row lock, behind PgBouncer", size: 2, befall: behindPgBouncer, pooled: true},
}

// TestEachIncidentNamesItsCause makes each incident on a real server, and compares what pgprod says with what the test knows
// to be true. Nothing that it says may be wrong. The others are held to nothing; the table is logged.
//
//	go test -v -run EachIncident ./incidents -rounds 10
//	PG_BINDIR=$(go run ../pgtest/bindir 18) go test -v -run EachIncident ./incidents -rounds 10
func TestEachIncidentNamesItsCause(t *testing.T) {
	server := pgtest.StartTB(t, pgtest.Config{})
	bouncer := pgtest.StartBouncer(t, server, "transaction", "default_pool_size = 10")
	results := make([]result, len(incidents))
	t.Run("all", func(t *testing.T) {
		for i, what := range incidents {
			t.Run(what.name, func(t *testing.T) {
				t.Parallel()
				results[i] = what.judge(t, server, bouncer)
			})
		}
	})
	t.Logf("PostgreSQL %d, %d rounds each\n%s", server.Version(), *rounds, table(results))
}

func idleTransaction(s *scene) string {
	billing, pid := s.holds("billing", update)
	s.suffers(update, "active", "transactionid", func() { s.rollback(billing) })
	return fmt.Sprintf(forRow+`\(application billing, `+idling+`\)`, pid)
}

func programAtWork(s *scene) string {
	reports, pid := s.holds("reports", update)
	stop := s.execute(reports,
		"do $$ begin while not exists (select from stop) loop perform pg_sleep(0.01); end loop; end $$; rollback")
	s.suffers(update, "active", "transactionid", s.stopLoops)
	require.NoError(s, stop())
	return fmt.Sprintf(forRow+`\(application reports, active for `+lasting+`\)`, pid)
}

// stopLoops ends statements that run until there is a row in the table stop.
func (s *scene) stopLoops() {
	_, err := s.watch.Exec(s.Context(), "insert into stop values (1)")
	require.NoError(s, err)
}

func tableLock(s *scene) string {
	migration, pid := s.holds("migration", "lock table accounts")
	s.suffers("select count(*) from accounts", "active", "relation", func() { s.rollback(migration) })
	return fmt.Sprintf(`waits for Lock/relation held by pid %d \(application migration, `+idling+`\)`, pid)
}

func advisoryLock(s *scene) string {
	cron, pid := s.holds("cron", "select pg_advisory_xact_lock(7)")
	s.suffers("select pg_advisory_xact_lock(7)", "active", "advisory", func() { s.rollback(cron) })
	return fmt.Sprintf(`waits for Lock/advisory held by pid %d \(application cron, `+idling+`\)`, pid)
}

// billingJob begins a transaction in the pool, keeps a row locked, and returns where it has done so.
func billingJob(s *scene) (tx *sql.Tx, pid uint32, at string) {
	at = line(1)
	tx, err := s.db.BeginTx(s.ctx, nil)
	require.NoError(s, err)
	require.NoError(s, tx.QueryRowContext(s.ctx, "select pg_backend_pid()").Scan(&pid))
	_, err = tx.ExecContext(s.ctx, update)
	require.NoError(s, err)
	return tx, pid, at
}

func ownLock(s *scene) string {
	tx, pid, at := billingJob(s)
	s.suffers(update, "active", "transactionid", func() { require.NoError(s, tx.Rollback()) })
	return fmt.Sprintf(forRow+`\(this pool's own, `+idling+`, held since `+lasting+` by incidents\.billingJob %s, `+
		`last update accounts\)`, pid, at)
}

func chain(s *scene) string {
	billing, root := s.holds("billing", update)
	reports, middle := s.holds("reports", "update accounts set n = 1 where id = 2")
	waiting := s.execute(reports, update)
	s.is(update, "active", "transactionid")
	s.suffers("update accounts set n = 2 where id = 2", "active", "transactionid", func() {
		s.rollback(billing)
		require.NoError(s, waiting())
		s.rollback(reports)
	})
	return fmt.Sprintf(forRow+`\(application reports, active for `+lasting+`\), which `+
		forRow+`\(application billing, `+idling+`\)`, middle, root)
}

// ownTransaction makes the mistake to execute a statement on the pool in place of the transaction. It never ends by itself.
func ownTransaction(s *scene) string {
	at := line(1)
	tx, err := s.db.BeginTx(s.ctx, nil)
	require.NoError(s, err)
	var pid uint32
	require.NoError(s, tx.QueryRowContext(s.ctx, "select pg_backend_pid()").Scan(&pid))
	_, err = tx.ExecContext(s.ctx, update)
	require.NoError(s, err)
	ctx, cancel := context.WithCancel(s.ctx)
	s.told.spans.Reset()
	seen := make(chan struct{})
	go func() { // ends when the statement was seen
		defer close(seen)
		defer cancel()
		s.isSeen(update, "active", "transactionid")
	}()
	_, s.told.err = s.db.ExecContext(ctx, update)
	<-seen
	require.NoError(s, tx.Rollback())
	return fmt.Sprintf(forRow+`\(this pool's own, `+idling+`, held since `+lasting+` by incidents\.ownTransaction %s, `+
		`last update accounts\); perhaps for itself: a statement beside a transaction of the same function waits for that `+
		`transaction`, pid, at)
}

// secondConnection makes the same mistake where the transaction has the pool's only connection.
func secondConnection(s *scene) string {
	at := line(1)
	tx, err := s.db.BeginTx(s.ctx, nil)
	require.NoError(s, err)
	_, err = tx.ExecContext(s.ctx, update)
	require.NoError(s, err)
	s.told.spans.Reset()
	ctx := s.ctx
	if s.told.page == nil { // it knows no limit of its own
		limited, cancel := context.WithTimeout(ctx, waitForPool)
		defer cancel()
		ctx = limited
	}
	_, s.told.err = s.db.ExecContext(ctx, "select 1")
	require.Error(s, s.told.err)
	require.NoError(s, tx.Rollback())
	return `perhaps it waits for itself: it got a connection at incidents\.secondConnection ` + at + ` ` + lasting +
		` ago and still has it \(update accounts\)`
}

// cpu is said of a statement that waits for nothing.
const cpu = `runs on the server, without a wait event \(CPU, as a rule\)`

// disk reads a table that the server may not keep in memory, for which it needs the operating system for each page. How fast
// that is depends on the machine. From time to time the server looks whether it is to stop, and reads nothing then.
func disk(s *scene) string {
	_, err := s.watch.Exec(s.Context(), `create extension if not exists pg_prewarm; drop table if exists big;
		create table big as select repeat('x', 1000) from generate_series(1, 20000)`)
	require.NoError(s, err)
	s.suffers("do $$ begin while not exists (select from stop) loop perform pg_prewarm('big', 'read'); end loop; end $$",
		"active", "DataFileRead", s.stopLoops)
	return `waits for IO/DataFileRead \(for the disk\)`
}

func processor(s *scene) string {
	s.suffers(`do $$ begin while not exists (select from stop) loop perform sum(length(md5(n::text)))
		from generate_series(1, 1000) n; end loop; end $$`, "active", "", s.stopLoops)
	return cpu
}

// clientWrite is the wait event of a session whose client doesn't read.
const clientWrite = "ClientWrite"

// reads begins to read rows, and looks what is said while it doesn't go on.
func (s *scene) reads(query, state, event string) {
	s.told.spans.Reset()
	rows, err := s.db.QueryContext(s.ctx, query)
	require.NoError(s, err)
	require.True(s, rows.Next())
	if event == clientWrite {
		s.settles(query, state, event)
	}
	s.isSeen(query, state, event)
	s.told.err = rows.Close()
}

func reader(s *scene) string {
	s.reads("select repeat('x', 1000000) from generate_series(1, 40)", "active", clientWrite)
	return `waits for Client/ClientWrite \(for this program to read the rows\)`
}

func openRows(s *scene) string {
	s.reads("select generate_series(1, 3), 'open'", "idle", "ClientRead")
	return `the server is done: its answer is on the way, or this program is reading the rows`
}

func behindPgBouncer(s *scene) string {
	return `behind a pooler, as the only session with this text and age: ` + idleTransaction(s)
}
