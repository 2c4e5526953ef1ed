package faulttest

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// fault is something that befalls a server, or the way to it, while it is under load.
type fault struct {
	name string
	// inflict returns when it is over. From gone on nobody can have been taken in; zero if there is nothing to see.
	inflict func(*testing.T, *pgtest.Server, *faultproxy.Proxy) (gone, back time.Time)
	proxied bool
	silent  bool // only command_timeout ends what was under way
	errors  int  // the most that pgprod may let a program see: the statements in flight
}

// outageTime is how long a server is down: long enough to tell waiting from failing.
const outageTime = 300 * time.Millisecond

// shutDown is an outage that begins with stop.
func shutDown(stop func(*testing.T, *pgtest.Server) error) func(*testing.T, *pgtest.Server, *faultproxy.Proxy) (gone, back time.Time) {
	return func(t *testing.T, server *pgtest.Server, _ *faultproxy.Proxy) (gone, back time.Time) {
		require.NoError(t, stop(t, server))
		gone = time.Now()
		<-time.After(outageTime) // the time itself is what matters
		require.NoError(t, server.Resume(t.Context()))
		return gone, time.Now()
	}
}

// loseSome lets ten replies get lost, by FIN and by RST.
func loseSome(t *testing.T, _ *pgtest.Server, proxy *faultproxy.Proxy) (gone, back time.Time) {
	for n := range 10 {
		before := proxy.Stats().Injected
		proxy.SwallowReply([]faultproxy.End{faultproxy.FIN, faultproxy.RST}[n%2], 1, faultproxy.Containing("insert into work"))
		pgtest.Eventually(t, patience, func() bool { return proxy.Stats().Injected > before })
	}
	return time.Now(), time.Now()
}

var faults = []fault{
	{name: "restart, fast", errors: workers,
		inflict: shutDown(func(t *testing.T, s *pgtest.Server) error { return s.Shutdown(t.Context(), pgtest.Fast) })},
	{name: "restart, immediate", errors: workers,
		inflict: shutDown(func(t *testing.T, s *pgtest.Server) error { return s.Shutdown(t.Context(), pgtest.Immediate) })},
	{name: "kill -9 of the server", errors: workers,
		inflict: shutDown(func(_ *testing.T, s *pgtest.Server) error { return s.Crash() })},
	{name: "all backends terminated", errors: workers,
		inflict: func(t *testing.T, s *pgtest.Server, _ *faultproxy.Proxy) (gone, back time.Time) {
			require.NoError(t, s.TerminateAll(t.Context(), loadName))
			return time.Now(), time.Now()
		}},
	{name: "10 replies lost", proxied: true, errors: 10, inflict: loseSome},
	{name: "connections black-holed", proxied: true, silent: true, errors: workers,
		inflict: func(_ *testing.T, _ *pgtest.Server, proxy *faultproxy.Proxy) (gone, back time.Time) {
			for _, c := range proxy.Conns() {
				c.BlackHole(faultproxy.ToServer, true)
				c.BlackHole(faultproxy.ToClient, true)
			}
			return time.Time{}, time.Now()
		}},
}

const loadName = "load"

// result is a row of the table.
type result struct {
	fault, driver                  string
	statements, errors, mostOfOne  int
	hung                           int
	first, everyone, full, longest time.Duration // from the server's return; negative: never
	doubled, lost                  int
}

// TestFaultsUnderLoad puts pgx, as its users tune it, and pgprod through the same faults, and logs a table of what it cost.
func TestFaultsUnderLoad(t *testing.T) {
	var results []result
	for _, f := range faults {
		results = append(results, f.against(t, "pgx", openTuned), f.against(t, "pgprod", func(t *testing.T, dsn string) *sql.DB {
			limit := "10s"
			if f.silent {
				limit = "1s"
			}
			return openPool(t, with(dsn, "command_timeout", limit))
		}))
	}
	t.Log("\n" + table(results))
}

// openTuned opens a pool of pgx's driver with limits as they are usually set by hand.
func openTuned(t *testing.T, dsn string) *sql.DB {
	db := openPgx(t, dsn)
	db.SetMaxOpenConns(30)
	db.SetMaxIdleConns(20)
	db.SetConnMaxLifetime(30 * time.Minute)
	db.SetConnMaxIdleTime(10 * time.Minute)
	return db
}

