package faultproxy_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

const insertOne = "insert into t values ($1)"

// sizes are the sizes of the messages of one direction.
func sizes(passed []faultproxy.Passed, d faultproxy.Direction) (all []int) {
	for _, p := range passed {
		if p.Direction == d {
			all = append(all, p.Size)
		}
	}
	return all
}

// kinds are the types of the messages of one direction.
func kinds(passed []faultproxy.Passed, d faultproxy.Direction) string {
	var all []byte
	for _, p := range passed {
		if p.Direction == d {
			all = append(all, p.Kind)
		}
	}
	return string(all)
}

func sum(sizes []int) (total int) {
	for _, size := range sizes {
		total += size
	}
	return total
}

// transcriptOf runs a statement and returns what has passed.
func transcriptOf(t *testing.T, proxy *faultproxy.Proxy, sql string, args ...any) []faultproxy.Passed {
	t.Helper()
	conn := connect(t, proxy.DSN())
	return proxy.Transcript(func() {
		_, err := conn.Exec(t.Context(), sql, args...)
		require.NoError(t, err)
	})
}

func TestATranscriptHasTheMessagesOfBothDirections(t *testing.T) {
	_, proxy := fixture(t)
	passed := transcriptOf(t, proxy, insertOne, pgx.QueryExecModeExec, 1)
	assert.Equal(t, "PBDES", kinds(passed, faultproxy.ToServer))
	assert.Equal(t, "12nCZ", kinds(passed, faultproxy.ToClient))
	assert.Equal(t, []int{5, 5, 5, len("INSERT 0 1") + 6, 6}, sizes(passed, faultproxy.ToClient))
	conn := connect(t, proxy.DSN())
	assert.Empty(t, proxy.Transcript(func() {}))
	require.NoError(t, conn.Ping(t.Context()))
}

func TestTheClientGetsTheBytesBeforeTheCutAndNoOthers(t *testing.T) {
	_, proxy := fixture(t)
	total := sum(sizes(transcriptOf(t, proxy, insertOne, pgx.QueryExecModeExec, 1), faultproxy.ToClient))
	for _, end := range []faultproxy.End{faultproxy.FIN, faultproxy.RST} {
		for n := range total {
			for _, atOnce := range []bool{false, n > 0} {
				conn, witness := connectWatched(t, proxy.DSN())
				before := witness.bytes()
				cut := proxy.Arm(faultproxy.Cut{Direction: faultproxy.ToClient, Bytes: n, AtOnce: atOnce, End: end})
				_, err := conn.Exec(t.Context(), insertOne, pgx.QueryExecModeExec, 1)
				require.Error(t, err)
				witness.requireEnd(t, end)
				require.Equal(t, n, witness.bytes()-before)
				require.True(t, cut.Disarm())
				assert.NotZero(t, cut.Conn().PID())
			}
		}
	}
}

// TestTheServerExecutesWhatItHasGotBeforeTheCut: it commits with the Sync, and Disarm waits for what becomes of it.
func TestTheServerExecutesWhatItHasGotBeforeTheCut(t *testing.T) {
	direct, proxy := fixture(t)
	messages := sizes(transcriptOf(t, proxy, insertOne, pgx.QueryExecModeExec, 1), faultproxy.ToServer)
	total := sum(messages)
	for _, end := range []faultproxy.End{faultproxy.FIN, faultproxy.RST} {
		for n := range total + 1 {
			_, err := direct.Exec(t.Context(), "truncate t")
			require.NoError(t, err)
			conn, witness := connectWatched(t, proxy.DSN())
			cut := proxy.Arm(faultproxy.Cut{Direction: faultproxy.ToServer, Bytes: n, AtOnce: n == total, End: end})
			_, err = conn.Exec(t.Context(), insertOne, pgx.QueryExecModeExec, 1)
			require.Error(t, err)
			witness.requireEnd(t, end)
			require.True(t, cut.Disarm())
			assert.Equal(t, n == total, rows(t, direct) == 1, "%d of %d bytes", n, total)
		}
	}
}

func TestACutIsNotReachedByFewerBytes(t *testing.T) {
	_, proxy := fixture(t)
	total := sum(sizes(transcriptOf(t, proxy, "select 1"), faultproxy.ToClient))
	conn := connect(t, proxy.DSN())
	cut := proxy.Arm(faultproxy.Cut{Direction: faultproxy.ToClient, Bytes: total})
	_, err := conn.Exec(t.Context(), "select 1")
	require.NoError(t, err)
	assert.False(t, cut.Disarm())
	require.NoError(t, conn.Ping(t.Context()))
}

func TestASecondCutBeginsToCountAfterTheFirst(t *testing.T) {
	_, proxy := fixture(t)
	total := sum(sizes(transcriptOf(t, proxy, "select 1"), faultproxy.ToClient))
	first, second := connect(t, proxy.DSN()), connect(t, proxy.DSN())
	cuts := []*faultproxy.ArmedCut{
		proxy.Arm(faultproxy.Cut{Direction: faultproxy.ToServer, Bytes: 3}),
		proxy.Arm(faultproxy.Cut{Direction: faultproxy.ToClient, Bytes: total - 1}),
	}
	for i, conn := range []*pgx.Conn{first, second} {
		select {
		case <-cuts[i].Reached():
			t.Error("before anything was sent")
		default:
		}
		_, err := conn.Exec(t.Context(), "select 1")
		require.Error(t, err)
		require.True(t, cuts[i].Disarm())
	}
	assert.NotEqual(t, cuts[0].Conn(), cuts[1].Conn())
}

