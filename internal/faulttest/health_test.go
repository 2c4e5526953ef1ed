package faulttest

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
	"github.com/pgprod/pgprod/internal/pgtest/loopback"
)

const checkName = "health (pgprod check)" // the application_name of the connection of its own

// healthPool opens a pool of one connection that no preflight looks for.
func healthPool(t *testing.T, dsn string, keysAndValues ...string) *sql.DB {
	t.Helper()
	return openPool(t, with(dsn, append([]string{"pool_size", "1", "max_overflow", "0", "preflight", "off",
		"application_name", "health"}, keysAndValues...)...))
}

// awaitHealth waits for a status: an answer may be a second old.
func awaitHealth(t *testing.T, db *sql.DB, status string) (h pgprod.Health) {
	t.Helper()
	pgtest.Eventually(t, patience, func() bool {
		h = pgprod.Check(t.Context(), db)
		return h.Status == status
	}, "it does not become %s", status)
	return h
}

func TestHealthFollowsTheServer(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	db := healthPool(t, server.DSN("postgres"))
	h := pgprod.Check(t.Context(), db)
	require.Equal(t, "healthy", h.Status, h.Reason)
	assert.Equal(t, "connected", h.Database)
	assert.Empty(t, h.Reason)
	assert.Positive(t, h.Latency)
	assert.Regexp(t, `^\d\d`, h.ServerVersion)
	assert.False(t, h.InRecovery)
	assert.Zero(t, h.Pool.CheckedIn, "it has used none of the pool's connections")

	require.NoError(t, server.Shutdown(t.Context(), pgtest.Fast))
	h = awaitHealth(t, db, "unhealthy")
	assert.Equal(t, "disconnected", h.Database)
	assert.Contains(t, h.Reason, "nothing listens there")
	require.NoError(t, server.Resume(t.Context()))
	awaitHealth(t, db, "healthy")
}

func TestAFrozenServerIsUnhealthyInTime(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	db := healthPool(t, server.DSN("postgres"))
	require.Equal(t, "healthy", pgprod.Check(t.Context(), db).Status)
	require.NoError(t, server.Freeze())
	start := time.Now()
	h := awaitHealth(t, db, "unhealthy")
	assert.Less(t, time.Since(start), patience/2)
	assert.Equal(t, "disconnected", h.Database)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	pgtest.Eventually(t, patience, func() bool { // the last answer serves for a second
		start = time.Now()
		h = pgprod.Check(ctx, db)
		return h.Reason != "" && time.Since(h.CheckedAt) < time.Second
	}, "no answer")
	assert.Less(t, time.Since(start), patience/4, "the caller's context is obeyed")
	require.NoError(t, server.Thaw())
	awaitHealth(t, db, "healthy")
}

func TestAFullPoolIsDegradedAndNotDead(t *testing.T) {
	t.Parallel()
	db := healthPool(t, pgtest.NewDatabase(t))
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	require.NoError(t, conn.PingContext(t.Context()))
	h := pgprod.Check(t.Context(), db)
	require.Equal(t, "degraded", h.Status)
	assert.Equal(t, "connected", h.Database)
	assert.Equal(t, "the pool is exhausted: its only connection is in use, nobody waits; look for long transactions, unclosed rows "+
		"and slow statements: the live page shows who holds connections", h.Reason)
	assert.Equal(t, 1, h.Pool.CheckedOut)

	done := make(chan error, 1)
	go func() { done <- db.PingContext(t.Context()) }()
	pgtest.Eventually(t, patience, func() bool { return pgprod.Check(t.Context(), db).Pool.Waiting == 1 }, "nobody waits")
	assert.Regexp(t, `, a caller has waited for \d+(\.\d+)?m?s; look for`, pgprod.Check(t.Context(), db).Reason)

	handler := pgprod.HealthHandler(db)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(method, "/readyz", nil))
		assert.Equal(t, http.StatusOK, w.Code, "it goes on serving")
		assert.Equal(t, method == http.MethodHead, w.Body.Len() == 0)
	}
	require.NoError(t, conn.Close())
	require.NoError(t, <-done)
	awaitHealth(t, db, "healthy") // the pool's part is never old
}

func TestACallerThatWaitsForLongIsDegradedAndTheReasonSaysWhatFor(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	require.NoError(t, server.Exec(t.Context(), "create role app login connection limit 1"))
	db := openPool(t, with(server.DSN("postgres"), "user", "app", "pool_size", "2", "max_overflow", "0", "preflight", "off"))
	require.Equal(t, "healthy", pgprod.Check(t.Context(), db).Status)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- db.PingContext(ctx) }() // the only connection that there is room for is the check's
	h := awaitHealth(t, db, "degraded")
	assert.Equal(t, "connected", h.Database)
	assert.Regexp(t, `^a caller has waited for [1-9]\S*s: the last attempt to connect failed: .*too many connections for role.*keep pool_size`, h.Reason)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

