//go:build linux

package lab

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/lab/netlab"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// A cluster is three servers on hosts of their own. The first is the primary, and the others are its standbys, which follow it by
// the network.
type cluster struct {
	hosts   [3]*netlab.Host
	servers [3]*pgtest.Server
}

// A setup says what a cluster is like.
type setup struct {
	// confirmed lets a COMMIT wait until the second server has it. What was acknowledged is then on that one, so that whatever
	// is missing there was lost by the client.
	confirmed bool
	slow      bool // the hosts' wires can have a delay
}

// newCluster starts a cluster, which ends with the test.
func newCluster(t *testing.T, s setup) *cluster {
	t.Helper()
	network, err := netlab.New()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, network.Close()) })
	connect := network.Host
	if s.slow {
		connect = network.SlowHost
	}
	c := &cluster{}
	for i := range c.hosts {
		c.hosts[i], err = connect()
		require.NoError(t, err)
		c.start(t, i)
	}
	if s.confirmed {
		require.NoError(t, c.servers[0].Exec(t.Context(), "alter system set synchronous_standby_names = 'second'"))
		require.NoError(t, c.servers[0].Exec(t.Context(), "select pg_reload_conf()"))
	}
	require.NoError(t, c.servers[0].Exec(t.Context(), "create table ledger (id bigint)")) // without a key: doubles are to be seen
	for _, standby := range c.servers[1:] {
		require.NoError(t, standby.CatchUp(t.Context()))
	}
	return c
}

// names are what the servers call themselves when they follow another.
var names = [3]string{"first", "second", "third"}

func (c *cluster) start(t *testing.T, i int) {
	t.Helper()
	settings := map[string]string{
		"cluster_name": names[i], "wal_retrieve_retry_interval": "100ms", "synchronous_commit": "on", "max_connections": "300",
	}
	c.servers[i] = pgtest.StartTB(t, pgtest.Config{
		Address: c.hosts[i].Address(), Network: c.hosts[i], Settings: settings, StandbyOf: c.servers[0],
	})
}

// dsn names the hosts in this order, for whichever of them is the primary.
func (c *cluster) dsn(order ...int) string { return c.dsnFor("read-write", order...) }

func (c *cluster) dsnFor(attrs string, order ...int) string {
	if len(order) == 0 {
		order = []int{0, 1, 2}
	}
	var addresses []string
	for _, i := range order {
		addresses = append(addresses, net.JoinHostPort(c.hosts[i].Address(), "5432"))
	}
	return "postgres://postgres@" + strings.Join(addresses, ",") + "/postgres?sslmode=disable&target_session_attrs=" + attrs
}

// set says what becomes of the packets of a host.
func (c *cluster) set(t *testing.T, host int, w netlab.Wire) {
	t.Helper()
	require.NoError(t, c.hosts[host].Set(w))
}

// promote makes the second server the primary.
func (c *cluster) promote(t *testing.T) {
	t.Helper()
	begin := time.Now()
	require.NoError(t, c.servers[1].Promote(t.Context()))
	t.Logf("promoted within %v", time.Since(begin).Round(time.Millisecond))
}

// rows counts the rows of each call in the ledger of a server.
func (c *cluster) rows(t *testing.T, server int) map[int64]int {
	t.Helper()
	conn, err := c.servers[server].Admin(t.Context())
	require.NoError(t, err)
	defer func() { assert.NoError(t, conn.Close(context.Background())) }()
	rows, err := conn.Query(t.Context(), "select id, count(*) from ledger group by id")
	require.NoError(t, err)
	counts := map[int64]int{}
	for rows.Next() {
		var id int64
		var n int
		require.NoError(t, rows.Scan(&id, &n))
		counts[id] = n
	}
	require.NoError(t, rows.Err())
	return counts
}
