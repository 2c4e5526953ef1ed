package faulttest

import (
	"context"
	"database/sql"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// isSilent checks the error of what a silent host has cost.
func isSilent(t *testing.T, err error) {
	t.Helper()
	requireHonest(t, err)
	assert.NotErrorIs(t, err, context.DeadlineExceeded)
	assert.NotErrorIs(t, err, context.Canceled)
	assert.ErrorContains(t, err, "is silent: nothing has come for")
}

// swallow has a proxy swallow all that comes, until the end of the test.
func swallow(t *testing.T, proxy *faultproxy.Proxy) {
	hole := func(on bool) {
		proxy.BlackHole(faultproxy.ToClient, on)
		proxy.BlackHole(faultproxy.ToServer, on)
	}
	hole(true)
	t.Cleanup(func() {
		hole(false)
		for _, c := range proxy.Conns() {
			c.Close(faultproxy.RST) // the black hole hid from the server that the clients left
		}
	})
}

func TestWhatWaitsForASilentHostIsCut(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]string{"with command_timeout": "60s", "without": "0"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, proxy := runsDatabase(t)
			db := openPool(t, with(proxy.DSN(), "command_timeout", limit, "pool_timeout", "60s", "connect_timeout", "60s"))
			fill(t, db, 10)
			all, leave := onePerConnection(t, db)
			swallow(t, proxy)
			for i := range all {
				all[i].limit, all[i].check = 2200*time.Millisecond, isSilent
				switch all[i].name {
				case "Commit":
					all[i].check = func(t *testing.T, err error) {
						isSilent(t, err)
						assert.ErrorIs(t, err, pgprod.ErrCommitUnknown)
					}
				case "Tx.Exec", "Tx.Query":
					all[i].check = func(t *testing.T, err error) {
						isSilent(t, err)
						assert.ErrorContains(t, err, "the transaction is rolled back")
					}
				}
			}
			runAll(t, all)
			leave()
		})
	}
}

