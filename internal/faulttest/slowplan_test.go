package faulttest

import (
	"database/sql"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// awaitPlan waits until the live page says what the plan of a summary is, or why there is none.
func awaitPlan(t testing.TB, db *sql.DB, summary string) (plan *activity.Plan) {
	t.Helper()
	pgtest.Eventually(t, 2*patience, func() bool {
		for _, s := range snapshot(t, db).Statements {
			if s.Summary == summary {
				plan = s.Plan
			}
		}
		return plan != nil && plan.Text+plan.Reason != ""
	}, "no plan")
	return plan
}

func TestPlansOfSlowStatementsComeThroughPgBouncer(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Major: 18})
	for mode, reason := range map[string]string{"transaction": "", "session": "", "statement": "the server refuses to explain it"} {
		b := startBouncer(t, server, mode)
		name := b.database(t)
		direct := openPgx(t, b.server.DSN(name))
		exec(t, direct, "create table orders (id int primary key, name text)")
		exec(t, direct, "insert into orders values (1, 'a')")
		db := openPool(t, b.dsn(name, "server_settings_mode", "set", "default_query_exec_mode", "exec", "pool_reset", "off",
			"slow_query", "1us", "slow_query_plan", "on"), quiet)
		pgprod.DebugHandler(db) // from now on plans are wanted
		assert.Equal(t, "a", get[string](t, db, "select name from orders where id = $1", 1))
		plan := awaitPlan(t, db, "select orders")
		if reason == "" {
			assert.Contains(t, plan.Text, "orders.id = $1", "%s: %s", mode, plan.Reason)
			for n := range 6 { // the server's connections are as before: no transaction, no limits
				assert.Equal(t, "0", get[string](t, db, "select current_setting('lock_timeout') from pg_sleep($1::int * 0)", n))
				exec(t, db, "update orders set name = 'a' where id = $1", n)
			}
		} else {
			assert.Contains(t, plan.Reason, reason)
		}
	}
}