func TestACheckWhoseOwnTimeIsUpSaysThatAndNothingOfTheServer(t *testing.T) {
	t.Parallel()
	db := healthPool(t, pgtest.NewDatabase(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h := pgprod.Check(ctx, db)
	assert.Equal(t, "unhealthy", h.Status)
	assert.Equal(t, "disconnected", h.Database)
	assert.Contains(t, h.Reason, "the check's own time was up before the server had answered")
	assert.Contains(t, h.Reason, "context canceled")
}

func TestACheckWhoseOwnTimeIsUpIsDegradedWhereThePoolHasAnswers(t *testing.T) {
	t.Parallel()
	db := healthPool(t, pgtest.NewDatabase(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	pgtest.Eventually(t, patience, func() bool {
		require.NoError(t, db.PingContext(t.Context()))
		h := pgprod.Check(ctx, db)
		return h.Status == "degraded" && strings.HasPrefix(h.Reason, "the check's own time was up before it had an answer")
	}, "it takes no notice of the pool's answers")
}

func TestAnOutageThatOnlyChecksSeeIsLoggedAndShown(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	var log logLines
	db := openPool(t, with(server.DSN("postgres"), "preflight", "off", "pool_name", "idle"), pgprod.WithLogger(log.logger()))
	page := pgprod.DebugHandler(db)
	require.Equal(t, "healthy", pgprod.Check(t.Context(), db).Status)
	require.NoError(t, server.Shutdown(t.Context(), pgtest.Fast))
	awaitHealth(t, db, "unhealthy")
	first := pgprod.Check(t.Context(), db).CheckedAt
	pgtest.Eventually(t, patience, func() bool { return pgprod.Check(t.Context(), db).CheckedAt.After(first) }, "another look")
	assert.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
	assert.Regexp(t, `level=ERROR msg="pgprod: the database is unhealthy" pool=idle error="pgprod: pool idle: .*nothing listens there`, log.String())
	w := httptest.NewRecorder()
	page.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	assert.Contains(t, w.Body.String(), "<b>health</b>")
	assert.NotContains(t, w.Body.String(), "No queue, no leaks")

	require.NoError(t, server.Resume(t.Context()))
	awaitHealth(t, db, "healthy")
	assert.Equal(t, 2, strings.Count(log.String(), "\n"), log.String())
	assert.Regexp(t, `level=INFO msg="pgprod: the database is healthy again" pool=idle after=\S+ failed_checks=[2-9]`, log.String())
}

func TestAStormOfChecksIsOneQuestion(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	db := healthPool(t, dsn)
	var mu sync.Mutex
	asked := map[time.Time]bool{}
	var wg sync.WaitGroup
	start := time.Now()
	for range 100 {
		wg.Go(func() {
			for range 20 {
				h := pgprod.Check(t.Context(), db)
				mu.Lock()
				asked[h.CheckedAt] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	assert.LessOrEqual(t, len(asked), 1+int(time.Since(start)/time.Second), "once a second at most")
	backends, err := pgtest.Shared(t).Backends(t.Context(), pgtest.DatabaseName(dsn))
	require.NoError(t, err)
	require.Len(t, backends, 1)
	assert.Equal(t, checkName, backends[0].ApplicationName)
}

func TestAStandbyIsDegradedWhereAPrimaryWasAskedFor(t *testing.T) {
	t.Parallel()
	primary, standby := twoServers(t, nil)
	db := healthPool(t, hostsDSN("read-write", standby))
	h := pgprod.Check(t.Context(), db)
	require.Equal(t, "degraded", h.Status, h.Reason)
	assert.True(t, h.InRecovery)
	assert.Equal(t, "the server is not what target_session_attrs=read-write asks for: it is a standby", h.Reason)

	both := healthPool(t, hostsDSN("read-write", standby, primary))
	assert.Equal(t, "healthy", pgprod.Check(t.Context(), both).Status, "the second host is the primary")
	replica := healthPool(t, hostsDSN("prefer-standby", primary, standby))
	h = pgprod.Check(t.Context(), replica)
	assert.Equal(t, "healthy", h.Status)
	assert.True(t, h.InRecovery)

	require.NoError(t, primary.Stop(t.Context()))
	require.NoError(t, standby.Promote(t.Context()))
	awaitHealth(t, db, "healthy")
	awaitHealth(t, both, "healthy")
}

func TestAServerWithoutRoomIsDegradedAsLongAsThePoolHasConnections(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Settings: map[string]string{"max_connections": "5"}})
	require.NoError(t, server.Exec(t.Context(), "create role app login; alter role app connection limit 1"))
	db := openPool(t, with(server.DSN("postgres"), "user", "app", "pool_size", "2", "preflight", "off"))
	require.NoError(t, db.PingContext(t.Context()))
	h := pgprod.Check(t.Context(), db)
	require.Equal(t, "degraded", h.Status, h.Reason)
	assert.Contains(t, h.Reason, "too many connections for role")

	full := openPool(t, with(server.DSN("postgres"), "user", "app", "preflight", "off"))
	h = pgprod.Check(t.Context(), full)
	assert.Equal(t, "unhealthy", h.Status, "it has no connection at all")
}

func TestTheHealthHandlerAnswersProbes(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	db := healthPool(t, server.DSN("postgres"))
	handler := pgprod.HealthHandler(db)
	mux := http.NewServeMux()
	mux.Handle("/", handler)
	mux.Handle("/stripped/livez", http.StripPrefix("/stripped/livez", handler))
	mux.Handle("/livez/stripped", rewritten("/livez", handler))
	web := httptest.NewServer(mux)
	defer web.Close()
	defer http.DefaultClient.CloseIdleConnections()
	ask := func(method, path string) (int, http.Header, string) {
		request, err := http.NewRequestWithContext(t.Context(), method, web.URL+path, nil)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, response.Header, string(body)
	}

	code, header, body := ask(http.MethodGet, "/readyz")
	require.Equal(t, http.StatusOK, code, body)
	assert.Equal(t, "application/json", header.Get("Content-Type"))
	assert.Equal(t, "no-store", header.Get("Cache-Control"))
	var h pgprod.Health
	require.NoError(t, json.Unmarshal([]byte(body), &h))
	assert.Equal(t, "healthy", h.Status)
	assert.Equal(t, 1, h.Pool.PoolSize)
	code, _, body = ask(http.MethodHead, "/readyz")
	assert.Equal(t, http.StatusOK, code)
	assert.Empty(t, body)
	code, header, _ = ask(http.MethodPost, "/readyz")
	assert.Equal(t, http.StatusMethodNotAllowed, code)
	assert.Equal(t, "GET, HEAD", header.Get("Allow"))

	require.NoError(t, server.Shutdown(t.Context(), pgtest.Fast))
	awaitHealth(t, db, "unhealthy")
	code, _, body = ask(http.MethodGet, "/readyz")
	assert.Equal(t, http.StatusServiceUnavailable, code, body)
	code, _, body = ask(http.MethodHead, "/readyz")
	assert.Equal(t, http.StatusServiceUnavailable, code)
	assert.Empty(t, body)
	for _, path := range []string{"/health/livez", "/livez/", "/live", "/healthz/liveness?verbose", "/stripped/livez", "/livez/stripped"} {
		code, _, body = ask(http.MethodGet, path)
		assert.Equal(t, http.StatusOK, code, "a restart of the service would not help: %s", path)
		assert.JSONEq(t, `{"status": "alive"}`, body)
	}
	require.NoError(t, server.Resume(t.Context()))
}

// rewritten is a router that hands on another path than it was asked for.
func rewritten(path string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.Clone(r.Context())
		r.URL.Path = path
		h.ServeHTTP(w, r)
	})
}

func TestCloseEndsChecks(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	db := healthPool(t, dsn)
	require.Equal(t, "healthy", pgprod.Check(t.Context(), db).Status)
	require.NoError(t, db.Close())
	h := pgprod.Check(t.Context(), db)
	assert.Equal(t, "unhealthy", h.Status)
	assert.Contains(t, h.Reason, "closed")
	pgtest.Eventually(t, patience, func() bool { // the server takes a moment to hear of it
		backends, err := pgtest.Shared(t).Backends(t.Context(), pgtest.DatabaseName(dsn))
		require.NoError(t, err)
		return len(backends) == 0
	}, "a connection was left")

	plain, err := sql.Open("pgx", dsn)
	require.NoError(t, err)
	defer plain.Close()
	h = pgprod.Check(t.Context(), plain)
	assert.Equal(t, "unhealthy", h.Status)
	assert.Contains(t, h.Reason, "not to pgprod")
}

func TestASilentFirstHostDoesNotHideTheSecond(t *testing.T) {
	t.Parallel()
	silent, err := loopback.Listen()
	require.NoError(t, err)
	defer silent.Close()
	shared := pgtest.Shared(t)
	hosts := silent.Addr().String() + "," + net.JoinHostPort(shared.Host(), fmt.Sprint(shared.Port()))
	db := healthPool(t, "postgres://postgres@"+hosts+"/postgres?sslmode=disable&connect_timeout=3")
	assert.Equal(t, "healthy", pgprod.Check(t.Context(), db).Status)
}

func TestADeadConnectionOfTheChecksOwnIsReplaced(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	db := healthPool(t, server.DSN("postgres"))
	first := pgprod.Check(t.Context(), db)
	require.Equal(t, "healthy", first.Status)
	backends, err := server.Backends(t.Context(), checkName)
	require.NoError(t, err)
	require.Len(t, backends, 1)
	require.NoError(t, server.FreezeBackend(backends[0].PID))
	var h pgprod.Health
	pgtest.Eventually(t, patience, func() bool {
		h = pgprod.Check(t.Context(), db)
		return h.CheckedAt.After(first.CheckedAt)
	}, "another look")
	assert.Equal(t, "healthy", h.Status, h.Reason)
	require.NoError(t, server.ThawBackend(backends[0].PID))
}

// staysInTraffic waits until the server is healthy. No check may say unhealthy before, but for one look, in whose midst a
// busy machine may have stood still.
func staysInTraffic(t *testing.T, db *sql.DB) {
	t.Helper()
	unhealthy := map[time.Time]bool{}
	pgtest.Eventually(t, patience, func() bool {
		h := pgprod.Check(t.Context(), db)
		if h.Status == "unhealthy" {
			unhealthy[h.CheckedAt] = true
			require.Len(t, unhealthy, 1, h.Reason)
		}
		return h.Status == "healthy"
	}, "it does not become healthy")
}

// TestASlowNetworkTakesNoServiceOutOfTraffic has everything that the server says take 600 ms.
func TestASlowNetworkTakesNoServiceOutOfTraffic(t *testing.T) {
	t.Parallel()
	trusting := pgtest.StartTB(t, pgtest.Config{})
	scram := pgtest.StartTB(t, pgtest.Config{Password: "secret"}) // four round trips before the first question
	for name, c := range map[string]struct {
		server  *pgtest.Server
		proxies int
		keys    []string
	}{
		"one host":                       {trusting, 1, nil},
		"three hosts":                    {trusting, 3, nil},
		"three hosts, TLS if there is":   {trusting, 3, []string{"sslmode", "prefer"}},
		"a password":                     {scram, 1, nil},
		"three hosts, a password":        {scram, 3, nil},
		"a short connect_timeout":        {trusting, 1, []string{"connect_timeout", "2s"}},
		"settings after the login":       {trusting, 2, []string{"server_settings_mode", "set"}},
		"a primary among several, by it": {trusting, 2, []string{"target_session_attrs", "read-write"}},
	} {
		for _, used := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, used: %v", name, used), func(t *testing.T) {
				t.Parallel()
				var hosts []string
				for range c.proxies {
					proxy := faultproxy.StartTB(t, c.server.DSN("postgres"))
					proxy.SetLatency(faultproxy.ToClient, 600*time.Millisecond)
					hosts = append(hosts, proxy.Addr().String())
				}
				dsn := strings.Replace(c.server.DSN("postgres"), net.JoinHostPort(c.server.Host(), fmt.Sprint(c.server.Port())), strings.Join(hosts, ","), 1)
				db := healthPool(t, dsn, c.keys...)
				if used {
					require.NoError(t, db.PingContext(t.Context()))
				}
				staysInTraffic(t, db)
			})
		}
	}
}

// TestAConnectThatOutlivesItsCheckServesTheNext has the server out of reach for longer than a check lasts with each connect.
func TestAConnectThatOutlivesItsCheckServesTheNext(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	proxy.DelayConnect(2500 * time.Millisecond)
	db := healthPool(t, proxy.DSN(), "connect_timeout", "10s")
	start := time.Now()
	h := pgprod.Check(t.Context(), db)
	assert.Equal(t, "unhealthy", h.Status, "nothing was heard of it")
	assert.Contains(t, h.Reason, "no answer within 2s")
	assert.Less(t, time.Since(start), patience/2)
	awaitHealth(t, db, "healthy")
}

func TestAServerThatAnswersThePoolIsAliveWhateverTheCheckFinds(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	for name, spoil := range map[string]func(*testing.T, *faultproxy.Proxy){
		"connects are swallowed": func(_ *testing.T, p *faultproxy.Proxy) { p.SilenceNew(true) },
		"connects are refused":   func(t *testing.T, p *faultproxy.Proxy) { require.NoError(t, p.Refuse()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := faultproxy.StartTB(t, server.DSN("postgres"))
			db := openPool(t, with(proxy.DSN(), "pool_size", "2", "max_overflow", "0", "preflight", "off"))
			fill(t, db, 2)
			load := startCrowd(t, 1, func(int) error { _, err := db.Exec("select 1"); return err })
			load.advance(t, 1)
			spoil(t, proxy)
			h := awaitHealth(t, db, "degraded")
			assert.Equal(t, "connected", h.Database)
			assert.Contains(t, h.Reason, "the check's own connection fails, those of the pool go on")
			load.finish()
			assert.Empty(t, load.failures())
			awaitHealth(t, db, "unhealthy") // nobody uses it any more, so nothing shows that it is alive
		})
	}
}
