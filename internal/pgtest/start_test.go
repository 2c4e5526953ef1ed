package pgtest_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/loopback"
)

// connect opens a connection that is closed at the end of the test.
func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// query returns the one value of a query as text.
func query(t *testing.T, dsn, sql string, args ...any) string {
	t.Helper()
	var value string
	require.NoError(t, connect(t, dsn).QueryRow(t.Context(), sql, args...).Scan(&value))
	return value
}

func TestStartGivesAServerOnTCPAndOnAUnixSocket(t *testing.T) {
	begin := time.Now()
	server := pgtest.StartTB(t, pgtest.Config{Settings: map[string]string{"work_mem": "7MB", "cluster_name": `it's \ here`}})
	t.Logf("started in %v", time.Since(begin))
	for _, dsn := range []string{server.DSN(""), server.SocketDSN("postgres")} {
		assert.Equal(t, "7MB", query(t, dsn, "show work_mem"))
		assert.Equal(t, `it's \ here`, query(t, dsn, "show cluster_name"))
		assert.Equal(t, "off", query(t, dsn, "show fsync"))
	}
	assert.GreaterOrEqual(t, server.Version(), 14)
	assert.Less(t, len(server.SocketDir()), 100)
	assert.FileExists(t, server.LogFile())
}

func TestStopLeavesNothingBehind(t *testing.T) {
	server := pgtest.StartTB(t, pgtest.Config{})
	conn := connect(t, server.DSN(""))
	pid := readPostmasterPID(t, server)
	begin := time.Now()
	require.NoError(t, server.Stop(t.Context()))
	t.Logf("stopped in %v", time.Since(begin))

	assert.NoDirExists(t, server.DataDir())
	assert.NoDirExists(t, server.SocketDir())
	assert.NoDirExists(t, filepath.Dir(server.DataDir()))
	assert.NoDirExists(t, "/proc/"+pid)
	require.Error(t, conn.Ping(t.Context()))
	require.NoError(t, server.Stop(t.Context()), "Stop twice")
	require.ErrorIs(t, server.Restart(t.Context(), pgtest.Fast), pgtest.ErrStopped)
	require.ErrorIs(t, server.Crash(), pgtest.ErrStopped)
}

func readPostmasterPID(t *testing.T, server *pgtest.Server) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(server.DataDir(), "postmaster.pid"))
	require.NoError(t, err)
	pid, _, _ := strings.Cut(string(text), "\n")
	return pid
}

func TestStopWithAnEndedContextStillLeavesNothingBehind(t *testing.T) {
	server := pgtest.StartTB(t, pgtest.Config{})
	require.NoError(t, server.Freeze())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, server.Stop(ctx))
	assert.NoDirExists(t, filepath.Dir(server.DataDir()))
}

func TestAStartThatIsCancelledLeavesNothingBehind(t *testing.T) {
	t.Setenv("TMPDIR", openTempDir(t))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := pgtest.Start(ctx, pgtest.Config{})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "pgtest-*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

// openTempDir is t.TempDir that every user can enter.
func openTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "open-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o777))
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestAServerThatCannotStartShowsItsLog(t *testing.T) {
	_, err := pgtest.Start(t.Context(), pgtest.Config{Settings: map[string]string{"no_such_setting": "1"}})
	require.ErrorContains(t, err, "no_such_setting")
}

func TestAPortThatIsTakenIsAnError(t *testing.T) {
	first := pgtest.StartTB(t, pgtest.Config{})
	_, err := pgtest.Start(t.Context(), pgtest.Config{Port: first.Port()})
	require.ErrorContains(t, err, "could not bind")
}

func TestAServerStartsWhereTheTemporaryDirectoryIsClosedToOthersOrLong(t *testing.T) {
	closed := filepath.Join(t.TempDir(), strings.Repeat("long", 20))
	require.NoError(t, os.MkdirAll(closed, 0o700))
	t.Setenv("TMPDIR", closed)
	server := pgtest.StartTB(t, pgtest.Config{})
	assert.Equal(t, "1", query(t, server.SocketDSN(""), "select 1::text"))
	require.NoError(t, server.Stop(t.Context()))
	assert.NoDirExists(t, server.SocketDir())
}

func tryConnect(t *testing.T, dsn string) (*pgx.Conn, error) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	return conn, err
}

// countedNetwork is this process's own network. It counts what is started in it.
type countedNetwork struct{ started atomic.Int32 }

func (n *countedNetwork) Do(start func() error) error {
	n.started.Add(1)
	return start()
}

func TestAServerIsStartedInItsNetworkAndListensAtItsAddressWhereStandbysFindIt(t *testing.T) {
	var network countedNetwork
	port, err := loopback.FreePort()
	require.NoError(t, err)
	primary := pgtest.StartTB(t, pgtest.Config{Address: "127.0.0.2", Port: port, Network: &network})
	assert.Contains(t, primary.DSN(""), "@127.0.0.2:")
	assert.Equal(t, "127.0.0.2", query(t, primary.DSN(""), "select host(inet_server_addr())"))
	require.NoError(t, primary.Restart(t.Context(), pgtest.Fast))
	assert.EqualValues(t, 2, network.started.Load(), "each time that it starts")

	standby := pgtest.StartTB(t, pgtest.Config{StandbyOf: primary})
	require.NoError(t, standby.CatchUp(t.Context()))
	assert.Equal(t, "127.0.0.2", query(t, standby.DSN(""), "select sender_host from pg_stat_wal_receiver"))
}
