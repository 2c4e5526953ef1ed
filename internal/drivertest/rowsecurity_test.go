package drivertest

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// withTenant has each statement under the context of a request run for that request's tenant. tenant must return what was
// verified, as from a signed token.
func withTenant(next http.Handler, tenant func(*http.Request) string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := pgprod.ContextWithSettings(r.Context(), map[string]string{"app.tenant": tenant(r)})
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// addOrder adds an order of the tenant's, and returns how many there are now.
func addOrder(ctx context.Context, db *sql.DB, item string) (n int, err error) {
	err = pgprod.InTx(ctx, db, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "insert into orders (item) values ($1)", item); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, "select count(*) from orders").Scan(&n) // of this tenant
	})
	return n, err
}

// rowSecurity is the manual's section.
func rowSecurity(t *testing.T) string {
	return section(t, rootFile(t, "internal/docs/sessions.md"), "Row-level security")
}

func TestTheManualsMiddlewareIsTheOneThatIsTested(t *testing.T) {
	require.Contains(t, rootFile(t, "internal/drivertest/rowsecurity_test.go"), "\n"+block(t, rowSecurity(t), "go"))
}

func TestTheManualsRowLevelSecurityKeepsTenantsApart(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	require.NoError(t, server.Exec(t.Context(), block(t, rowSecurity(t), "sql")))
	db := openPool(t, oneConn(strings.Replace(server.DSN(""), "postgres@", "app@", 1)))
	require.Equal(t, "app", get[string](t, db, "select current_user"))
	_, err := addOrder(t.Context(), db, "pear")
	requireCode(t, err, "42501") // no tenant, in a session that has never heard of the setting

	service := withTenant(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := addOrder(r.Context(), db, "apple")
		assert.NoError(t, err)
		var seen int
		assert.NoError(t, db.QueryRowContext(r.Context(), "select count(*) from orders where $1", true).Scan(&seen))
		fmt.Fprint(w, n, " ", seen)
	}), func(r *http.Request) string { return r.URL.Query().Get("tenant") })
	for _, request := range []struct{ tenant, answer string }{{"a", "1 1"}, {"a", "2 2"}, {"b", "1 1"}, {"a", "3 3"}, {"b", "2 2"}} {
		answer := httptest.NewRecorder()
		service.ServeHTTP(answer, httptest.NewRequest("GET", "/?tenant="+request.tenant, nil))
		assert.Equal(t, request.answer, answer.Body.String())
	}

	assert.Zero(t, get[int](t, db, "select count(*) from orders"), "without a tenant")
	_, err = db.Exec("insert into orders (tenant, item) values ($1, 'pear')", "a")
	requireCode(t, err, "42501")
	_, err = db.ExecContext(tenantCtx(t, "b"), "insert into orders (tenant, item) values ($1, 'pear')", "a")
	requireCode(t, err, "42501")
	require.NoError(t, server.Exec(t.Context(), "create role jobs login; grant select on orders to jobs; create policy of_jobs on orders to jobs using (true)"))
	jobs := openPool(t, strings.Replace(server.DSN(""), "postgres@", "jobs@", 1))
	assert.Equal(t, 5, get[int](t, jobs, "select count(*) from orders"))
	require.NoError(t, server.Exec(t.Context(), "alter table orders owner to app"))
	assert.Zero(t, get[int](t, db, "select count(*) from orders"), "its owner")
	kept := context.WithoutCancel(tenantCtx(t, "a"))
	var n int
	require.NoError(t, db.QueryRowContext(kept, "select count(*) from orders").Scan(&n))
	assert.Equal(t, 3, n)
}