// against puts a driver through a fault and checks what pgprod promises.
func (f fault) against(t *testing.T, driver string, open func(*testing.T, string) *sql.DB) (r result) {
	t.Helper()
	r = result{fault: f.name, driver: driver}
	t.Run(f.name+"/"+driver, func(t *testing.T) {
		// pgtest's servers may lose in a crash what they have acknowledged; this one may not.
		server := pgtest.StartTB(t, pgtest.Config{Settings: map[string]string{"synchronous_commit": "on"}})
		dsn := server.DSN("")
		require.NoError(t, server.Exec(t.Context(), "create table work (id text)"))
		var proxy *faultproxy.Proxy
		if f.proxied {
			proxy = faultproxy.StartTB(t, dsn)
			dsn = proxy.DSN()
		}
		l := startLoad(t, open(t, with(dsn, "application_name", loadName, "connect_timeout", "1")))
		require.True(t, l.goesOn(40, patience))
		began := time.Now()
		gone, back := f.inflict(t, server, proxy)
		recovers := patience
		if driver == "pgx" {
			recovers = 2 * time.Second // if it does at all
		}
		recovered := l.goesOn(40, recovers)
		l.end()

		failed, mostOfOne := l.failures()
		r.statements, r.errors, r.mostOfOne = len(l.successes())+len(failed), len(failed), mostOfOne
		r.hung, r.longest = l.hung(), l.longest()
		r.first, r.everyone, r.full = l.recovery(began, back)
		r.doubled, r.lost = l.countRows(t, openPgx(t, server.DSN("")))
		if driver != "pgprod" {
			return
		}
		assert.True(t, recovered)
		assert.Zero(t, r.doubled)
		assert.Zero(t, r.lost)
		assert.LessOrEqual(t, r.errors, f.errors)
		if f.errors == workers {
			assert.LessOrEqual(t, mostOfOne, 1)
		}
		assert.Less(t, r.first, 5*time.Second)
		for _, failure := range failed {
			requireHonest(t, failure.err)
			assert.True(t, gone.IsZero() || failure.from.Before(gone), "it could have waited: %v", failure.err)
		}
	})
	return r
}

// recovery says how long after the server's return a statement succeeded, every worker had one that did, and as many
// were done as before: four fifths of the earlier number within a tenth of a second.
func (l *load) recovery(began, back time.Time) (first, everyone, full time.Duration) {
	const never = time.Duration(-1)
	first, full = never, never
	for _, mine := range l.ledgers {
		at := never
		for _, success := range mine.at {
			if success.After(back) {
				at = success.Sub(back)
				break
			}
		}
		switch {
		case at == never || everyone == never:
			everyone = never
		default:
			everyone = max(everyone, at)
		}
		if at != never && (first == never || at < first) {
			first = at
		}
	}
	const window = 100 * time.Millisecond
	successes := l.successes()
	usual := count(successes, began.Add(-2*window), 2*window) / 2
	for d := time.Duration(0); d < 10*time.Second; d += window / 10 {
		if count(successes, back.Add(d), window) >= usual*4/5 {
			full = d
			break
		}
	}
	return first, everyone, full
}

func count(times []time.Time, from time.Time, window time.Duration) (n int) {
	for _, at := range times {
		if at.After(from) && at.Before(from.Add(window)) {
			n++
		}
	}
	return n
}

func table(results []result) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', tabwriter.Debug)
	fmt.Fprintln(w, "fault\tdriver\tstatements\terrors\tof one worker\thung\tfirst success\tall 16 workers\tfull throughput\t"+
		"longest statement\trows doubled\trows lost")
	for _, r := range results {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%d\t%d\n", r.fault, r.driver, r.statements, r.errors, r.mostOfOne,
			r.hung, after(r.first), after(r.everyone), after(r.full), after(r.longest), r.doubled, r.lost)
	}
	_ = w.Flush()
	return b.String()
}

func after(d time.Duration) string {
	if d < 0 {
		return "never"
	}
	return d.Round(time.Millisecond).String()
}

func TestADownServerIsWaitedForWithinTheCallersOwnLimit(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	patient := openPool(t, server.DSN(""))
	impatient := openPool(t, with(server.DSN(""), "pool_timeout", "1s"))
	fill(t, patient, 4)
	fill(t, impatient, 4)
	require.NoError(t, server.Shutdown(t.Context(), pgtest.Fast))
	var waiting sync.WaitGroup
	for range workers {
		waiting.Go(func() {
			_, err := patient.Exec("select 1")
			assert.NoError(t, err, "pool_timeout is 30 s")
		})
	}
	var leaving sync.WaitGroup
	for range workers {
		leaving.Go(func() {
			_, err := impatient.Exec("select 1")
			assert.ErrorIs(t, err, pgprod.ErrPoolTimeout)
			assert.ErrorIs(t, err, syscall.ECONNREFUSED, "why")
		})
		leaving.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := patient.ExecContext(ctx, "select 1")
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.ErrorContains(t, err, "refused", "why")
		})
	}
	leaving.Wait()
	tried := statusOf(t, patient).FailedConnects
	pgtest.Eventually(t, patience, func() bool { return statusOf(t, patient).FailedConnects > tried+3 }, "nobody dials")
	require.NoError(t, server.Resume(t.Context()))
	waiting.Wait()
	assert.Zero(t, statusOf(t, patient).CheckedOut)
	assert.Zero(t, statusOf(t, impatient).Waiting)
}

