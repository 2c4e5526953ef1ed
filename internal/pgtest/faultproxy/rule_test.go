package faultproxy_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

var modes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
	pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
}

func TestASwallowedReplyMeansThatTheStatementWasExecutedOnceInEveryMode(t *testing.T) {
	direct, proxy := fixture(t)
	for _, mode := range modes {
		for _, end := range []faultproxy.End{faultproxy.FIN, faultproxy.RST} {
			_, err := direct.Exec(t.Context(), "truncate t")
			require.NoError(t, err)
			conn, witness := connectWatched(t, proxy.DSN())
			proxy.SwallowReply(end, 1, faultproxy.Containing("INSERT"))

			_, err = conn.Exec(t.Context(), "insert into t values ($1)", mode, 1)
			require.Error(t, err)
			witness.requireEnd(t, end)
			assert.True(t, conn.IsClosed())
			assert.Equal(t, 1, rows(t, direct), "%v %v", mode, end)
		}
	}
	assert.Equal(t, 10, proxy.Stats().Injected)
}

func TestRepliesAreSwallowedAsManyTimesAsAskedFor(t *testing.T) {
	direct, proxy := fixture(t)
	proxy.SwallowReply(faultproxy.FIN, 2, faultproxy.Containing("insert"))
	for attempt := range 3 {
		conn := connect(t, proxy.DSN())
		_, err := conn.Exec(t.Context(), "select 1")
		require.NoError(t, err, "no match")
		_, err = conn.Exec(t.Context(), "insert into t values (1)")
		assert.Equal(t, attempt < 2, err != nil)
	}
	assert.Equal(t, 3, rows(t, direct))
}

func TestACommitWhoseReplyIsSwallowedHasCommitted(t *testing.T) {
	direct, proxy := fixture(t)
	conn, witness := connectWatched(t, proxy.DSN())
	proxy.SwallowReply(faultproxy.RST, 1, faultproxy.Containing("commit"))
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "insert into t values ($1)", 1)
	require.NoError(t, err)
	require.Error(t, tx.Commit(t.Context()))
	witness.requireEnd(t, faultproxy.RST)
	assert.Equal(t, 1, rows(t, direct))
}

func TestTheRepliesBeforeTheSwallowedOneInAPipelineArrive(t *testing.T) {
	direct, proxy := fixture(t)
	conn := connect(t, proxy.DSN())
	proxy.SwallowReply(faultproxy.FIN, 1, faultproxy.Containing("2"))
	pipeline := conn.PgConn().StartPipeline(t.Context())
	for _, value := range []string{"1", "2", "3"} {
		pipeline.SendQueryParams("insert into t values ("+value+")", nil, nil, nil, nil)
		require.NoError(t, pipeline.Sync())
	}
	result, err := pipeline.GetResults()
	require.NoError(t, err)
	_, err = result.(*pgconn.ResultReader).Close()
	require.NoError(t, err)
	_, err = pipeline.GetResults() // the first Sync
	require.NoError(t, err)
	_, err = pipeline.GetResults()
	require.Error(t, err)
	_ = pipeline.Close()
	eventually(t, func() bool { return rows(t, direct) >= 2 })
}

func TestAReplyThatIsHeldNeverArrivesAndTheConnectionStaysOpen(t *testing.T) {
	direct, proxy := fixture(t)
	conn := connect(t, proxy.DSN())
	proxy.SwallowReply(faultproxy.Hold, 1, faultproxy.Containing("insert"))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := conn.Exec(ctx, "insert into t values (1)")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Equal(t, 1, rows(t, direct))
}

func TestAReplyCanBeCutInTheMiddle(t *testing.T) {
	_, proxy := fixture(t)
	conn, witness := connectWatched(t, proxy.DSN())
	proxy.Inject(faultproxy.Rule{Match: faultproxy.Containing("generate_series"), Pass: 1 + 3, End: faultproxy.RST})
	rows, err := conn.Query(t.Context(), "select * from generate_series(1, 10)", pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	var seen int
	for rows.Next() {
		seen++
	}
	assert.Equal(t, 3, seen, "after the row description")
	require.Error(t, rows.Err())
	witness.requireEnd(t, faultproxy.RST)
}

func TestAnUnsentStatementIsNotExecuted(t *testing.T) {
	direct, proxy := fixture(t)
	for _, mode := range modes {
		for _, end := range []faultproxy.End{faultproxy.FIN, faultproxy.RST} {
			conn, witness := connectWatched(t, proxy.DSN())
			proxy.Inject(faultproxy.Rule{Match: faultproxy.Containing("insert"), Unsent: true, End: end})
			_, err := conn.Exec(t.Context(), "insert into t values ($1)", mode, 1)
			require.Error(t, err)
			witness.requireEnd(t, end)
		}
	}
	assert.Zero(t, rows(t, direct))
}

func TestAnUnsyncedStatementIsExecutedAndNotCommitted(t *testing.T) {
	direct, proxy := fixture(t)
	_, err := direct.Exec(t.Context(), "create sequence executed")
	require.NoError(t, err)
	for _, end := range []faultproxy.End{faultproxy.FIN, faultproxy.RST} {
		conn, witness := connectWatched(t, proxy.DSN())
		proxy.Inject(faultproxy.Rule{Match: faultproxy.Containing("insert"), Unsynced: true, End: end})
		_, err := conn.Exec(t.Context(), "insert into t select nextval('executed') + $1", pgx.QueryExecModeExec, 1)
		require.Error(t, err)
		witness.requireEnd(t, end)
		eventually(t, func() bool {
			var used bool
			require.NoError(t, direct.QueryRow(t.Context(), "select is_called from executed").Scan(&used))
			return used
		}, "the server has not executed it")
	}
	assert.Zero(t, rows(t, direct))
}

func TestClearedRulesDoNothing(t *testing.T) {
	_, proxy := fixture(t)
	conn := connect(t, proxy.DSN())
	proxy.SwallowReply(faultproxy.FIN, 1, nil)
	proxy.ClearRules()
	require.NoError(t, conn.Ping(t.Context()))
}

func TestMessagesOfAnySizePass(t *testing.T) {
	_, proxy := fixture(t)
	conn := connect(t, proxy.DSN())
	long := strings.Repeat("x", 5<<20)
	var back string
	require.NoError(t, conn.QueryRow(t.Context(), "select $1::text", long).Scan(&back))
	assert.True(t, long == back)
}
