//go:build linux

package lab

import (
	"context"
	"database/sql"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/lab/netlab"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// A host that has rebooted answers whoever asks it, but says nothing to who waits for a reply on a connection that it has forgotten.
// Only the kernel's keep-alive finds out.
func TestAStatementThatWaitsForAHostThatHasForgottenItEndsByKeepAliveWithoutALimit(t *testing.T) {
	together(t)
	c := newCluster(t, setup{})
	db := newPool(t, c.dsn()+"&application_name=forgotten", pgprod.WithCommandTimeout(0))
	defer func() { assert.NoError(t, db.Close()) }()
	waiting := make(chan error, 1)
	go func() { // ends when the connection is lost
		_, err := db.ExecContext(t.Context(), "select pg_sleep(3600)")
		waiting <- err
	}()
	pgtest.Eventually(t, patience, func() bool {
		backends, err := c.servers[0].Backends(t.Context(), "forgotten")
		return err == nil && len(backends) == 1 && backends[0].State == "active"
	})
	time.Sleep(100 * time.Millisecond) // until the kernel has acknowledged what was sent
	reboot(t, c)
	begin := time.Now()
	select {
	case err := <-waiting:
		require.Error(t, err)
		t.Logf("after %v: %v", time.Since(begin).Round(time.Millisecond), err)
		assert.ErrorContains(t, err, "whether it ran is unknown")
	case <-time.After(2 * patience):
		t.Fatal("the statement waits for ever")
	}
	require.NoError(t, db.PingContext(t.Context()))
}

// A firewall that has forgotten a connection lets none of its packets through, and all those of others, so that the host answers the
// question whether it is alive. A statement that is sent there is never acknowledged: without a limit the kernel would go on sending for a
// quarter of an hour. One that was sent before waits for a reply, and the kernel's keep-alive finds out.
func TestAConnectionThatAFirewallHasForgottenEndsAlone(t *testing.T) {
	together(t)
	c := newCluster(t, setup{})
	db := newPool(t, c.dsn()+"&application_name=forgotten", pgprod.WithCommandTimeout(0))
	defer func() { assert.NoError(t, db.Close()) }()
	sound, next, before := lend(t, db), lend(t, db), lend(t, db)
	same := pid(t, sound)
	ports := []int{port(t, next), port(t, before)}
	waited := inBackground(t, before, "select pg_sleep(3600)")
	pgtest.Eventually(t, patience, func() bool {
		backends, err := c.servers[0].Backends(t.Context(), "forgotten")
		return err == nil && slices.ContainsFunc(backends, func(b pgtest.Backend) bool { return b.State == "active" })
	})
	time.Sleep(100 * time.Millisecond) // until the kernel has acknowledged what was sent
	c.set(t, 0, netlab.Wire{Forgotten: ports})
	sent := inBackground(t, next, "select 1")
	ends := func(how <-chan error, text string) {
		err := <-how
		require.ErrorContains(t, err, text)
		assert.ErrorContains(t, err, "whether it ran is unknown")
		assert.NotErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, same, pid(t, sound), "the other connection stays")
	}
	ends(sent, "answers, but nothing of what was sent on this connection has been acknowledged for")
	if status, err := pgprod.Status(db); assert.NoError(t, err) && len(waited) == 0 {
		assert.Equal(t, "up", status.Hosts[0].State)
	}
	ends(waited, "the system has given the connection up, because nothing that was sent on it was acknowledged, nor keep-alive")
}

// inBackground runs a statement, and says how it has ended.
func inBackground(t *testing.T, conn *sql.Conn, sql string) <-chan error {
	ended, begin := make(chan error, 1), time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	go func() { // ends with the statement
		defer cancel()
		_, err := conn.ExecContext(ctx, sql)
		t.Logf("%s has ended after %v: %v", sql, time.Since(begin).Round(time.Millisecond), err)
		ended <- err
	}()
	return ended
}

// port is the client's port of a connection.
func port(t *testing.T, conn *sql.Conn) (port int) {
	t.Helper()
	require.NoError(t, conn.QueryRowContext(t.Context(), "select inet_client_port()").Scan(&port))
	return port
}

// lend takes a connection until the end of the test.
func lend(t *testing.T, db *sql.DB) *sql.Conn {
	t.Helper()
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	require.NoError(t, conn.PingContext(t.Context()))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// pid is the server's process that serves a connection.
func pid(t *testing.T, conn *sql.Conn) (pid int) {
	t.Helper()
	require.NoError(t, conn.QueryRowContext(t.Context(), "select pg_backend_pid()").Scan(&pid))
	return pid
}