// TestAServerThatIsStartingUpIsWaitedFor has one replay its log for as long as the test likes: it answers 57P03.
func TestAServerThatIsStartingUpIsWaitedFor(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	db := openPool(t, server.DSN(""))
	fill(t, db, 4)
	require.NoError(t, server.Exec(t.Context(), "alter system set hot_standby = off"))
	require.NoError(t, server.Shutdown(t.Context(), pgtest.Fast))
	require.NoError(t, os.WriteFile(filepath.Join(server.DataDir(), "standby.signal"), nil, 0o644))
	resumed := make(chan error, 1)
	go func() { resumed <- server.Resume(t.Context()) }() // ends when the server is told to end recovery

	pgtest.Eventually(t, patience, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		return sqlState(db.PingContext(ctx)) == "57P03"
	}, "the reason of the wait is not to be seen")
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			_, err := db.Exec("select 1")
			assert.NoError(t, err)
		})
	}
	failures := statusOf(t, db).FailedConnects
	pgtest.Eventually(t, patience, func() bool { return statusOf(t, db).FailedConnects > failures+3 }, "nobody dials")
	promoteByFile(t, server)
	require.NoError(t, <-resumed)
	wg.Wait()
}

// promoteByFile is what pg_ctl promote does: a server that lets nobody in can't be asked by SQL.
func promoteByFile(t *testing.T, server *pgtest.Server) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(server.DataDir(), "promote"), nil, 0o644))
	require.NoError(t, syscall.Kill(postmasterOf(t, server), syscall.SIGUSR1))
}

// postmasterOf returns the process number of a server's postmaster.
func postmasterOf(t *testing.T, server *pgtest.Server) (pid int) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(server.DataDir(), "postmaster.pid"))
	require.NoError(t, err)
	_, err = fmt.Sscan(string(text), &pid)
	require.NoError(t, err)
	return pid
}

func TestTooManyClientsAreWaitedFor(t *testing.T) {
	t.Parallel()
	const most = 8
	server := pgtest.StartTB(t, pgtest.Config{Settings: map[string]string{
		"max_connections": fmt.Sprint(most), "superuser_reserved_connections": "0", "max_wal_senders": "0",
	}})
	blocker := openPgx(t, server.DSN(""))
	conns := make([]*sql.Conn, most)
	for i := range conns {
		conn, err := blocker.Conn(t.Context())
		require.NoError(t, err)
		conns[i] = conn
	}
	db := openPool(t, server.DSN(""))
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range 20 {
				_, err := db.Exec("select pg_sleep(0.001)")
				assert.NoError(t, err)
			}
		})
	}
	pgtest.Eventually(t, patience, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		return sqlState(db.PingContext(ctx)) == "53300"
	}, "the reason of the wait is not to be seen")
	blocker.SetMaxIdleConns(-1) // so that Close closes them
	for _, conn := range conns[2:] {
		require.NoError(t, conn.Close())
	}
	wg.Wait() // sixteen callers share what the server has left, which is less than the pool's places
	assert.LessOrEqual(t, statusOf(t, db).CheckedIn, most-2)
	for _, conn := range conns[:2] {
		require.NoError(t, conn.Close())
	}
}

func TestWhatTimeDoesNotHealFailsAtOnce(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Password: "right"})
	for state, dsn := range map[string]string{
		"28P01": withPassword(server.DSN(""), "wrong"),
		"3D000": server.DSN("nowhere"),
	} {
		db := openPool(t, with(dsn, "pool_timeout", "10m"))
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				_, err := db.Exec("select 1") // for ten minutes, if it were waited out
				assert.Equal(t, state, sqlState(err), "%v", err)
				assert.NotErrorIs(t, err, pgprod.ErrPoolTimeout)
				assert.NotContains(t, err.Error(), "wrong")
			})
		}
		wg.Wait()
		assert.Zero(t, statusOf(t, db).Waiting)
	}
}

func withPassword(dsn, password string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		panic("not a URL")
	}
	u.User = url.UserPassword(u.User.Username(), password)
	return u.String()
}
