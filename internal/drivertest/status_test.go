package drivertest

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

func TestTheCountersAreRightCancelledWaitsIncluded(t *testing.T) {
	t.Parallel()
	const limit = 2 * time.Second
	db := openPool(t, oneConn(pgtest.NewDatabase(t), "pool_timeout", limit.String()))
	held := hold(t, db)
	before := statusOf(t, db)
	require.Positive(t, before.Waits, "for the first connection")

	require.ErrorIs(t, ask(t.Context(), db).wait(t), pgprod.ErrPoolTimeout)
	ctx, cancel := context.WithCancel(t.Context())
	gone := ask(ctx, db)
	eventually(t, db, waiting(1))
	cancel()
	require.ErrorIs(t, gone.wait(t), context.Canceled)
	served := ask(t.Context(), db)
	eventually(t, db, waiting(1))
	require.NoError(t, held.Close())
	require.NoError(t, served.wait(t))
	require.NoError(t, db.Ping(), "no wait")

	s := statusOf(t, db)
	assert.EqualValues(t, 3, s.Waits-before.Waits)
	assert.EqualValues(t, 1, s.Timeouts-before.Timeouts)
	assert.GreaterOrEqual(t, s.WaitTime-before.WaitTime, limit)
	assert.Zero(t, s.CheckedOut+s.Waiting+s.Connecting+s.Overflow)
	assert.Equal(t, 1, s.CheckedIn)
	assert.Equal(t, 1, s.PeakCheckedOut)
	assert.Zero(t, s.FailedConnects)
	assert.Empty(t, s.Closed)
}

func TestACallerThatWaitsAgainSinceWhatItGotWasDeadHasWaitedOnce(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	held := hold(t, db)
	before := statusOf(t, db)
	r := ask(t.Context(), db)
	eventually(t, db, waiting(1))
	terminate(t, backendPID(t, held))
	require.NoError(t, held.Close())
	require.NoError(t, r.wait(t))
	s := statusOf(t, db)
	require.Equal(t, map[string]int64{"invalid": 1}, s.Closed)
	assert.EqualValues(t, 1, s.Waits-before.Waits)
}

func TestFailedConnectsAreCounted(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	require.NoError(t, proxy.Refuse())
	db := openPool(t, proxy.DSN())
	r := ask(t.Context(), db)
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.FailedConnects >= 3 })
	require.NoError(t, proxy.Admit())
	require.NoError(t, r.wait(t))
	assert.GreaterOrEqual(t, statusOf(t, db).FailedConnects, int64(3))
}

func TestStatusIsASnapshotSafeToKeep(t *testing.T) {
	t.Parallel()
	db := openPool(t, oneConn(pgtest.NewDatabase(t)))
	pid := backendPID(t, db)
	kept := statusOf(t, db)
	kept.Closed["tampered with"] = 1
	terminate(t, pid)
	require.NoError(t, db.Ping())
	assert.Equal(t, map[string]int64{"tampered with": 1}, kept.Closed)
	assert.Equal(t, map[string]int64{"invalid": 1}, statusOf(t, db).Closed)
}

func TestStatusAsJSON(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	db := openPool(t, with(dsn, "pool_size", "4", "max_overflow", "1", "pool_name", "as json"))
	fill(t, db, 2)
	hold(t, db)
	text, err := json.Marshal(statusOf(t, db))
	require.NoError(t, err)
	var fields map[string]any
	require.NoError(t, json.Unmarshal(text, &fields))
	waitTime := fields["wait_time_ns"]
	assert.Positive(t, waitTime)
	assert.Equal(t, map[string]any{
		"pool_name": "as json", "pool_size": 4.0, "max_overflow": 1.0,
		"checked_out": 1.0, "checked_in": 1.0, "overflow": 0.0, "waiting": 0.0, "connecting": 0.0,
		"utilisation": 0.2, "peak_checked_out": 2.0, "peak_utilisation": 0.4,
		"waits": 2.0, "wait_time_ns": waitTime, "timeouts": 0.0, "failed_connects": 0.0,
		"commits_unknown": 0.0, "closed": map[string]any{}, "hosts": fields["hosts"],
	}, fields)
	require.Len(t, fields["hosts"], 1)
	parsed, err := url.Parse(dsn)
	require.NoError(t, err)
	host := fields["hosts"].([]any)[0].(map[string]any)
	assert.Equal(t, 2.0, host["connections"])
	assert.Equal(t, parsed.Host, host["host"])

	var back pgprod.PoolStatus
	require.NoError(t, json.Unmarshal(text, &back))
	assert.Equal(t, statusOf(t, db), back)
}

func TestConnectionsAreCountedByTheReasonOfTheirEnd(t *testing.T) {
	t.Parallel()
	db := openPool(t, with(pgtest.NewDatabase(t), "pool_size", "2", "max_overflow", "1"))
	giveBack(t, holdMany(t, db, 3)) // one is overflow
	conn := hold(t, db)
	mustExec(t, conn, "begin")
	require.NoError(t, conn.Close()) // dirty
	terminate(t, fill(t, db, 2)...)
	require.NoError(t, db.Ping())
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.Closed["invalid"] == 2 })
	require.NoError(t, db.Close())
	s := statusOf(t, db)
	assert.Equal(t, map[string]int64{"overflow": 1, "dirty": 1, "invalid": 2, "closed": 1}, s.Closed)
	assert.True(t, slices.Equal([]int{0, 0, 0, 0}, []int{s.CheckedIn, s.CheckedOut, s.Waiting, s.Connecting}), "%+v", s)
}
