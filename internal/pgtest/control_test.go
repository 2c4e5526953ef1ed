package pgtest_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

func TestRestartKeepsPortAndData(t *testing.T) {
	server := pgtest.StartTB(t, pgtest.Config{})
	require.NoError(t, server.Exec(t.Context(), "create table kept as select 42 as x"))
	for _, mode := range []pgtest.Mode{pgtest.Fast, pgtest.Immediate, pgtest.Smart} {
		begin := time.Now()
		require.NoError(t, server.Restart(t.Context(), mode))
		t.Logf("%s restart took %v", mode, time.Since(begin))
		assert.Equal(t, "42", query(t, server.DSN(""), "select x::text from kept"))
		require.NoError(t, server.TerminateAll(t.Context()))
	}
	require.ErrorContains(t, server.Restart(t.Context(), "gentle"), "smart, fast, immediate")
}

func TestAServerIsDownBetweenShutdownAndResume(t *testing.T) {
	server := pgtest.StartTB(t, pgtest.Config{})
	require.ErrorContains(t, server.Resume(t.Context()), "running")
	require.NoError(t, server.Shutdown(t.Context(), pgtest.Fast))
	require.NoError(t, server.Shutdown(t.Context(), pgtest.Fast), "Shutdown twice")
	assert.False(t, server.Running())
	_, err := server.Admin(t.Context())
	require.Error(t, err)
	require.NoError(t, server.Resume(t.Context()))
	assert.Equal(t, "1", query(t, server.DSN(""), "select 1::text"))
}

func TestStopEndsAShutdownThatWaitsForAClient(t *testing.T) {
	server := pgtest.StartTB(t, pgtest.Config{})
	conn := connect(t, server.DSN(""))
	result := make(chan error)
	go func() { result <- server.Shutdown(context.Background(), pgtest.Smart) }() // ended by Stop
	pgtest.Eventually(t, 5*time.Second, func() bool {
		_, err := server.Admin(t.Context())
		return err != nil
	}, "the server begins to shut down")
	require.NoError(t, conn.Ping(t.Context()))
	stopped := make(chan error)
	go func() { stopped <- server.Stop(context.Background()) }() // ends by itself
	require.ErrorIs(t, <-result, pgtest.ErrStopped)
	require.NoError(t, <-stopped)
}

func TestACrashedServerRecoversOnResume(t *testing.T) {
	server := pgtest.StartTB(t, pgtest.Config{})
	conn := connect(t, server.DSN(""))
	require.NoError(t, server.Exec(t.Context(), "set synchronous_commit = on; create table kept as select 42 as x"))
	require.NoError(t, server.Crash())
	require.Error(t, conn.Ping(t.Context()))
	require.NoError(t, server.Resume(t.Context()))
	assert.Equal(t, "42", query(t, server.DSN(""), "select x::text from kept"))
	require.NoError(t, server.Crash())
	require.NoError(t, server.Crash(), "Crash twice")
}

func TestAFrozenServerAcceptsAndDoesNotAnswerUntilThawed(t *testing.T) {
	server := pgtest.StartTB(t, pgtest.Config{})
	conn := connect(t, server.DSN(""))
	require.NoError(t, server.Freeze())
	answer := make(chan error)
	go func() { answer <- conn.Ping(context.Background()) }() // ended by Thaw
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := server.Admin(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	select {
	case err := <-answer:
		t.Errorf("a frozen server answered: %v", err)
	default:
	}
	require.NoError(t, server.Thaw())
	require.NoError(t, <-answer)
}

func TestOneFrozenBackendLeavesTheOthersAlone(t *testing.T) {
	server := pgtest.StartTB(t, pgtest.Config{})
	frozen, other := connect(t, server.DSN("")), connect(t, server.DSN(""))
	require.NoError(t, server.FreezeBackend(frozen.PgConn().PID()))
	answer := make(chan error)
	go func() { answer <- frozen.Ping(context.Background()) }() // ended by ThawBackend
	require.NoError(t, other.Ping(t.Context()))
	select {
	case err := <-answer:
		t.Errorf("a frozen backend answered: %v", err)
	default:
	}
	require.NoError(t, server.ThawBackend(frozen.PgConn().PID()))
	require.NoError(t, <-answer)
	require.ErrorContains(t, server.FreezeBackend(1), "no process 1")
}

func TestTerminateEndsTheBackendsNamedAndNoOther(t *testing.T) {
	server := pgtest.StartTB(t, pgtest.Config{})
	victim, other := connect(t, server.DSN("")), connect(t, server.DSN("")+"&application_name=other")
	backends, err := server.Backends(t.Context(), "postgres")
	require.NoError(t, err)
	require.Len(t, backends, 2)

	require.NoError(t, server.Terminate(t.Context(), victim.PgConn().PID()))
	require.Error(t, victim.Ping(t.Context()))
	require.NoError(t, other.Ping(t.Context()))

	backends, err = server.Backends(t.Context(), "other")
	require.NoError(t, err)
	require.Len(t, backends, 1)
	assert.Equal(t, other.PgConn().PID(), backends[0].PID)
	assert.Equal(t, "idle", backends[0].State)

	require.NoError(t, server.TerminateAll(t.Context()))
	backends, err = server.Backends(t.Context())
	require.NoError(t, err)
	assert.Empty(t, backends)
}

func TestAPasswordIsAskedForAndCanBeRotated(t *testing.T) {
	server := pgtest.StartTB(t, pgtest.Config{Password: "it's secret"})
	old := server.DSN("")
	assert.Equal(t, "1", query(t, old, "select 1::text"))
	assert.Equal(t, "1", query(t, server.SocketDSN(""), "select 1::text"))
	require.NoError(t, server.SetPassword(t.Context(), `other/?:@%`))
	assert.Equal(t, "1", query(t, server.DSN(""), "select 1::text"))
	_, err := tryConnect(t, old)
	require.ErrorContains(t, err, "28P01")
}

func TestHBACannotLockTheAdminOut(t *testing.T) {
	server := pgtest.StartTB(t, pgtest.Config{HBA: []string{"local all all reject", "host all all all reject"}})
	_, err := tryConnect(t, server.DSN(""))
	require.ErrorContains(t, err, "28000")
	require.NoError(t, server.Exec(t.Context(), "select 1"))
}
