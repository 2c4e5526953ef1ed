package faultproxy_test

import (
	"context"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

func TestConnectionsAreRefusedUntilAdmitted(t *testing.T) {
	_, proxy := fixture(t)
	existing := connect(t, proxy.DSN())
	require.NoError(t, proxy.Refuse())
	require.NoError(t, proxy.Refuse(), "Refuse twice")
	_, err := pgx.Connect(t.Context(), proxy.DSN())
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.NoError(t, existing.Ping(t.Context()))
	require.NoError(t, proxy.Admit())
	require.NoError(t, proxy.Admit(), "Admit twice")
	require.NoError(t, connect(t, proxy.DSN()).Ping(t.Context()))
}

func TestLatencyDelaysEachWay(t *testing.T) {
	_, proxy := fixture(t)
	conn := connect(t, proxy.DSN())
	const latency = 50 * time.Millisecond
	proxy.SetLatency(faultproxy.ToServer, latency)
	proxy.Conns()[0].SetLatency(faultproxy.ToClient, latency)
	begin := time.Now()
	require.NoError(t, conn.Ping(t.Context()))
	took := time.Since(begin)
	assert.GreaterOrEqual(t, took, 2*latency)
	assert.Less(t, took, patience)
}

func TestManyRowsSufferLatencyOnce(t *testing.T) {
	_, proxy := fixture(t)
	conn := connect(t, proxy.DSN())
	proxy.SetLatency(faultproxy.ToClient, 50*time.Millisecond)
	begin := time.Now()
	_, err := conn.Exec(t.Context(), "select * from generate_series(1, 1000)")
	require.NoError(t, err)
	assert.Less(t, time.Since(begin), patience, "and not once for each row, which is 50 s")
}

func TestAConnectCanBeDelayed(t *testing.T) {
	_, proxy := fixture(t)
	const delay = 100 * time.Millisecond
	proxy.DelayConnect(delay)
	begin := time.Now()
	connect(t, proxy.DSN())
	assert.GreaterOrEqual(t, time.Since(begin), delay)
	ctx, cancel := context.WithTimeout(t.Context(), delay/10)
	defer cancel()
	_, err := pgx.Connect(ctx, proxy.DSN())
	require.Error(t, err)
	eventually(t, func() bool { return proxy.Stats().Open == 1 }, "the one that gave up has left")
}

func TestASilentProxyAcceptsAndDoesNotAnswer(t *testing.T) {
	_, proxy := fixture(t)
	proxy.SilenceNew(true)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := pgx.Connect(ctx, proxy.DSN())
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Equal(t, 1, proxy.Stats().Accepted)
	proxy.SilenceNew(false)
	require.NoError(t, connect(t, proxy.DSN()).Ping(t.Context()))
}

func TestABlackHoleHidesEvenTheEndOfTheServer(t *testing.T) {
	for _, direction := range []faultproxy.Direction{faultproxy.ToServer, faultproxy.ToClient} {
		_, proxy := fixture(t)
		conn := connect(t, proxy.DSN())
		proxy.BlackHole(direction, true)
		if direction == faultproxy.ToClient {
			require.NoError(t, pgtest.Shared(t).Terminate(t.Context(), conn.PgConn().PID()))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, conn.Ping(ctx), context.DeadlineExceeded)
	}
}

func TestConnectionsCanBeClosedResetAndHalfClosed(t *testing.T) {
	_, proxy := fixture(t)
	for _, end := range []faultproxy.End{faultproxy.FIN, faultproxy.RST} {
		client := dial(t, proxy)
		proxy.CloseAll(end)
		_, err := client.Read(make([]byte, 1))
		if end == faultproxy.FIN {
			require.ErrorContains(t, err, "EOF")
		} else {
			require.ErrorIs(t, err, syscall.ECONNRESET)
		}
	}
	client := dial(t, proxy)
	conns := proxy.Conns()
	require.NoError(t, conns[len(conns)-1].HalfClose())
	_, err := client.Read(make([]byte, 1))
	require.ErrorContains(t, err, "EOF")
	_, err = client.Write([]byte("x"))
	require.NoError(t, err)
	eventually(t, func() bool { return len(proxy.Conns()) == 1 })
	assert.Equal(t, 1, proxy.Stats().Open)
}

// dial opens a plain TCP connection that the proxy has accepted.
func dial(t *testing.T, proxy *faultproxy.Proxy) net.Conn {
	t.Helper()
	before := proxy.Stats().Accepted
	client, err := net.Dial(proxy.Addr().Network(), proxy.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	eventually(t, func() bool { return proxy.Stats().Accepted > before })
	return client
}

func TestTheServersEndReachesTheClientAsItWas(t *testing.T) {
	_, proxy := fixture(t)
	conn := connect(t, proxy.DSN())
	require.NoError(t, pgtest.Shared(t).Terminate(t.Context(), conn.PgConn().PID()))
	require.ErrorContains(t, conn.Ping(t.Context()), "57P01", "the server's last words come first")
}

func TestAServerThatIsDownResetsTheClient(t *testing.T) {
	server := pgtest.StartTB(t, pgtest.Config{})
	proxy := faultproxy.StartTB(t, server.DSN(""))
	require.NoError(t, server.Shutdown(t.Context(), pgtest.Fast))
	_, err := pgx.Connect(t.Context(), proxy.DSN())
	require.Error(t, err)
	require.NoError(t, server.Resume(t.Context()))
	require.NoError(t, connect(t, proxy.DSN()).Ping(t.Context()))
}

func TestAUnixSocketCanBeProxied(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "proxy")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	proxy, err := faultproxy.StartUnix(pgtest.Shared(t).SocketDSN("postgres"), dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, proxy.Close()) })
	require.NoError(t, connect(t, proxy.DSN()).Ping(t.Context()))
	require.NoError(t, proxy.Refuse())
	_, err = pgx.Connect(t.Context(), proxy.DSN())
	require.Error(t, err)
	require.NoError(t, proxy.Admit())
	require.NoError(t, connect(t, proxy.DSN()).Ping(t.Context()))
}

func TestCloseEndsEverythingUnderLoad(t *testing.T) {
	_, proxy := fixture(t)
	proxy.SetLatency(faultproxy.ToClient, time.Millisecond)
	var wg sync.WaitGroup
	for range 8 {
		conn := connect(t, proxy.DSN())
		wg.Go(func() { // ends when Close has closed its connection
			for conn.Ping(context.Background()) == nil {
			}
		})
	}
	eventually(t, func() bool { return proxy.Stats().RoundTrips > 100 })
	require.NoError(t, proxy.Close())
	wg.Wait()
	require.NoError(t, proxy.Close(), "Close twice")
	assert.Zero(t, proxy.Stats().Open)
	assert.Empty(t, proxy.Conns())
	require.Error(t, proxy.Admit())
}

func TestADSNThatIsNoURLIsRefusedWithoutShowingIt(t *testing.T) {
	_, err := faultproxy.Start("host=localhost password=secret")
	require.ErrorContains(t, err, "URL")
	assert.NotContains(t, err.Error(), "secret")
}