func TestAListenerIsNoReasonToAskItsHost(t *testing.T) {
	t.Parallel()
	_, proxy := runsDatabase(t)
	db := openPool(t, with(proxy.DSN(), "dead_after", "100ms"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	began := proxy.Stats().TLSRequests
	err := pgprod.Raw(t.Context(), db, func(c *pgx.Conn) error {
		began = proxy.Stats().TLSRequests
		swallow(t, proxy) // of which it can't know
		_, err := c.WaitForNotification(ctx)
		return err
	})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Equal(t, began, proxy.Stats().TLSRequests)
}

func TestWithoutDeadAfterNobodyIsAsked(t *testing.T) {
	t.Parallel()
	_, proxy := runsDatabase(t)
	db := openPool(t, with(proxy.DSN(), "dead_after", "0", "command_timeout", "3s"))
	fill(t, db, 1)
	asked := proxy.Stats().TLSRequests
	swallow(t, proxy)
	_, err := db.Exec(insertLiteral)
	isCut(t, err)
	assert.Equal(t, asked, proxy.Stats().TLSRequests)
}

// TestAFrozenServerIsSilent: its kernel accepts connections, and nobody says anything.
func TestAFrozenServerIsSilent(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	for network, dsn := range map[string]string{"tcp": server.DSN(""), "unix": server.SocketDSN("")} {
		db := openPool(t, with(dsn, "command_timeout", "0", "pool_pre_ping", "always", "connect_timeout", "60s", "pool_timeout", "60s"))
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		require.NoError(t, conn.PingContext(t.Context()))
		fill(t, db, 3)
		require.NoError(t, server.Freeze())
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { // pings a connection, which is cut, and waits for another
			_, err := db.ExecContext(ctx, "select 1")
			assert.ErrorIs(t, err, context.Canceled)
		})
		began := time.Now()
		_, err = conn.ExecContext(t.Context(), "select 1")
		t.Logf("%s: %v: %v", network, time.Since(began).Round(time.Millisecond), err)
		isSilent(t, err)
		require.NoError(t, conn.Close())
		pgtest.Eventually(t, patience, func() bool { return statusOf(t, db).Closed["invalid"] >= 4 }, "the idle ones too")
		cancel()
		all.Wait()
		require.NoError(t, server.Thaw())
		pgtest.Eventually(t, patience, func() bool { return db.Ping() == nil })
	}
}

// TestABusyServerIsNeverTakenForASilentOne lets nothing come from a server for several times dead_after while something waits.
func TestABusyServerIsNeverTakenForASilentOne(t *testing.T) {
	t.Parallel()
	const seconds = "3.5"
	pause := 3500 * time.Millisecond
	server := pgtest.StartTB(t, pgtest.Config{Settings: map[string]string{"log_connections": "on"}})
	exec(t, openPgx(t, server.DSN("")), "create table runs (id serial, note text)")
	exec(t, openPgx(t, server.DSN("")), `create function slow() returns trigger language plpgsql as
		$$ begin if new.note = 'first' then perform pg_sleep(`+seconds+`); end if; return new; end $$`)
	exec(t, openPgx(t, server.DSN("")), "create trigger slow before insert on runs for each row execute function slow()")
	frozen := func(t *testing.T, db *sql.DB, meanwhile func()) {
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		pid := get[uint32](t, conn, "select pg_backend_pid()")
		require.NoError(t, server.FreezeBackend(pid))
		var all sync.WaitGroup
		all.Go(func() {
			_, err := conn.ExecContext(t.Context(), "select 1")
			assert.NoError(t, err)
		})
		for began := time.Now(); time.Since(began) < pause; {
			meanwhile()
			<-time.After(10 * time.Millisecond)
		}
		require.NoError(t, server.ThawBackend(pid))
		all.Wait()
	}
	copyIn := func(t *testing.T, db *sql.DB, next func(n int) []any) {
		require.NoError(t, pgprod.Raw(t.Context(), db, func(c *pgx.Conn) error {
			n := 0
			_, err := c.CopyFrom(t.Context(), pgx.Identifier{"runs"}, []string{"note"}, pgx.CopyFromFunc(func() ([]any, error) {
				n++
				return next(n), nil
			}))
			return err
		}))
	}
	for name, run := range map[string]func(t *testing.T, db *sql.DB){
		"a long statement":          func(t *testing.T, db *sql.DB) { exec(t, db, "select pg_sleep("+seconds+")") },
		"a stopped backend, alone":  func(t *testing.T, db *sql.DB) { frozen(t, db, func() {}) },
		"a stopped backend, others": func(t *testing.T, db *sql.DB) { frozen(t, db, func() { exec(t, db, "select 1") }) },
		"a reader who pauses": func(t *testing.T, db *sql.DB) {
			rows, err := db.QueryContext(t.Context(), "select repeat('x', 10000) from generate_series(1, 10000)")
			require.NoError(t, err)
			require.True(t, rows.Next())
			<-time.After(pause)
			require.NoError(t, drain(rows, nil))
		},
		"a writer who pauses": func(t *testing.T, db *sql.DB) {
			copyIn(t, db, func(n int) []any {
				if n == 2 {
					<-time.After(pause)
					return nil
				}
				return []any{"x"}
			})
		},
		"a COPY that the server doesn't take in": func(t *testing.T, db *sql.DB) {
			copyIn(t, db, func(n int) []any {
				switch n {
				case 1:
					return []any{"first"}
				case 2000:
					return nil
				}
				return []any{strings.Repeat("x", 10000)}
			})
		},
		"a transaction that waits for a lock": func(t *testing.T, db *sql.DB) {
			exec(t, db, "create table locked ()")
			tx, err := db.Begin()
			require.NoError(t, err)
			exec(t, tx, "lock table locked")
			var all sync.WaitGroup
			all.Go(func() { exec(t, db, "lock table locked; drop table locked") })
			<-time.After(pause)
			require.NoError(t, tx.Commit())
			all.Wait()
		},
		"a COMMIT that takes long": func(t *testing.T, db *sql.DB) {
			tx, err := db.Begin()
			require.NoError(t, err)
			exec(t, tx, "create table deferred (n int)")
			exec(t, tx, `create function at_commit() returns trigger language plpgsql as
				$$ begin perform pg_sleep(`+seconds+`); return null; end $$`)
			exec(t, tx, `create constraint trigger late after insert on deferred deferrable initially deferred
				for each row execute function at_commit()`)
			exec(t, tx, "insert into deferred values (1)")
			require.NoError(t, tx.Commit())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := openPool(t, with(server.DSN(""), "command_timeout", "0"))
			fill(t, db, 2)
			asked := received(t, server)
			run(t, db)
			assert.Greater(t, received(t, server), asked, "it was not asked, or at least none of those at the same time were")
			assert.Zero(t, statusOf(t, db).Closed["invalid"])
		})
	}
}

