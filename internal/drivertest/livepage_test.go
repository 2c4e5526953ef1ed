package drivertest

import (
	"context"
	"html"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/pgtest"
)

func snapshot(i *incident) activity.Snapshot {
	return pools(i.t, pgprod.DebugHandler(i.db))[0].Snapshot
}

// A chain: another program's transaction blocks one of the pool's, which blocks two statements of the pool's.
func TestTheLivePageHasTheTreeOfWhoBlocksWhom(t *testing.T) {
	i := newIncident(t)
	billing, billingPID := i.other("billing", "update accounts set n = 47110811 where id = 1")
	tx, err := i.db.BeginTx(context.Background(), nil)
	require.NoError(t, err)
	mustExec(t, tx, "update accounts set n = 47110811 where id = 2")
	ownPID := backendPID(t, tx)
	own := run(tx, "update accounts set n = 47110812 where id = 1")
	i.sees(forRow+byBilling, billingPID)
	first, second := run(i.db, "delete from accounts where id = 2 and n <> 47110813"), run(i.db, "delete from accounts where id = 2 and n <> 47110814")

	var got activity.Snapshot
	pgtest.Eventually(t, 3*patience, func() bool {
		got = snapshot(i)
		return len(got.Blocking) == 1 && got.Blocking[0].Blocks() == 3
	}, "a tree of four")
	top := got.Blocking[0]
	assert.Equal(t, billingPID, top.PID)
	assert.Nil(t, top.Own, "it isn't this pool's")
	assert.Equal(t, "application billing, user postgres", top.Who())
	assert.Contains(t, top.Does(), "idle in transaction for ")
	require.Len(t, top.Below, 1)
	waits := top.Below[0]
	assert.Equal(t, ownPID, waits.PID)
	require.NotNil(t, waits.Own)
	assert.Contains(t, waits.HeldBy(), "drivertest.TestTheLivePageHasTheTreeOfWhoBlocksWhom")
	assert.Equal(t, "update accounts", waits.Text)
	assert.Contains(t, waits.Does(), "waits for Lock/transactionid for ")
	activity.Walk(waits.Below, func(n *activity.Node, _ int) {
		assert.Equal(t, "delete accounts", n.Text)
		assert.NotNil(t, n.Own)
	})
	shown := html.UnescapeString(page(t, pgprod.DebugHandler(i.db), "/"))
	_, shown, _ = strings.Cut(shown, "<body>")
	shown, _, _ = strings.Cut(shown, "<script>")
	assert.Contains(t, shown, "not this pool's")
	assert.Contains(t, shown, "blocks 3")
	assert.NotRegexp(t, `\b4711081[1-4]\b`, shown, "no literal is shown")

	require.NoError(t, billing.Rollback())
	require.NoError(t, <-own)
	require.NoError(t, tx.Rollback())
	require.NoError(t, <-first)
	require.NoError(t, <-second)
	assert.Empty(t, snapshot(i).Blocking)
}

func TestTheLivePageHasTheTracesOfWhatRunsAndOfWhatWasSlow(t *testing.T) {
	tr := newTracing(t)
	t.Parallel()
	i := &incident{t: t, dsn: pgtest.NewDatabase(t)}
	mustExec(t, openPgx(t, i.dsn), "create table accounts (id int primary key, n int); insert into accounts values (1, 0)")
	i.db = openPool(t, with(i.dsn, "slow_query", "100ms"), pgprod.WithTracerProvider(tr.provider), i.log.option(0))
	billing, pid := i.other("billing", update)
	ctx, span := tr.parent()
	defer span.End()
	done := make(chan error, 1)
	go func() { // ends with the statement
		_, err := i.db.ExecContext(ctx, update)
		done <- err
	}()
	i.sees(forRow+byBilling, pid)
	holders := snapshot(i).Holders
	require.Len(t, holders, 1)
	trace := span.SpanContext().TraceID().String()
	assert.Equal(t, trace, holders[0].TraceID)
	assert.Equal(t, trace, snapshot(i).Blocking[0].Below[0].TraceID)
	require.NoError(t, billing.Rollback())
	require.NoError(t, <-done)
	slow := snapshot(i).Slow
	require.NotEmpty(t, slow)
	assert.Equal(t, trace, slow[0].TraceID)
	assert.Equal(t, "update accounts", slow[0].Summary)
	assert.Contains(t, slow[0].Found, "application billing")
	assert.EqualValues(t, 1, slow[0].Rows)
	assert.Empty(t, slow[0].Failed)

	conn := hold(t, i.db) // without a span, on the same connection
	defer conn.Close()
	mustExec(t, conn, "select 1")
	for _, h := range snapshot(i).Holders {
		assert.Empty(t, h.TraceID)
	}
}

func TestTheLivePageCountsTheRoundTripsThatRidersSave(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	db := openPool(t, oneConn(dsn, "trace_context", "off"))
	h := pgprod.DebugHandler(db)
	saved := func() activity.Saved { return pools(t, h)[0].Snapshot.Saved }
	ctx := context.Background()
	mustExec(t, db, "select 1")
	assert.Zero(t, saved())
	for range 3 {
		tx, err := db.BeginTx(ctx, nil)
		require.NoError(t, err)
		mustExec(t, tx, "select $1::int", 1)
		mustExec(t, tx, "select $1::int", 2)
		require.NoError(t, tx.Commit())
	}
	assert.Equal(t, activity.Saved{Begin: 3}, saved())
	set := pgprod.ContextWithSettings(ctx, map[string]string{"app.tenant": "7"})
	for range 2 {
		_, err := db.ExecContext(set, "select $1::int", 1)
		require.NoError(t, err)
	}
	assert.Equal(t, activity.Saved{Begin: 3, Settings: 2}, saved())
	tx, err := db.BeginTx(ctx, nil) // by the simple protocol BEGIN goes ahead, by itself
	require.NoError(t, err)
	mustExec(t, tx, "select 1; select 2")
	require.NoError(t, tx.Commit())
	tx, err = db.BeginTx(ctx, nil) // nothing is sent at all
	require.NoError(t, err)
	require.NoError(t, tx.Commit())
	assert.Equal(t, activity.Saved{Begin: 3, Settings: 2}, saved())
	assert.Contains(t, page(t, h, "/"), "Round trips saved")
}
