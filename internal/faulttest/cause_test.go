package faulttest

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/debugpage"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// snapshot is what the live page says of a pool.
func snapshot(t testing.TB, db *sql.DB) activity.Snapshot {
	t.Helper()
	answer := httptest.NewRecorder()
	pgprod.DebugHandler(db).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/?format=json", nil))
	var pools []debugpage.Pool
	require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &pools))
	return pools[0].Snapshot
}

// causes are what the statements under way in a pool were found to wait for, by their summary.
func causes(t testing.TB, db *sql.DB) map[string]*activity.Cause {
	t.Helper()
	all := map[string]*activity.Cause{}
	for _, h := range snapshot(t, db).Holders {
		if h.Cause != nil {
			all[h.Statement] = h.Cause
		}
	}
	return all
}

// tree is who blocks whom, as the live page has it.
func tree(t testing.TB, db *sql.DB) []*activity.Node {
	t.Helper()
	return snapshot(t, db).Blocking
}

// awaitCause waits until the statement with a summary was found to wait for something.
func awaitCause(t testing.TB, db *sql.DB, summary string) (cause *activity.Cause) {
	t.Helper()
	pgtest.Eventually(t, 2*patience, func() bool {
		cause = causes(t, db)[summary]
		return cause != nil
	}, "no cause")
	return cause
}

// begun runs a statement in a goroutine, whose end the channel tells.
func begun(db *sql.DB, query string) chan error {
	done := make(chan error, 1)
	go func() { // ends with the statement
		_, err := db.Exec(query)
		done <- err
	}()
	return done
}

func TestBehindPgBouncerASlowStatementIsKnownByItsTextOrNotAtAll(t *testing.T) {
	t.Parallel()
	b := startBouncer(t, pgtest.StartTB(t, pgtest.Config{}), "transaction", "default_pool_size = 10")
	name := b.database(t)
	direct := openPgx(t, with(b.server.DSN(name), "application_name", "billing"))
	_, err := direct.Exec("create table orders (id int primary key, n int); insert into orders values (1, 0), (2, 0)")
	require.NoError(t, err)
	db := openPool(t, b.dsn(name, "server_settings_mode", "set", "default_query_exec_mode", "exec", "slow_query", "100ms",
		"application_name", "shop"))
	tx, err := direct.Begin()
	require.NoError(t, err)
	pid := get[int](t, tx, "select pg_backend_pid()")
	_, err = tx.Exec("update orders set n = 1")
	require.NoError(t, err)

	done := begun(db, "update orders set n = 2 where id = 1")
	cause := awaitCause(t, db, "update orders")
	assert.True(t, cause.ByText)
	assert.Regexp(t, fmt.Sprintf(`^behind a pooler, as the only session with this text and age: `+
		`waits for Lock/transactionid held by pid %d \(application billing, idle in transaction for [0-9.ms]+\)$`, pid), cause.String())

	tops := tree(t, db)
	require.Len(t, tops, 1)
	assert.EqualValues(t, pid, tops[0].PID)
	assert.Empty(t, tops[0].Whose(), "it might be this pool's own")
	require.Len(t, tops[0].Below, 1)
	assert.NotNil(t, tops[0].Below[0].Own)

	var twins []chan error
	for range 2 { // whichever session is whose
		twins = append(twins, begun(db, "select n from orders where id = 2 for update"))
	}
	sleeping := begun(db, "select pg_sleep(2.5), 'select n'") // looked at with the twins, or later
	pgtest.Eventually(t, 2*patience, func() bool {
		all := causes(t, db)
		assert.NotContains(t, all, "select orders", "it can't be known")
		again := all["update orders"]
		return again != nil && cause.At.Before(again.At) && all["select"] != nil // there was another look, at the twins too
	}, "no other look")
	require.NoError(t, tx.Rollback())
	for _, done := range append(twins, done, sleeping) {
		require.NoError(t, <-done)
	}
}

// TestBehindPgBouncerAStatementThatTheServerHasAnsweredDoesNotPassForItsTwin has a caller leave its rows open, while another
// one's statement with the same text waits on the server, where it is the only one.
func TestBehindPgBouncerAStatementThatTheServerHasAnsweredDoesNotPassForItsTwin(t *testing.T) {
	t.Parallel()
	b := startBouncer(t, pgtest.StartTB(t, pgtest.Config{}), "transaction", "default_pool_size = 10")
	name := b.database(t)
	direct := openPgx(t, b.server.DSN(name))
	_, err := direct.Exec("create table orders (id int primary key, n int); insert into orders values (1, 0)")
	require.NoError(t, err)
	db := openPool(t, b.dsn(name, "server_settings_mode", "set", "default_query_exec_mode", "exec", "slow_query", "100ms",
		"application_name", "shop"))
	require.NoError(t, db.Ping())
	tx, err := direct.Begin()
	require.NoError(t, err)

	const query = "select n from orders where id = 1 for update"
	rows, err := db.Query(query)
	require.NoError(t, err)
	require.True(t, rows.Next())
	_, err = tx.Exec("update orders set n = 1")
	require.NoError(t, err)
	twin := begun(db, query)
	sleeping := begun(db, "select pg_sleep(2.5)") // looked at with the others, or later
	awaitCause(t, db, "select")
	for _, h := range snapshot(t, db).Holders {
		if h.Cause != nil {
			assert.NotContains(t, h.Stack[0], "DoesNotPassForItsTwin", "%v", h.Cause)
		}
	}
	require.NoError(t, rows.Close())
	require.NoError(t, tx.Rollback())
	for _, done := range []chan error{twin, sleeping} {
		require.NoError(t, <-done)
	}
}

func TestTheServerIsAskedThatTheSlowStatementRunsOn(t *testing.T) {
	t.Parallel()
	first, second := pgtest.StartTB(t, pgtest.Config{}), pgtest.StartTB(t, pgtest.Config{})
	require.NoError(t, first.Crash())
	db := openPool(t, with(hostsDSN("any", first, second), "slow_query", "100ms", "preflight", "off", "pool_size", "1",
		"max_overflow", "0"))
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	require.NoError(t, conn.PingContext(t.Context()), "to the second one")
	require.NoError(t, first.Resume(t.Context()))
	pgtest.Eventually(t, patience, func() bool { return statusOf(t, db).Hosts[0].State == "up" },
		"the first one is not known to be back")
	require.NoError(t, pgprod.Recycle(db)) // but for the connection that is lent, all is made anew
	pgtest.Eventually(t, patience, func() bool {
		pgprod.Check(t.Context(), db)
		return onServer(t, first) > 0
	}, "the connection for health checks goes to the first one")
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	done := make(chan struct{})
	go func() { // ended by cancel
		defer close(done)
		_, _ = conn.ExecContext(ctx, "select pg_sleep(600)")
	}()
	assert.Equal(t, "waits for Timeout/PgSleep (it calls pg_sleep)", awaitCause(t, db, "select").String())
	cancel()
	<-done
}

// onServer is how many clients a server has.
func onServer(t testing.TB, s *pgtest.Server) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	backends, err := s.Backends(ctx)
	require.NoError(t, err)
	return len(backends)
}