// TestAServerThatTakesNothingInIsNeverTakenForOneThatCannotBeReached has a COPY wait for a lock, for longer than what was sent may be
// unacknowledged: the server's kernel has no room for more.
func TestAServerThatTakesNothingInIsNeverTakenForOneThatCannotBeReached(t *testing.T) {
	t.Parallel()
	const (
		limit = 10 * time.Second // of internal/pool
		rows  = 4000             // of 10 kB, more than buffers have room for
	)
	server := pgtest.StartTB(t, pgtest.Config{})
	db := openPool(t, with(server.DSN(""), "command_timeout", "0"))
	exec(t, db, "create table runs (note text)")
	tx, err := db.Begin()
	require.NoError(t, err)
	exec(t, tx, "lock table runs in share mode") // which lets pgx ask for the columns
	var all sync.WaitGroup
	var given atomic.Int64
	all.Go(func() {
		assert.NoError(t, pgprod.Raw(t.Context(), db, func(c *pgx.Conn) error {
			_, err := c.CopyFrom(t.Context(), pgx.Identifier{"runs"}, []string{"note"}, pgx.CopyFromFunc(func() ([]any, error) {
				if given.Add(1) > rows {
					return nil, nil
				}
				return []any{strings.Repeat("x", 10000)}, nil
			}))
			return err
		}))
	})
	<-time.After(limit)
	atLimit := given.Load()
	<-time.After(limit)
	assert.Equal(t, atLimit, given.Load(), "nothing is taken in")
	assert.Greater(t, atLimit, int64(1))
	assert.Less(t, atLimit, int64(rows))
	require.NoError(t, tx.Commit())
	all.Wait()
	assert.Zero(t, statusOf(t, db).Closed["invalid"])
	assert.Equal(t, rows, get[int](t, db, "select count(*) from runs"))
}

func TestAQuestionLeavesNoLineInTheServersLog(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{TLS: &pgtest.TLS{}, Settings: map[string]string{"log_connections": "on"}})
	db := openPool(t, with(server.DSN(""), "dead_after", "100ms"))
	fill(t, db, 1)
	before := len(logOf(t, server))
	exec(t, db, "select pg_sleep(1)")
	lines := logOf(t, server)[before:]
	assert.Equal(t, strings.Count(lines, "\n"), strings.Count(lines, connectionReceived), lines)
	assert.NotEmpty(t, lines)
}

// connectionReceived is in the line that log_connections makes of each network connection.
const connectionReceived = "connection received"

func logOf(t *testing.T, server *pgtest.Server) string {
	lines, err := os.ReadFile(server.LogFile())
	require.NoError(t, err)
	return string(lines)
}

// received is how many network connections a server with log_connections has got.
func received(t *testing.T, server *pgtest.Server) int {
	return strings.Count(logOf(t, server), connectionReceived)
}

