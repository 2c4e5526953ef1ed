package drivertest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// tripsOfOne returns how many round trips a statement of one argument costs, and how many of them prepare it.
func tripsOfOne(t testing.TB, proxy *faultproxy.Proxy, q querier, query string) (trips, prepares int) {
	t.Helper()
	proxy.Reset()
	get[int](t, q, query, 1)
	s := proxy.Stats()
	return s.RoundTrips, s.Messages['P']
}

func TestAConnectionThatIsReplacedAheadKnowsTheStatementsThatAreUsed(t *testing.T) {
	t.Parallel()
	const query = "select $1::int + 1"
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, oneConn(proxy.DSN(), "pool_min", "1", "pool_recycle", "2s", "pool_pre_ping", "off"))
	trips, prepares := tripsOfOne(t, proxy, db, query)
	require.Equal(t, []int{2, 1}, []int{trips, prepares}, "the first one prepares it; logins aren't counted")
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.Closed["lifetime"] > 0 && s.CheckedIn == 1 })

	conn := hold(t, db) // the next one is not replaced meanwhile
	trips, prepares = tripsOfOne(t, proxy, conn, query)
	assert.Equal(t, []int{1, 0}, []int{trips, prepares})
	trips, prepares = tripsOfOne(t, proxy, conn, "select $1::int + 2")
	assert.Equal(t, []int{2, 1}, []int{trips, prepares}, "one that is new")
}

func TestACallerThatWaitsGetsANewConnectionAsItIs(t *testing.T) {
	t.Parallel()
	const query = "select $1::int + 1"
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, oneConn(proxy.DSN(), "pool_pre_ping", "off"))
	get[int](t, db, query, 1)
	terminate(t, backendPID(t, db))
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.CheckedIn == 1 })
	pgtest.Eventually(t, patience, func() bool { return db.Ping() == nil })
	trips, prepares := tripsOfOne(t, proxy, db, query)
	assert.Equal(t, []int{2, 1}, []int{trips, prepares})
}

func TestAWarmConnectionHasNoSpansAndNoErrorsOfItsOwn(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	log := &logged{}
	db := openPool(t, with(dsn, "pool_min", "1", "pool_recycle", "1s"), log.option(0))
	mustExec(t, db, "create table t (a int)")
	mustExec(t, db, "insert into t values ($1)", 1)
	direct := openPgx(t, dsn)
	mustExec(t, direct, "drop table t")
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.Closed["lifetime"] > 2 && s.CheckedIn == 1 })
	assert.Empty(t, log.buffer.String())
}