// TestAWordTakesThePlaceOfTheRestOfTheAnswer, also where it is the answer to a statement that the server has not got.
func TestAWordTakesThePlaceOfTheRestOfTheAnswer(t *testing.T) {
	direct, proxy := fixture(t)
	passed := transcriptOf(t, proxy, insertOne, pgx.QueryExecModeExec, 1)
	asked, answers := sizes(passed, faultproxy.ToServer), sizes(passed, faultproxy.ToClient)
	_, err := direct.Exec(t.Context(), "truncate t")
	require.NoError(t, err)
	// Parse, Bind and Describe reach the server, which answers each by a message; Execute doesn't.
	for n := range 4 {
		for _, end := range []faultproxy.End{faultproxy.FIN, faultproxy.RST} {
			conn, witness := connectWatched(t, proxy.DSN())
			before := witness.bytes()
			cut := proxy.Arm(faultproxy.Cut{
				Direction: faultproxy.ToServer, Bytes: sum(asked[:3]), Answers: n, Word: faultproxy.Terminated(), End: end,
			})
			_, err := conn.Exec(t.Context(), insertOne, pgx.QueryExecModeExec, 1)
			pg, ok := errors.AsType[*pgconn.PgError](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, "57P01", pg.Code)
			assert.Equal(t, sum(answers[:n])+len(faultproxy.Terminated()), witness.bytes()-before)
			require.True(t, cut.Disarm())
		}
	}
	assert.Zero(t, rows(t, direct))

	conn := connect(t, proxy.DSN())
	cut := proxy.Arm(faultproxy.Cut{
		Direction: faultproxy.ToClient, Bytes: sum(answers[:4]), Word: faultproxy.Fatal("08006", "lost", ""),
	})
	_, err = conn.Exec(t.Context(), insertOne, pgx.QueryExecModeExec, 1)
	require.ErrorContains(t, err, "08006")
	require.True(t, cut.Disarm())
	assert.Equal(t, 1, rows(t, direct), "here it has")
}

// TestTheServersOwnWordPassesAConnectionThatStays, after the answers to what the server has got, and is what Terminated
// returns.
func TestTheServersOwnWordPassesAConnectionThatStays(t *testing.T) {
	direct, proxy := fixture(t)
	passed := transcriptOf(t, proxy, insertOne, pgx.QueryExecModeExec, 1)
	asked, answers := sizes(passed, faultproxy.ToServer), sizes(passed, faultproxy.ToClient)
	_, err := direct.Exec(t.Context(), "truncate t")
	require.NoError(t, err)
	for n := range 4 {
		conn, witness := connectWatched(t, proxy.DSN())
		before := witness.bytes()
		cut := proxy.Arm(faultproxy.Cut{Direction: faultproxy.ToServer, Bytes: sum(asked[:n]), Answers: n, Stay: true})
		result := make(chan error, 1)
		go func() { // ends with its connection
			_, err := conn.Exec(context.Background(), insertOne, pgx.QueryExecModeExec, 1)
			result <- err
		}()
		<-cut.Reached()
		_, err := direct.Exec(t.Context(), "select pg_terminate_backend($1)", cut.Conn().PID())
		require.NoError(t, err)
		err = <-result
		pg, ok := errors.AsType[*pgconn.PgError](err)
		require.True(t, ok, "%v", err)
		require.True(t, cut.Disarm())
		assert.Greater(t, witness.bytes()-before, sum(answers[:n]))
		assert.Equal(t, emulated(t, proxy, pg.Line), pg, "PostgreSQL's own word")
	}
	assert.Zero(t, rows(t, direct))
}

// emulated is what a client reads of Terminated, with another line.
func emulated(t *testing.T, proxy *faultproxy.Proxy, line int32) *pgconn.PgError {
	t.Helper()
	conn := connect(t, proxy.DSN())
	cut := proxy.Arm(faultproxy.Cut{Direction: faultproxy.ToServer, Word: faultproxy.Terminated()})
	pg, ok := errors.AsType[*pgconn.PgError](conn.Ping(t.Context()))
	require.True(t, ok)
	require.True(t, cut.Disarm())
	pg.Line = line
	return pg
}

func TestTheProxyEndsConnectionsThatWereCutAndAreHeld(t *testing.T) {
	_, proxy := fixture(t)
	conn := connect(t, proxy.DSN())
	cut := proxy.Arm(faultproxy.Cut{Direction: faultproxy.ToServer, End: faultproxy.Hold})
	result := make(chan error, 1)
	go func() { result <- conn.Ping(context.Background()) }() // ends with the proxy
	<-cut.Reached()
	assert.True(t, cut.Disarm(), "the server's end is over")
	require.Len(t, proxy.Conns(), 1)
	require.NoError(t, proxy.Close())
	require.Error(t, <-result)
	assert.Empty(t, proxy.Conns())
}
