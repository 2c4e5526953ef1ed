package faulttest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// TestAHostThatIsFullIsNotDown: it serves the connections that it has, and the next host takes the others.
func TestAHostThatIsFullIsNotDown(t *testing.T) {
	t.Parallel()
	primary, standby := twoServers(t, nil)
	require.NoError(t, primary.Exec(t.Context(), "create role app login connection limit 2"))
	require.NoError(t, standby.CatchUp(t.Context()))
	require.NoError(t, standby.Exec(t.Context(), "select 1 from pg_roles where rolname = 'app'"))
	full := openPool(t, with(hostsDSN("any", primary), "user", "app"))
	fill(t, full, 2)

	c := newClient(t, with(hostsDSN("any", primary, standby), "user", "app"))
	assert.Equal(t, standby.Port(), c.count("select inet_server_port()"))
	pgtest.Eventually(t, patience, func() bool { return c.host(0).State != "unknown" || c.host(1).State == "up" })
	assert.NotEqual(t, "down", c.host(0).State)
	assert.Zero(t, c.status().FailedConnects)
}