// TestWhatMayRunTwiceGoesOnElsewhere has the first of two hosts fall silent.
func TestWhatMayRunTwiceGoesOnElsewhere(t *testing.T) {
	t.Parallel()
	database := pgtest.NewDatabase(t)
	exec(t, openPgx(t, database), "create table runs (id serial, note text)")
	for name, run := range map[string]func(t *testing.T, db *sql.DB, hole func()) error{
		"a statement": func(t *testing.T, db *sql.DB, hole func()) error {
			hole()
			_, err := db.ExecContext(pgprod.ContextRepeatable(t.Context()), insertLiteral)
			return err
		},
		"a transaction": func(t *testing.T, db *sql.DB, hole func()) error {
			times := 0
			return pgprod.InTx(t.Context(), db, func(tx *sql.Tx) error {
				if _, err := tx.Exec(insertLiteral); err != nil {
					return err
				}
				if times++; times == 1 {
					hole()
				}
				_, err := tx.Exec(insertLiteral)
				return err
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second := faultproxy.StartTB(t, database), faultproxy.StartTB(t, database)
			db := openPool(t, hostsOf(first, second), pgprod.WithCommandTimeout(time.Minute), pgprod.WithConnectTimeout(patience))
			fill(t, db, 3)
			require.Zero(t, second.Stats().Startups)
			var began time.Time
			require.NoError(t, run(t, db, func() { swallow(t, first); began = time.Now() }))
			t.Logf("it has gone on after %v", time.Since(began).Round(time.Millisecond))
			assert.NotZero(t, second.Stats().Startups)
		})
	}
}

// hostsOf is a DSN with the addresses of several proxies to one database.
func hostsOf(proxies ...*faultproxy.Proxy) string {
	u, _ := url.Parse(proxies[0].DSN())
	for _, p := range proxies[1:] {
		u.Host += "," + p.Addr().String()
	}
	return u.String()
}

// TestASilentHostCostsTheOthersNothing has connections to two hosts, of which one falls silent.
func TestASilentHostCostsTheOthersNothing(t *testing.T) {
	t.Parallel()
	database := pgtest.NewDatabase(t)
	first, second := faultproxy.StartTB(t, database), faultproxy.StartTB(t, database)
	db := openPool(t, hostsOf(first, second), pgprod.WithCommandTimeout(time.Minute))
	there, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer there.Close()
	require.NoError(t, there.PingContext(t.Context()))
	require.NoError(t, first.Refuse())
	other, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer other.Close()
	require.NoError(t, other.PingContext(t.Context()))
	require.NotZero(t, second.Stats().Startups)
	require.NoError(t, first.Admit())

	swallow(t, first)
	var all sync.WaitGroup
	all.Go(func() {
		_, err := other.ExecContext(t.Context(), "select pg_sleep(4)")
		assert.NoError(t, err)
	})
	_, err = there.ExecContext(t.Context(), "select 1")
	isSilent(t, err)
	all.Wait()
}

// TestAPromotionShortensTheWaitForASilentPrimary has a primary freeze, and its standby promoted. With PGPROD_FAILOVERS=50 it has
// the figures of the manual.
func TestAPromotionShortensTheWaitForASilentPrimary(t *testing.T) {
	t.Parallel()
	var took, lasted []time.Duration
	for range runs() {
		t.Run("", func(t *testing.T) {
			primary, standby := twoServers(t, nil)
			c := newClient(t, hostsDSN("read-write", primary, standby)+"&command_timeout=60s&connect_timeout=60s")
			load := startWriters(t, 16, c.DB)
			load.advance(t, 20)
			pgtest.Eventually(t, patience, func() bool { return c.host(1).Role == "standby" })
			require.NoError(t, primary.Freeze())
			frozen := time.Now()
			require.NoError(t, standby.Promote(t.Context()))
			promoted := time.Since(frozen)
			load.awaitWrite(t)
			took, lasted = append(took, time.Since(frozen)), append(lasted, promoted)
			load.finish()
			t.Logf("the next row was written %v after the primary froze, the promotion took %v of it; %d errors",
				took[len(took)-1].Round(time.Millisecond), promoted.Round(time.Millisecond), len(load.failures()))
			for _, err := range load.failures() {
				assert.ErrorContains(t, err, "is silent")
			}
			require.NoError(t, primary.Thaw())
		})
	}
	p50, p99, longest := percentiles(took)
	t.Logf("%d runs: p50 %v, p99 %v, at most %v", len(took), p50, p99, longest)
	p50, p99, longest = percentiles(lasted)
	t.Logf("of which the promotions took: p50 %v, p99 %v, at most %v", p50, p99, longest)
}
