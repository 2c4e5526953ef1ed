package faultproxy_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

func TestMessagesAndRoundTripsAreCounted(t *testing.T) {
	_, proxy := fixture(t)
	conn := connect(t, proxy.DSN())
	const insert = "insert into t values ($1)"
	exec := func(sql string, args ...any) faultproxy.Stats {
		proxy.Reset()
		_, err := conn.Exec(t.Context(), sql, args...)
		require.NoError(t, err)
		return proxy.Stats()
	}

	stats := exec("select 1")
	assert.Equal(t, map[byte]int{'Q': 1}, stats.Messages)
	assert.Equal(t, 1, stats.RoundTrips)

	stats = exec(insert, 1)
	assert.Equal(t, map[byte]int{'P': 1, 'D': 1, 'B': 1, 'E': 1, 'S': 2}, withoutBindDescribe(stats.Messages))
	assert.Equal(t, 2, stats.RoundTrips, "prepare, then execute")

	stats = exec(insert, 2)
	assert.Zero(t, stats.Messages['P'], "it was prepared before")
	assert.Equal(t, 1, stats.RoundTrips)
	assert.Equal(t, []string{insert}, stats.Statements)
	assert.Equal(t, 1, stats.Open)
}

// withoutBindDescribe drops the Describe of a portal, which pgx sends or not, as it likes.
func withoutBindDescribe(messages map[byte]int) map[byte]int {
	if messages['D'] == 2 {
		messages['D'] = 1
	}
	return messages
}

func TestConnectionsAreCounted(t *testing.T) {
	_, proxy := fixture(t)
	first, second := connect(t, proxy.DSN()), connect(t, proxy.DSN())
	stats := proxy.Stats()
	assert.Equal(t, 2, stats.Accepted)
	assert.Equal(t, 2, stats.Open)
	assert.Equal(t, 2, stats.Startups)
	conns := proxy.Conns()
	require.Len(t, conns, 2)
	assert.Equal(t, first.PgConn().PID(), conns[0].PID())
	assert.Equal(t, second.PgConn().PID(), conns[1].PID())

	require.NoError(t, first.Close(t.Context()))
	eventually(t, func() bool { return proxy.Stats().Open == 1 && len(proxy.Conns()) == 1 })
	assert.Equal(t, 2, proxy.Conns()[0].ID)
}

func TestACancelRequestPassesAndIsCounted(t *testing.T) {
	_, proxy := fixture(t)
	conn := connect(t, proxy.DSN())
	result := make(chan error)
	go func() { // ended by the cancel request
		_, err := conn.Exec(t.Context(), "select pg_sleep(60)")
		result <- err
	}()
	eventually(t, func() bool { return len(proxy.Stats().Statements) == 1 })
	var err error
	eventually(t, func() bool { // the server may not have begun yet
		require.NoError(t, conn.PgConn().CancelRequest(t.Context()))
		select {
		case err = <-result:
			return true
		default:
			return false
		}
	})
	require.ErrorContains(t, err, "57014")
	assert.NotZero(t, proxy.Stats().Cancels)
}

func TestARequestForTLSIsAnsweredWithNo(t *testing.T) {
	_, proxy := fixture(t)
	config, err := pgx.ParseConfig(proxy.DSN() + "&sslmode=prefer")
	require.NoError(t, err)
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	assert.Positive(t, proxy.Stats().Startups)
}
