package main

import (
	"context"

	"github.com/pgprod/pgprod"
)

// seesSettings adds to its parameter how long the settings are that it sees.
const seesSettings = "select $1::int + length(concat(current_setting('app.tenant', true), current_setting('app.user', true)))"

// querySettings queries with two settings of its context, as a service of many tenants does.
func querySettings(_ context.Context, c client) (op, error) {
	const tenant, user = "acme", "4711"
	settings := map[string]string{"app.tenant": tenant, "app.user": user}
	return func(ctx context.Context, _, _ int) error {
		n, err := c.query(pgprod.ContextWithSettings(ctx, settings), seesSettings, 7)
		return expect(seesSettings, n, 7+int64(len(tenant)+len(user)), err)
	}, nil
}
