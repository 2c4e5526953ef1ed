package faulttest

import (
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// threeServers are a primary and two standbys of it.
func threeServers(t *testing.T) (primary, first, second *pgtest.Server) {
	t.Helper()
	primary, first = twoServers(t, nil)
	second = pgtest.StartTB(t, pgtest.Config{
		StandbyOf: primary, Settings: map[string]string{"wal_retrieve_retry_interval": "50ms"},
	})
	require.NoError(t, second.CatchUp(t.Context()))
	return primary, first, second
}

// runs is how often a failover is made: once, or as often as PGPROD_FAILOVERS says, for figures.
func runs() int {
	n, _ := strconv.Atoi(os.Getenv("PGPROD_FAILOVERS"))
	return max(1, n)
}

// percentiles returns the middle one and the 99th of a hundred durations, and the longest.
func percentiles(all []time.Duration) (p50, p99, longest time.Duration) {
	slices.Sort(all)
	return all[len(all)/2], all[(len(all)*99-1)/100], all[len(all)-1]
}

// TestWritesGoOnSoonAfterThePromotionOfOneOfThree has the primary of three servers go, and one of the standbys promoted. With
// PGPROD_FAILOVERS=50 it has the figures of the manual.
func TestWritesGoOnSoonAfterThePromotionOfOneOfThree(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(context.Context, *pgtest.Server) error{
		"switchover": func(ctx context.Context, s *pgtest.Server) error { return s.Shutdown(ctx, pgtest.Fast) },
		"crash":      func(_ context.Context, s *pgtest.Server) error { return s.Crash() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var took []time.Duration
			for range runs() {
				t.Run("", func(t *testing.T) { took = append(took, failOver(t, name == "switchover", end)) })
			}
			p50, p99, longest := percentiles(took)
			t.Logf("%s: from the promotion to the next write, %d runs: p50 %v, p99 %v, at most %v", name, len(took),
				p50.Round(time.Millisecond), p99.Round(time.Millisecond), longest.Round(time.Millisecond))
		})
	}
}

// failOver returns how long it took from the promotion, when the server says that it isn't in recovery any more, to the next
// row. planned: nobody may get an error.
func failOver(t *testing.T, planned bool, end func(context.Context, *pgtest.Server) error) time.Duration {
	primary, other, next := threeServers(t)
	c := newClient(t, hostsDSN("read-write", primary, other, next))
	load := startWriters(t, 8, c.DB)
	load.advance(t, 20)
	require.NoError(t, end(t.Context(), primary))
	done := make(chan error, 1)
	go func() { done <- next.Promote(t.Context()) }() // ends within a minute
	leads := awaitLead(t, next)
	took := load.awaitWrite(t).Sub(leads)
	require.NoError(t, <-done)
	load.advance(t, 20)
	load.finish()
	t.Logf("%v, %d errors", took.Round(time.Millisecond), len(load.failures()))
	if planned {
		assert.Empty(t, load.failures())
	}
	load.requireAtMost(t, 1)
	assert.Equal(t, next.Port(), c.count("select inet_server_port()"))
	return took
}

// awaitWrite returns when one more row was acknowledged.
func (w *writers) awaitWrite(t *testing.T) (at time.Time) {
	acked := func() int { w.mu.Lock(); defer w.mu.Unlock(); return len(w.acked) }
	before := acked()
	return awaitBriefly(t, func() bool { return acked() > before })
}

// awaitLead returns when a standby has become a primary.
func awaitLead(t *testing.T, s *pgtest.Server) (at time.Time) {
	conn, err := s.Admin(t.Context())
	if !assert.NoError(t, err) {
		return at
	}
	defer func() { _ = conn.Close(context.Background()) }()
	return awaitBriefly(t, func() (leads bool) {
		return conn.QueryRow(t.Context(), "select not pg_is_in_recovery()").Scan(&leads) == nil && leads
	})
}

// awaitBriefly returns when something was found to be so, which it looks for very often.
func awaitBriefly(t *testing.T, so func() bool) time.Time {
	for deadline := time.Now().Add(patience); !so(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Error("it did not come about")
			break
		}
	}
	return time.Now()
}

