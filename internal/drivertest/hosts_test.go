package drivertest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// Status, a probe's answer and the live page tell the same of a pool, under the same names.
func TestStatusHealthAndTheLivePageHaveTheSameNumbers(t *testing.T) {
	t.Parallel()
	db := openPool(t, pgtest.NewDatabase(t))
	fill(t, db, 2)
	require.Equal(t, "connected", pgprod.Check(t.Context(), db).Database) // its login is the last answer of the host's
	status, err := json.Marshal(statusOf(t, db))
	require.NoError(t, err)

	answer := httptest.NewRecorder()
	pgprod.HealthHandler(db).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	var probe struct{ Pool json.RawMessage }
	require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &probe))
	assert.JSONEq(t, string(status), string(probe.Pool))

	answer = httptest.NewRecorder()
	pgprod.DebugHandler(db).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/?format=json", nil))
	var pages []struct {
		Snapshot struct{ Status json.RawMessage }
	}
	require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &pages))
	require.Len(t, pages, 1)
	assert.JSONEq(t, string(status), string(pages[0].Snapshot.Status))
}
