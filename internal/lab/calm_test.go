//go:build linux

package lab

import (
	"context"
	"database/sql"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/lab/netlab"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// A watched is a pool that may not lose a connection.
type watched struct {
	db   *sql.DB
	crew *crew
}

// watch lets a crew work on a pool, all of whose connections stay.
func watch(t *testing.T, dsn string, opts ...pgprod.Option) watched {
	t.Helper()
	db := newPool(t, dsn, opts...)
	calm := ourselves
	calm.open = func(*testing.T, string) opened { return opened{call: insertBy(db), close: closing(t, db)} }
	w := watched{db: db, crew: startCrew(t, calm, "")}
	w.crew.warm(t)
	return w
}

// check asserts that nothing was cut and nothing has failed, and ends the crew. Sessions that were stopped while they were idle, and
// don't answer a ping, may have been replaced: that many at most.
func (w watched) check(t *testing.T, c *cluster, stopped int) {
	t.Helper()
	status, err := pgprod.Status(w.db)
	require.NoError(t, err)
	closed := maps.Clone(status.Closed)
	if closed["invalid"] <= int64(stopped) {
		delete(closed, "invalid")
	}
	maps.DeleteFunc(closed, func(why string, n int64) bool {
		return n == 0 || why == "idle" || why == "overflow" || why == "lifetime"
	})
	assert.Empty(t, closed, "connections that were closed, by reason")
	assert.Zero(t, w.crew.leave(patience), "calls under way")
	v := judge(w.crew.done(time.Time{}), c.rows(t, 0))
	t.Logf("%+v; closed: %v", v, status.Closed)
	v.check(t)
	assert.Zero(t, v.errors, "%v", w.crew.errors())
}

func TestABadNetworkCutsNobody(t *testing.T) {
	c := newCluster(t, setup{slow: true})
	w := watch(t, c.dsn())
	for name, wire := range map[string]netlab.Wire{
		"1 % are lost":             {Lost: 10},
		"5 % are lost":             {Lost: 50},
		"5 % come twice":           {Doubled: 50},
		"50 ms late, 20 ms uneven": {Delay: 50 * time.Millisecond, Jitter: 20 * time.Millisecond},
		"all of it":                {Delay: 50 * time.Millisecond, Jitter: 20 * time.Millisecond, Lost: 50, Doubled: 50},
	} {
		c.set(t, 0, wire)
		begin := time.Now()
		time.Sleep(min(*calm/2, time.Minute)) // the time itself is the test: nothing may happen in it
		took := longest(w.crew.done(begin))
		assert.True(t, w.crew.await(patience, begin, succeeded(begin)), "%s: everybody works", name)
		t.Logf("%s: the longest of %d calls took %v", name, len(w.crew.done(begin)), took.Round(time.Millisecond))
	}
	c.set(t, 0, netlab.Wire{})
	w.check(t, c, 0)
}

// longest is how long the longest call took.
func longest(deeds []deed) (d time.Duration) {
	for _, one := range deeds {
		d = max(d, one.ended.Sub(one.began))
	}
	return d
}

func TestABusyServerWithStoppedBackendsCutsNobody(t *testing.T) {
	c := newCluster(t, setup{})
	primary := c.servers[0]
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	defer load.Wait()
	defer cancel()
	pgbench(ctx, t, &load, c)

	w := watch(t, c.dsn()+"&application_name=watched")
	alone := newPool(t, c.dsn()+"&application_name=alone")
	defer func() { assert.NoError(t, alone.Close()) }()
	stopped := 0
	for end := time.Now().Add(*calm); time.Now().Before(end); {
		stopped += stopBackends(t, primary, alone)
	}
	w.check(t, c, stopped)
}

// stopBackends stops several backends for many times dead_after: one while it runs a statement, of whose connection nobody else
// hears. It returns how many of the others it has stopped.
func stopBackends(t *testing.T, s *pgtest.Server, alone *sql.DB) (others int) {
	t.Helper()
	answer := make(chan error, 1)
	go func() { // ends when the backend goes on
		_, err := alone.ExecContext(t.Context(), "select pg_sleep(1)")
		answer <- err
	}()
	var running []uint32
	pgtest.Eventually(t, patience, func() bool {
		running = backendsOf(t, s, "alone", "active")
		return len(running) == 1
	})
	stopped := backendsOf(t, s, "watched", "active", "idle")
	stopped = append(stopped[:min(3, len(stopped))], running...)
	for _, pid := range stopped {
		require.NoError(t, s.FreezeBackend(pid))
	}
	time.Sleep(min(*calm, 8*time.Second)) // the time itself is the test: nothing may happen in it
	for _, pid := range stopped {
		require.NoError(t, s.ThawBackend(pid))
	}
	require.NoError(t, <-answer)
	return len(stopped) - len(running)
}

// backendsOf returns the backends of an application that are in one of these states.
func backendsOf(t *testing.T, s *pgtest.Server, application string, states ...string) (pids []uint32) {
	t.Helper()
	backends, err := s.Backends(t.Context(), application)
	require.NoError(t, err)
	for _, b := range backends {
		if slices.Contains(states, b.State) {
			pids = append(pids, b.PID)
		}
	}
	return pids
}

// pgbench lets PostgreSQL's own program take all that the machine has, until ctx ends.
func pgbench(ctx context.Context, t *testing.T, running *sync.WaitGroup, c *cluster) {
	t.Helper()
	bin, err := pgtest.Locate()
	require.NoError(t, err)
	at := []string{"-h", c.hosts[0].Address(), "-p", "5432", "-U", "postgres"}
	program := filepath.Join(bin, "pgbench")
	out, err := exec.Command(program, append(at, "-i", "-q", "-s", "2", "postgres")...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	running.Go(func() { // ends with ctx
		load := append(at, "-c", "16", "-j", "2", "-T", "86400", "postgres")
		out, err := exec.CommandContext(ctx, program, load...).CombinedOutput()
		if ctx.Err() == nil {
			t.Errorf("pgbench has ended: %v: %s", err, out)
		}
	})
}