// host returns what Status says of one of the hosts.
func (c client) host(i int) pgprod.HostStatus {
	c.t.Helper()
	return c.status().Hosts[i]
}

func TestAHostThatComesBackIsFoundInTheBackground(t *testing.T) {
	t.Parallel()
	primary, standby := twoServers(t, nil)
	require.NoError(t, primary.Shutdown(t.Context(), pgtest.Fast))
	c := newClient(t, hostsDSN("any", primary, standby))
	require.Equal(t, standby.Port(), c.count("select inet_server_port()"))
	pgtest.Eventually(t, patience, func() bool { return c.host(0).State == "down" })

	require.NoError(t, primary.Resume(t.Context()))
	pgtest.Eventually(t, patience, func() bool { return c.host(0).State == "up" && c.host(0).Role == "primary" })
	assert.Equal(t, "standby", c.host(1).Role)
	assert.Equal(t, int64(0), c.status().FailedConnects)
}

func TestAPromotionIsKnownFromAConnectionOrFromTheScout(t *testing.T) {
	t.Parallel()
	for _, wanted := range []string{"standby", "read-write"} { // there are connections to the standby, or there are none
		t.Run(wanted, func(t *testing.T) {
			t.Parallel()
			primary, standby := twoServers(t, nil)
			c := newClient(t, hostsDSN(wanted, primary, standby))
			fill(t, c.DB, 2)
			pgtest.Eventually(t, patience, func() bool { return c.host(0).Role == "primary" && c.host(1).Role == "standby" })
			require.NoError(t, standby.Promote(t.Context()))
			pgtest.Eventually(t, patience, func() bool {
				c.count("select 1")
				return c.host(1).Role == "primary"
			})
		})
	}
}

func TestAPrimaryThatWasNotToldOfAPromotionIsNotWrittenToAnyMore(t *testing.T) {
	t.Parallel()
	old, promoted := twoServers(t, nil)
	c := newClient(t, with(hostsDSN("read-write", old, promoted), "pool_timeout", "2s"))
	load := startWriters(t, 8, c.DB)
	load.advance(t, 20)
	require.NoError(t, promoted.Promote(t.Context()))
	pgtest.Eventually(t, patience, func() bool { return c.host(0).Role == "deposed" })
	load.advance(t, 1) // what was under way is over
	load.advance(t, 20)
	load.finish()
	assert.Empty(t, load.failures())
	for range 20 {
		assert.Equal(t, promoted.Port(), c.count("select inet_server_port()"))
	}

	require.NoError(t, promoted.Shutdown(t.Context(), pgtest.Fast))
	_, err := c.Exec("insert into writes values (-1)")
	require.ErrorIs(t, err, pgprod.ErrPoolTimeout, "better nowhere than where it is lost")
	require.NoError(t, promoted.Resume(t.Context()))
	c.do("insert into writes values (-1)")
	assert.Equal(t, promoted.Port(), c.count("select inet_server_port()"))
}

func TestAPoolWhoseHostsAreBeingAskedMayBeClosedAtAnyMoment(t *testing.T) {
	t.Parallel()
	primary, standby := twoServers(t, nil)
	require.NoError(t, standby.Shutdown(t.Context(), pgtest.Fast))
	for range 30 {
		db, err := pgprod.Open(hostsDSN("read-write", standby, primary), quiet)
		require.NoError(t, err)
		exec(t, db, "select 1")
		if pids := fill(t, db, 2); rand.N(2) == 0 {
			require.NoError(t, primary.Terminate(t.Context(), pids...)) // so that all are asked at once
			_ = db.Ping()
		}
		time.Sleep(rand.N(20 * time.Millisecond))
		require.NoError(t, db.Close()) // the end of all tests looks for goroutines
	}
	pgtest.Eventually(t, patience, func() bool {
		left, err := primary.Backends(t.Context())
		return err == nil && len(left) == 0
	})
}
