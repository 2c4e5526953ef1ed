package dropin

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// Tenant returns a context whose statements are those of a tenant.
func Tenant(ctx context.Context, id string) context.Context {
	return pgprod.ContextWithSettings(ctx, map[string]string{"app.tenant": id})
}

// TenantsDatabase makes a database for Divide, and returns the DSN for a role that row-level security holds for.
func TenantsDatabase(t testing.TB) string {
	t.Helper()
	dsn := pgtest.NewDatabase(t)
	asAdmin(t, dsn, `
		do $$ begin
			create role tenants login nosuperuser nobypassrls;
		exception when duplicate_object or unique_violation then null; end $$;
		grant create on schema public to tenants`)
	return pgtest.With(dsn, "user", "tenants")
}

// Divide divides each table of the database among tenants: a statement sees, writes and changes only the rows of the tenant
// that the setting app.tenant names, and none without it. That holds for the tables' owner, too. The column that says whose
// a row is has the statement's tenant as its default, and no library knows of it.
//
// A parameter that was set in a session for a while is the empty string in it from then on, not null. The policy must not
// take that for a tenant, or rows that are inserted without one would be everybody's who has none either.
func Divide(t testing.TB, dsn string) {
	t.Helper()
	asAdmin(t, pgtest.With(dsn, "user", "postgres"), `
		do $$ declare name text; begin
			for name in select tablename from pg_tables where schemaname = 'public' loop
				execute format('alter table %I add tenant text default current_setting(''app.tenant'', true)', name);
				execute format('alter table %I enable row level security, force row level security', name);
				execute format('create policy own on %I using (tenant = nullif(current_setting(''app.tenant'', true), ''''))', name);
			end loop;
		end $$`)
}

// asAdmin runs statements by pgx.
func asAdmin(t testing.TB, dsn, statements string) {
	t.Helper()
	admin, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	_, err = admin.Exec(t.Context(), statements)
	require.NoError(t, err)
	require.NoError(t, admin.Close(t.Context()))
}

// Tenants are the two that share a pool.
var Tenants = []string{"A", "B"}

// tenants has eight workers of two tenants share three connections. Whatever they do, they see all rows of their own and
// none of the other's; and who is no tenant sees nothing.
func tenants(t *testing.T, open func(testing.TB, string) Client) {
	const workers, rounds = 8, 6
	dsn := TenantsDatabase(t)
	c := open(t, pgtest.With(dsn, "pool_size", "3", "max_overflow", "0"))
	Divide(t, dsn)
	errs := make([]error, workers)
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() { // ends after its rounds
			for round := range rounds {
				errs[i] = errors.Join(errs[i], c.asTenant(t, Tenants[i%2], fmt.Sprintf("%d.%d", i, round)))
			}
		})
	}
	all.Wait()
	require.NoError(t, errors.Join(errs...))
	for _, tenant := range Tenants {
		names, err := c.Names(Tenant(t.Context(), tenant))
		require.NoError(t, err)
		require.Len(t, names, 2*rounds*workers/2, tenant)
	}
	requireNames(t, c)
}

// asTenant inserts two rows whose names begin with the tenant, one of them in a transaction, and a third that is rolled
// back. It checks that no name that it reads begins with another one's, and that nothing is to be read without a tenant.
func (c Client) asTenant(t testing.TB, tenant, name string) error {
	ctx := Tenant(t.Context(), tenant)
	changedMind := errors.New("changed my mind")
	if err := c.Insert(ctx, tenant+name); err != nil {
		return err
	}
	err := c.InTx(ctx, func(insert func(string) error) error { return insert(tenant + name + " in a transaction") })
	if err != nil {
		return err
	}
	err = c.InTx(ctx, func(insert func(string) error) error { return errors.Join(insert(tenant+name+" undone"), changedMind) })
	if !errors.Is(err, changedMind) {
		return err
	}
	names, err := c.Names(ctx)
	own := 0
	for _, read := range names {
		if read[:1] != tenant {
			err = errors.Join(err, fmt.Errorf("%s sees %s", tenant, read))
		}
		if read == tenant+name || read == tenant+name+" in a transaction" {
			own++
		}
	}
	if own != 2 {
		err = errors.Join(err, fmt.Errorf("%s sees %d rows of %s, not 2", tenant, own, name))
	}
	names, noTenant := c.Names(t.Context())
	if len(names) > 0 {
		err = errors.Join(err, fmt.Errorf("without a tenant %v are seen", names))
	}
	// A row without a tenant would be nobody's, which the policy refuses.
	if c.Insert(t.Context(), tenant+name+" of nobody") == nil {
		err = errors.Join(err, errors.New("without a tenant a row can be inserted"))
	}
	return errors.Join(err, noTenant)
}
