package drivertest

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/debugpage"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// page is what a debug handler answers.
func page(t *testing.T, h http.Handler, target string) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	require.Equal(t, http.StatusOK, w.Code)
	body, err := io.ReadAll(w.Body)
	require.NoError(t, err)
	return string(body)
}

func pools(t *testing.T, h http.Handler) (all []debugpage.Pool) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(page(t, h, "/debug/pgprod?format=json")), &all))
	return all
}

func TestTheLivePageShowsWhatThePoolDoes(t *testing.T) {
	t.Parallel()
	dsn := strings.Replace(pgtest.NewDatabase(t), "postgres@", "postgres:s3cret@", 1)
	db := openPool(t, with(dsn, "pool_name", "shop", "leak_detection", "1ms", "pool_size", "3"))
	plain := openPgx(t, pgtest.NewDatabase(t))
	h := pgprod.DebugHandler(db, plain)
	for n := range 10 {
		mustExec(t, db, "select 's3cret', $1::int", n)
	}
	_, err := db.Exec("select 1/0 as s3cret_is_a_name_here")
	require.Error(t, err)
	rows := leakRows(t, db)
	defer rows.Close()

	var all []debugpage.Pool
	pgtest.Eventually(t, patience, func() bool {
		all = pools(t, h)
		return len(all[0].Snapshot.Holders) == 1 && all[0].Snapshot.Holders[0].Leak
	}, "a leak")
	require.Len(t, all, 2)
	got := all[0]
	assert.Equal(t, "shop", got.Name)
	assert.Equal(t, "healthy", got.Health.Status)
	assert.Equal(t, 1, got.Snapshot.Status.CheckedOut)
	assert.NotEmpty(t, got.Snapshot.History)
	statements := map[string]activity.Statement{}
	for _, s := range got.Snapshot.Statements {
		statements[s.Summary] = s
	}
	assert.EqualValues(t, 11, statements["select"].Count, "the rows that are open are not over")
	assert.EqualValues(t, 1, statements["select"].Errors)
	assert.EqualValues(t, 10, statements["select"].Rows)
	assert.Positive(t, statements["select"].P50)
	holder := got.Snapshot.Holders[0]
	assert.Equal(t, "select", holder.Statement)
	assert.Contains(t, holder.Stack[0], "drivertest.leakRows")
	assert.Contains(t, got.Snapshot.Errors[0].Text, "division by zero (SQLSTATE 22012)")
	assert.Equal(t, "connect", got.Snapshot.Events[len(got.Snapshot.Events)-1].Kind)
	settings := map[string]activity.Setting{}
	for _, s := range got.Snapshot.Settings {
		settings[s.Key] = s
	}
	assert.Equal(t, activity.Setting{Key: "pool_size", Value: "3", Source: "DSN"}, settings["pool_size"])
	assert.Equal(t, activity.Setting{Key: "password", Value: "••••", Source: "DSN"}, settings["password"])

	assert.Equal(t, "not pgprod's", all[1].Name)
	assert.Contains(t, all[1].Health.Reason, "not to pgprod")

	for _, body := range []string{page(t, h, "/debug/pgprod"), page(t, h, "/debug/pgprod?format=json")} {
		assert.Contains(t, body, "shop")
		assert.NotContains(t, strings.ReplaceAll(body, "s3cret_is_a_name", ""), "s3cret")
	}
}

func TestTheLivePageKeepsTheFirstCauseThroughAnOutage(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, with(proxy.DSN(), "pool_size", "1", "max_overflow", "1", "pool_timeout", "5ms"))
	h := pgprod.DebugHandler(db)
	pgtest.Eventually(t, patience, func() bool {
		_, err := db.Exec("select 1/0")
		return sqlState(err) == "22012"
	}, "no connection")
	require.NoError(t, proxy.Refuse())
	proxy.CloseAll(faultproxy.RST)
	const callers = 150
	for range callers {
		require.Error(t, db.Ping())
	}
	counts := map[string]int{}
	errors := pools(t, h)[0].Snapshot.Errors
	for _, e := range errors {
		counts[e.Kind] += e.Count
		assert.False(t, e.First.After(e.At))
	}
	assert.Less(t, len(errors), 8, "%v", errors)
	assert.Equal(t, 1, counts["statement"])
	assert.Greater(t, counts["no connection"], callers/2)
	assert.Positive(t, counts["connect"])
	require.NoError(t, proxy.Admit())
}

func TestConnectionsThatComeAndGoDoNotHideRarerEvents(t *testing.T) {
	t.Parallel()
	db := openPool(t, with(pgtest.NewDatabase(t), "pool_size", "1", "max_overflow", "1"))
	h := pgprod.DebugHandler(db)
	terminate(t, backendPID(t, db))
	const times = 120
	for range times {
		a, b := hold(t, db), hold(t, db)
		require.NoError(t, a.Close())
		require.NoError(t, b.Close())
	}
	kinds := map[string]int{}
	events := pools(t, h)[0].Snapshot.Events
	for _, e := range events {
		kinds[e.Kind] += e.Count
	}
	assert.Positive(t, kinds["invalidate"], "%v", events)
	assert.GreaterOrEqual(t, kinds["overflow"], times)
	assert.Less(t, len(events), 8)
}

func TestTheLivePageSaysWhereThePoolConnectsTo(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]map[string]string{
		"postgres://app:s3cret@127.0.0.1:1,other:2/shop?target_session_attrs=primary&sslmode=verify-full": {
			"host": "127.0.0.1:1,other:2", "database": "shop", "user": "app", "sslmode": "verify-full", "target_session_attrs": "primary",
		},
		"postgres://app@localhost/shop?sslmode=prefer":      {"host": "localhost:5432", "sslmode": "prefer", "target_session_attrs": "any"},
		"postgres://app@localhost/shop?sslmode=allow":       {"sslmode": "allow"},
		"postgres://app@localhost/shop?sslmode=require":     {"sslmode": "require"},
		"postgres://app@localhost/shop?sslmode=verify-ca":   {"sslmode": "verify-ca"},
		"postgres://app@localhost/shop?sslmode=disable":     {"sslmode": "disable"},
		"postgres://app@/shop?host=/nowhere&sslmode=prefer": {"host": "/nowhere:5432"},
	} {
		h := pgprod.DebugHandler(openPool(t, dsn, pgprod.WithLogger(slog.New(slog.DiscardHandler))))
		all := pools(t, h)
		got := map[string]string{}
		for _, s := range all[0].Snapshot.Settings {
			if _, wanted := want[s.Key]; wanted {
				got[s.Key] = s.Value
				assert.Equal(t, "connection", s.Source)
			}
		}
		assert.Equal(t, want, got, dsn)
		assert.NotContains(t, fmt.Sprint(all), "s3cret")
	}
}

func TestTheLivePageOfAClosedPoolSaysSo(t *testing.T) {
	t.Parallel()
	db, err := sql.Open(pgprod.DriverName, pgtest.NewDatabase(t))
	require.NoError(t, err)
	h := pgprod.DebugHandler(db)
	require.NoError(t, db.Close())
	got := pools(t, h)[0]
	assert.Equal(t, "unhealthy", got.Health.Status)
	assert.Contains(t, got.Health.Reason, "closed")
	pgprod.DebugHandler(db) // of a pool that is closed already
}
