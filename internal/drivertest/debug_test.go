package drivertest

import (
	"database/sql"
	"encoding/json"
	"io"
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
