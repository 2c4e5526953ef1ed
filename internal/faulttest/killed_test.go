package faulttest

import (
	"context"
	"database/sql"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// idleTimes are below and above what pre-ping auto takes for proof.
var idleTimes = map[string]time.Duration{"idle 0s": 0, "idle over 1s": 1100 * time.Millisecond}

// startStatements has many callers start statements of all kinds at once, none of which may fail, and returns how many
// rows they inserted into runs.
func startStatements(t *testing.T, db *sql.DB) (rows int) {
	t.Helper()
	const callers = 40
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for _, o := range ops {
				assert.NoError(t, o.run(db), o.name)
			}
			assert.NoError(t, db.Ping())
		})
	}
	wg.Wait()
	return callers * len(ops)
}

// accounted checks that every connection that was ever made is in the pool or was closed once. A dial whose session was killed
// before the pool had it counts as failed.
func accounted(t *testing.T, db *sql.DB, proxy *faultproxy.Proxy) {
	t.Helper()
	pgtest.Eventually(t, patience, func() bool {
		s, stats := statusOf(t, db), proxy.Stats()
		made := s.CheckedIn + closedSoFar(t, db)
		return s.Connecting == 0 && s.CheckedOut == 0 && stats.Open == s.CheckedIn &&
			stats.Startups >= made && stats.Startups <= made+int(s.FailedConnects)
	})
}

// awaitEnds waits until the proxy has passed on that the server closed all connections but some.
func awaitEnds(t *testing.T, proxy *faultproxy.Proxy, but int) {
	t.Helper()
	pgtest.Eventually(t, patience, func() bool { return proxy.Stats().Open == but }, "a connection goes on")
}

// assertAllClosed checks that n connections were closed as invalid. Those of the overflow may be as well, though they are
// alive: where their dials began before the first loss was seen they count as old.
func assertAllClosed(t *testing.T, db *sql.DB, n int) {
	t.Helper()
	s := statusOf(t, db)
	assert.GreaterOrEqual(t, s.Closed["invalid"], int64(n))
	assert.LessOrEqual(t, s.Closed["invalid"], int64(n+s.MaxOverflow))
}

func TestKilledIdleConnectionsReachNobody(t *testing.T) {
	t.Parallel()
	for _, prePing := range []string{"auto", "always"} {
		for name, idle := range idleTimes {
			t.Run(prePing+" "+name, func(t *testing.T) {
				t.Parallel()
				dsn, proxy := runsDatabase(t)
				db := openPool(t, with(proxy.DSN(), "pool_pre_ping", prePing))
				pids := fill(t, db, 20)
				<-time.After(idle) // the time itself is what matters
				require.NoError(t, pgtest.Shared(t).Terminate(t.Context(), pids...))
				awaitEnds(t, proxy, 0)
				rows := startStatements(t, db)
				assert.Equal(t, rows, get[int](t, db, "select count(*) from runs"))
				assertAllClosed(t, db, 20)
				accounted(t, db, proxy)

				// The whole program's connections at once, this time in the midst of a first statement each.
				fill(t, db, 20)
				require.NoError(t, pgtest.Shared(t).TerminateAll(t.Context(), pgtest.DatabaseName(dsn)))
				awaitEnds(t, proxy, 0)
				rows += startStatements(t, db)
				assert.Equal(t, rows, get[int](t, db, "select count(*) from runs"))
				accounted(t, db, proxy)
			})
		}
	}
}

// TestKilledIdleConnectionsReachNobodyWhileOthersAreBusy kills the idle ones only: those that are busy go on.
func TestKilledIdleConnectionsReachNobodyWhileOthersAreBusy(t *testing.T) {
	t.Parallel()
	for name, idle := range idleTimes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, proxy := runsDatabase(t)
			db := openPool(t, with(proxy.DSN(), "max_overflow", "0"))
			idlePIDs := fill(t, db, 20)

			// Eight transactions stay busy throughout, on connections that are taken off the list.
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var wg sync.WaitGroup
			var statements atomic.Int64
			for range 8 {
				tx, err := db.Begin()
				require.NoError(t, err)
				pid := get[uint32](t, tx, "select pg_backend_pid()")
				idlePIDs = without(idlePIDs, pid)
				wg.Go(func() {
					for ctx.Err() == nil {
						_, err := tx.Exec(insertLiteral)
						assert.NoError(t, err, "nobody killed this one")
						statements.Add(1)
					}
					assert.NoError(t, tx.Commit())
				})
			}
			require.Len(t, idlePIDs, 12)
			<-time.After(idle) // the time itself is what matters
			require.NoError(t, pgtest.Shared(t).Terminate(t.Context(), idlePIDs...))
			awaitEnds(t, proxy, 8)
			rows := startStatements(t, db)
			before := statements.Load()
			pgtest.Eventually(t, patience, func() bool { return statements.Load() > before+8 })
			stop()
			wg.Wait()
			assert.Equal(t, rows+int(statements.Load()), get[int](t, db, "select count(*) from runs"))
			assertAllClosed(t, db, 20) // the busy ones were as old, and are closed after use
			accounted(t, db, proxy)
		})
	}
}

func without(pids []uint32, pid uint32) (rest []uint32) {
	for _, p := range pids {
		if p != pid {
			rest = append(rest, p)
		}
	}
	return rest
}

// TestAllConnectionsKilledUnderLoadCostOnlyWhatWasInFlight kills idle and busy ones alike, again and again.
func TestAllConnectionsKilledUnderLoadCostOnlyWhatWasInFlight(t *testing.T) {
	t.Parallel()
	const rounds, name = 5, "killed-under-load"
	server := pgtest.Shared(t)
	dsn := workDatabase(t, server) // and no proxy: what the server sends must be here when Terminate returns
	l := startLoad(t, openPool(t, with(dsn, "application_name", name)))
	var kills []span
	for range rounds {
		require.True(t, l.goesOn(10, patience))
		began := time.Now()
		require.NoError(t, server.TerminateAll(t.Context(), name))
		kills = append(kills, span{began, time.Now()})
	}
	require.True(t, l.goesOn(10, patience))
	l.end()

	failed, most := l.failures()
	for _, f := range failed {
		requireHonest(t, f.err)
		assert.True(t, duringAny(kills, f.span), "it began after the kill: %v", f.err)
	}
	assert.LessOrEqual(t, most, rounds, "one at most of each worker for each kill")
	t.Logf("%d statements, %d rounds of killing, %d errors", len(l.successes()), rounds, len(failed))
	doubled, lost := l.countRows(t, openPgx(t, dsn))
	assert.Zero(t, doubled, "rows that are there twice")
	assert.Zero(t, lost, "rows that were acknowledged and are not there")
}

// duringAny reports whether s overlaps with one of spans.
func duringAny(spans []span, s span) bool {
	for _, other := range spans {
		if s.from.Before(other.to) && s.to.After(other.from) {
			return true
		}
	}
	return false
}
