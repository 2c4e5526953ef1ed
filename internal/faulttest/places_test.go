package faulttest

import (
	"context"
	"database/sql"
	"net"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// A name is the one host of a DSN, which leads to one server and later perhaps to another.
type name struct{ server atomic.Pointer[pgtest.Server] }

// lookup is the LookupFunc of the pools that use the name.
func (n *name) lookup(context.Context, string) ([]string, error) {
	s := n.server.Load()
	return []string{net.JoinHostPort(s.Host(), strconv.Itoa(s.Port()))}, nil
}

// newNamed opens a pool whose DSN names one host, and the name, which leads to the server.
func newNamed(t *testing.T, server *pgtest.Server, opts ...pgprod.Option) (client, *name) {
	t.Helper()
	n := &name{}
	n.server.Store(server)
	cc, err := pgx.ParseConfig("postgres://postgres@moving.pgtest.example/postgres?sslmode=disable")
	require.NoError(t, err)
	cc.LookupFunc = n.lookup
	return newClient(t, "", append(opts, pgprod.WithConnConfig(cc))...), n
}

// hold borrows n connections until release is called, and returns their backends.
func hold(t *testing.T, db *sql.DB, n int) (pids []uint32, release func()) {
	t.Helper()
	conns := make([]*sql.Conn, n)
	for i := range conns {
		conn, err := db.Conn(context.Background())
		require.NoError(t, err)
		conns[i] = conn
		pids = append(pids, get[uint32](t, conn, "select pg_backend_pid()"))
	}
	return pids, func() {
		for _, conn := range conns {
			require.NoError(t, conn.Close())
		}
	}
}

func TestALossAtOneAddressOfANameReplacesNoConnectionToAnother(t *testing.T) {
	t.Parallel()
	lost, kept := pgtest.StartTB(t, pgtest.Config{}), pgtest.StartTB(t, pgtest.Config{})
	c, name := newNamed(t, lost)
	_, releaseLost := hold(t, c.DB, 3)
	name.server.Store(kept)
	pids, releaseKept := hold(t, c.DB, 2)
	releaseLost()
	releaseKept()

	require.NoError(t, lost.Restart(t.Context(), pgtest.Fast))
	now := fill(t, c.DB, 5)
	pgtest.Eventually(t, patience, func() bool { return c.status().Closed["invalid"] == 3 })
	assert.Subset(t, now, pids, "those to the other address")
	assert.Equal(t, map[string]int64{"invalid": 3}, c.status().Closed)
}
