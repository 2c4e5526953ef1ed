package drivertest

import (
	"context"
	"database/sql"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// explaining is a server that explains statements without the values of their parameters: one of the version that is
// tested, or of the newest if that is too old. All tests share it; Main stops it.
var explaining struct {
	once   sync.Once
	server *pgtest.Server
	err    error
}

func explainingServer(t testing.TB) *pgtest.Server {
	t.Helper()
	cfg := pgtest.Config{Settings: map[string]string{
		"shared_preload_libraries": "pg_stat_statements", "compute_query_id": "on",
	}}
	if pgtest.Shared(t).Version() < 16 {
		cfg.Major = 18
	}
	explaining.once.Do(func() { explaining.server, explaining.err = pgtest.Start(context.Background(), cfg) })
	require.NoError(t, explaining.err)
	return explaining.server
}

// A planned is a pool in which every statement is slow, with its live page.
type planned struct {
	*testing.T
	dsn   string
	db    *sql.DB
	other *sql.DB // of another program's
	page  http.Handler
	log   *logBuffer
}

// newPlanned opens a pool that shows plans, on a database with a table of orders.
func newPlanned(t *testing.T, keysAndValues ...string) *planned {
	t.Helper()
	t.Parallel()
	return plannedOn(t, explainingServer(t).NewDatabase(t), keysAndValues...)
}

// plannedOn is newPlanned in a database that is there.
func plannedOn(t *testing.T, dsn string, keysAndValues ...string) *planned {
	t.Helper()
	p := &planned{T: t, dsn: dsn, other: openPgx(t, dsn), log: new(logBuffer)}
	mustExec(t, p.other, "create table orders (id int primary key, name text, at date, tags int[])")
	mustExec(t, p.other, "insert into orders select n, 'order ' || n, '2026-01-01', '{1,2}' from generate_series(1, 999) n")
	mustExec(t, p.other, "analyze orders")
	dsn = with(dsn, append([]string{"slow_query", "1us", "slow_query_plan", "on"}, keysAndValues...)...)
	p.db = openPool(t, dsn, pgprod.WithLogger(p.log.logger()))
	p.page = pgprod.DebugHandler(p.db)
	return p
}

// plan returns what the live page says of the plan of a summary, nil if that is nothing.
func (p *planned) plan(summary string) *activity.Plan {
	p.Helper()
	for _, s := range pools(p.T, p.page)[0].Snapshot.Statements {
		if s.Summary == summary {
			return s.Plan
		}
	}
	return nil
}

// await waits until the server was asked for the plan of a summary.
func (p *planned) await(summary string) (plan *activity.Plan) {
	p.Helper()
	pgtest.Eventually(p.T, patience, func() bool {
		plan = p.plan(summary)
		return plan != nil && plan.Text+plan.Reason != ""
	}, "no plan of %s", summary)
	return plan
}

// run executes statements, waits until the server was asked for the plan of each, and returns the plans. No two have
// the same summary.
func (p *planned) run(statements ...string) (plans []*activity.Plan) {
	p.Helper()
	for _, statement := range statements {
		mustExec(p.T, p.db, statement)
	}
	for _, s := range pools(p.T, p.page)[0].Snapshot.Statements {
		plan := p.await(s.Summary)
		require.NotEmpty(p.T, plan.Text, "%s: %s", s.Summary, plan.Reason)
		plans = append(plans, plan)
	}
	require.Len(p.T, plans, len(statements))
	return plans
}

func TestTheLivePageShowsTheGenericPlanOfASlowStatement(t *testing.T) {
	p := newPlanned(t)
	mustExec(t, p.other, "create extension pg_stat_statements")
	assert.Equal(t, "order 7", get[string](t, p.db, "select o.name from orders o where o.id = $1", 7))

	plan := p.await("select orders")
	lines := strings.Split(plan.Text, "\n")
	require.Len(t, lines, 3, plan)
	assert.Regexp(t, `^Index Scan using orders_pkey on public\.orders o  \(cost=[0-9.]+ rows=1 width=[0-9]+\)$`, lines[0])
	assert.Equal(t, []string{"  Output: name", "  Index Cond: (o.id = $1)"}, lines[1:])
	assert.Positive(t, plan.Took)
	assert.WithinDuration(t, time.Now(), plan.At, time.Minute)
	const asStored = "select query from pg_stat_statements where queryid = $1"
	assert.Equal(t, "select o.name from orders o where o.id = $1", get[string](t, p.other, asStored, plan.QueryID))

	html := page(t, p.page, "/")
	assert.Contains(t, html, `<pre class="plan" tabindex="0">Index Scan using orders_pkey on public.orders o`)
	assert.Contains(t, html, "query id ")
	assert.NotContains(t, p.log.String(), "level=ERROR")
}

func TestAPlanHasNoLiterals(t *testing.T) {
	p := newPlanned(t)
	plans := p.run(
		`select id, 'geheim1', 4711001, E'gehe\'im2', $$geheim3$$, '{4711002}'::int[], array[4711003, id], U&'geheim4',
			4711004::text, date '1999-04-11', interval '4711005 days', B'1011011101', x'4711'::bit(16), '{"geheim5": 4711006}'::jsonb,
			name like '%geheim6\', "name" collate "C", case when id = 4711007 then 'it''s geheim7' end,
			(select max(id) from orders where id < 4711008 and at > '1999-04-12')
			from orders where name = 'geheim8' or id in (4711009, 4711010, 4711011) or at < '1999-04-13' or tags @> '{4711012}'
			order by id + 4711013, coalesce(name, 'geheim9') limit 4711014`,
		"INSERT into orders values (4711015, 'geheim10', '1999-04-14', '{4711016}')",
		"UPDATE orders set name = 'geheim11', at = '1999-04-15' where id = -4711017 returning 'geheim12' || name, 4711018",
		"WITH a(b) as (values (4711019), (4711020)) "+
			"SELECT sum(b) filter (where b > 4711021) over (order by b rows 4711 preceding) from a",
	)
	for _, plan := range plans {
		assert.Contains(t, plan.Text, "'?'")
		assert.NotRegexp(t, "geheim|4711|1999|1011011101", plan.Text)
	}
	for _, shown := range []string{page(t, p.page, "/?format=json"), page(t, p.page, "/"), p.log.String()} {
		for _, secret := range []string{"geheim", "1999-04-1", "1011011101"} { // numbers such as 4711 are durations, too
			assert.NotContains(t, shown, secret)
		}
	}
}

func TestAPlanHasNoLiteralsWhateverQuotesMean(t *testing.T) {
	p := newPlanned(t, "standard_conforming_strings", "off", "backslash_quote", "on", "escape_string_warning", "off")
	plans := p.run(`select name || 'a\\' || ' geheim1' from orders where name = 'b\' or geheim2 -- ' or name = E'c\\' or id = 4711`)
	assert.Contains(t, plans[0].Text, "name = '?'::text")
	assert.NotContains(t, plans[0].Text, "geheim")
	assert.NotContains(t, plans[0].Text, "4711")
}

func TestNothingIsExecutedForAPlan(t *testing.T) {
	p := newPlanned(t)
	for _, statement := range []string{
		"create table calls (n int)", "create sequence numbers",
		`create function count_call(int) returns int volatile language plpgsql as $$
			begin insert into calls values ($1); perform nextval('numbers'); return $1; end $$`,
		"create table audit (n int)",
		`create function note() returns trigger language plpgsql as $$ begin insert into audit values (1); return new; end $$`,
		"create trigger noted after insert or update or delete on orders for each row execute function note()",
	} {
		mustExec(t, p.other, statement)
	}
	p.run(
		"SELECT count_call(1)",
		"INSERT into orders (id) values (count_call(2000))",
		"UPDATE orders set name = 'x' where id = 2",
		"DELETE from orders where id = 3",
		"MERGE into orders using (values (4)) x(id) on orders.id = x.id when matched then update set name = 'y'",
		"WITH gone as (DELETE from orders where id = 5 returning id) SELECT from gone",
	)
	assert.Equal(t, 2, get[int](t, p.other, "select count(*) from calls"), "by the two statements themselves")
	assert.Equal(t, 2, get[int](t, p.other, "select last_value from numbers"))
	assert.Equal(t, 5, get[int](t, p.other, "select count(*) from audit"))
	assert.Equal(t, 998, get[int](t, p.other, "select count(*) from orders"))
}

func TestASummaryIsExplainedOnceInTenMinutesAndNothingElseIs(t *testing.T) {
	p := newPlanned(t)
	for range 20 {
		mustExec(t, p.db, "SELECT 1 from orders")
	}
	mustExec(t, p.db, "UPDATE orders set name = 'a' where id = 1; DELETE from orders where id = 2")
	mustExec(t, p.db, "do $$ begin end $$")
	mustExec(t, p.db, "explain SELECT 2 from orders")
	mustExec(t, p.db, "analyze orders")
	mustExec(t, p.db, "SELECT 4 from orders, orders o where o.id = @id", pgx.NamedArgs{"id": 7}) // @id alone is an expression, too
	mustExec(t, p.db, "create table made as SELECT 3 from orders")
	p.await("SELECT orders")
	mustExec(t, p.db, "VALUES (1)") // which is asked for after all that would be
	p.await("VALUES")
	mustExec(t, p.other, "create extension pg_stat_statements")
	const explained = `select coalesce(sum(calls), 0)::int from pg_stat_statements
		where query like 'explain (generic_plan%' and dbid = (select oid from pg_database where datname = current_database())`
	assert.Equal(t, 2, get[int](t, p.other, explained))
}

func TestAPlanWaitsForNoLockAndNoCallerWaitsForAPlan(t *testing.T) {
	p := newPlanned(t, "pool_size", "2", "max_overflow", "0")
	fill(t, p.db, 2)
	waits := statusOf(t, p.db).Waits
	tx, err := p.db.Begin()
	require.NoError(t, err)
	mustExec(t, tx, "lock table orders in access exclusive mode")
	assert.Equal(t, 999, get[int](t, tx, "select count(*) from orders"))
	for asked := false; !asked; { // the other connection serves callers meanwhile
		mustExec(t, p.db, "set application_name = default")
		assert.LessOrEqual(t, statusOf(t, p.db).CheckedOut, 1, "nobody but the transaction has a connection")
		plan := p.plan("select orders")
		asked = plan != nil && plan.Reason != ""
	}
	assert.Equal(t, "something it needs was locked for longer than 100ms", p.plan("select orders").Reason)
	assert.Equal(t, waits, statusOf(t, p.db).Waits)
	require.NoError(t, tx.Rollback())
	assert.Contains(t, page(t, p.page, "/"), "no plan of one that took")
}

func TestAPoolClosesWhileItAsksForAPlan(t *testing.T) {
	p := newPlanned(t)
	tx, err := p.db.Begin()
	require.NoError(t, err)
	mustExec(t, tx, "lock table orders in access exclusive mode")
	get[int](t, tx, "select count(*) from orders")
	const waiting = "select count(*) from pg_locks where not granted and relation = 'orders'::regclass"
	pgtest.Eventually(t, patience, func() bool { // on a busy machine the question may be over before it is seen
		plan := p.plan("select orders")
		return get[int](t, p.other, waiting) > 0 || plan != nil && plan.Reason != ""
	}, "nobody asks")
	require.NoError(t, p.db.Close()) // Main looks for goroutines, NewDatabase for sessions
	_ = tx.Rollback()                // its connection is gone
}

func TestAStatementThatTheServerDoesNotExplainHasAReasonWithoutLiterals(t *testing.T) {
	p := newPlanned(t)
	conn := hold(t, p.db)
	mustExec(t, conn, "create temp table mine (n int)")
	mustExec(t, conn, "select 'geheim', n from mine where n = 4711")
	require.NoError(t, conn.Close())
	plan := p.await("select mine")
	assert.Empty(t, plan.Text)
	assert.Regexp(t, `^the server refuses to explain it: .*relation "mine" does not exist`, plan.Reason)
	assert.NotContains(t, page(t, p.page, "/?format=json"), "geheim")
}

func TestAServerThatCannotExplainWithoutValuesIsNotAsked(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{
		Major: 14, Settings: map[string]string{"shared_preload_libraries": "pg_stat_statements"},
	})
	p := plannedOn(t, server.NewDatabase(t))
	get[string](t, p.db, "select name from orders where id = $1", 7)
	plan := p.await("select orders")
	assert.Equal(t, "PostgreSQL 14 can't explain a statement without the values of its parameters, 16 can", plan.Reason)
	mustExec(t, p.other, "create extension pg_stat_statements")
	assert.Zero(t, get[int](t, p.other, "select count(*) from pg_stat_statements where query ilike 'explain%'"))
}

func TestPlansAreOffInProductionAndOnInDevelopment(t *testing.T) {
	p := newPlanned(t, "pool_name", "production")
	const query = "select name from orders where id = $1"
	dsn := with(p.dsn, "slow_query", "1us")
	production := openPool(t, dsn, pgprod.WithLogger(p.log.logger()))
	development := openPool(t, with(dsn, "environment", "development"), pgprod.WithLogger(p.log.logger()))
	off, on := pgprod.DebugHandler(production), pgprod.DebugHandler(development)
	get[string](t, production, query, 7)
	get[string](t, development, query, 7)
	p.page = on
	assert.NotEmpty(t, p.await("select orders").Text)
	p.page = off
	assert.Nil(t, p.plan("select orders"))
}
