package pool

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/hosts"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/settings"
)

// patience is how long a test waits for what must happen at some time.
const patience = 30 * time.Second

// brisk is a pace at which a test needn't wait for long.
var brisk = pace{
	step: 20 * time.Millisecond, look: 50 * time.Millisecond, missing: 300 * time.Millisecond, forget: time.Minute,
	proof: hosts.Proof{Within: 20 * time.Second},
}

// sessions is the driver.Connector of a pool.
type sessions struct{ *Pool }

func (s sessions) Connect(context.Context) (driver.Conn, error) { return s.Session(), nil }
func (s sessions) Driver() driver.Driver                        { return stdlib.GetDefaultDriver() }

// briskly opens a pool whose connections move briskly.
func briskly(t *testing.T, given settings.Given, dsn string) (*Pool, *sql.DB) {
	t.Helper()
	cfg, err := settings.LoadGiven(given, dsn, nil, settings.Values{}, "")
	require.NoError(t, err)
	p, err := New(cfg, Hooks{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	require.NoError(t, err)
	p.moving = newMoving(p.dialer, brisk)
	db := sql.OpenDB(sessions{p})
	t.Cleanup(func() {
		assert.NoError(t, db.Close())
		assert.NoError(t, p.Close())
	})
	return p, db
}

// hold borrows n connections until release is called.
func hold(t *testing.T, db *sql.DB, n int) (release func()) {
	t.Helper()
	conns := make([]*sql.Conn, n)
	for i := range conns {
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		require.NoError(t, conn.PingContext(t.Context()))
		conns[i] = conn
	}
	return func() {
		for _, conn := range conns {
			require.NoError(t, conn.Close())
		}
	}
}

// port is that of the server that the next statement reaches.
func port(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRowContext(t.Context(), "select inet_server_port()").Scan(&n))
	return n
}

func address(s *pgtest.Server) string { return net.JoinHostPort(s.Host(), strconv.Itoa(s.Port())) }

// two are two servers that know nothing of each other.
func two(t *testing.T) (a, b *pgtest.Server) {
	t.Helper()
	return pgtest.StartTB(t, pgtest.Config{}), pgtest.StartTB(t, pgtest.Config{})
}

func TestConnectionsGoBackAFewAtATimeToAHostThatIsBack(t *testing.T) {
	t.Parallel()
	preferred, other := two(t)
	require.NoError(t, preferred.Shutdown(t.Context(), pgtest.Fast))
	p, db := briskly(t, settings.Given{},
		"postgres://postgres@"+address(preferred)+","+address(other)+"/postgres?sslmode=disable&pool_size=20")
	const n = 20
	db.SetMaxIdleConns(n)
	hold(t, db, n)()
	require.Equal(t, other.Port(), port(t, db))
	lent := hold(t, db, n/2)

	require.NoError(t, preferred.Resume(t.Context()))
	moved := func() int64 { return p.Status().Closed["moved"] }
	pgtest.Eventually(t, patience, func() bool { return moved() >= n/2 }, "the idle ones")
	assert.EqualValues(t, n/2, moved(), "those that are lent stay until they are given back")
	lent()
	pgtest.Eventually(t, patience, func() bool {
		hold(t, db, n)()
		return moved() == n
	})
	assert.Equal(t, preferred.Port(), port(t, db))
	assert.Equal(t, map[string]int64{"moved": n}, p.Status().Closed)
}

func TestAStepMovesATenthOfTheConnections(t *testing.T) {
	t.Parallel()
	preferred, other := two(t)
	require.NoError(t, preferred.Shutdown(t.Context(), pgtest.Fast))
	p, db := briskly(t, settings.Given{},
		"postgres://postgres@"+address(preferred)+","+address(other)+"/postgres?sslmode=disable&pool_size=20")
	p.moving.stop() // the test makes the steps
	hold(t, db, 20)()
	require.NoError(t, preferred.Resume(t.Context()))
	pgtest.Eventually(t, patience, func() bool { return p.dialer.Hosts().Hosts()[0].Status().State == hosts.Up })
	for _, moved := range []int64{2, 3, 4, 5} { // of 20, of 18, of 17, of 16
		p.move()
		assert.Equal(t, moved, p.Status().Closed["moved"])
	}
}

// A moving name leads to one server, and later to another.
type movingName struct{ to atomic.Pointer[pgtest.Server] }

func (n *movingName) given(t *testing.T, to *pgtest.Server) settings.Given {
	t.Helper()
	n.to.Store(to)
	cc, err := pgx.ParseConfig("postgres://postgres@moving.pgtest.example/postgres?sslmode=disable")
	require.NoError(t, err)
	cc.LookupFunc = func(context.Context, string) ([]string, error) { return []string{address(n.to.Load())}, nil }
	return settings.Given{Conn: cc}
}

func TestConnectionsFollowANameThatLeadsElsewhere(t *testing.T) {
	t.Parallel()
	old, next := two(t)
	var name movingName
	p, db := briskly(t, name.given(t, old), "")
	hold(t, db, 5)()
	require.Equal(t, old.Port(), port(t, db))

	name.to.Store(next)
	moved := func() int64 { return p.Status().Closed["moved"] }
	pgtest.Eventually(t, patience, func() bool { return moved() == 5 })
	assert.Equal(t, next.Port(), port(t, db))
	assert.Equal(t, map[string]int64{"moved": 5}, p.Status().Closed)
	assert.Zero(t, p.Status().FailedConnects)
}

func TestNobodyLeavesAServerForANameThatLeadsNowhere(t *testing.T) {
	t.Parallel()
	old, next := two(t)
	require.NoError(t, next.Shutdown(t.Context(), pgtest.Fast))
	var name movingName
	p, db := briskly(t, name.given(t, old), "")
	hold(t, db, 3)()
	p.moving.stop() // the test makes the steps
	name.to.Store(next)
	began := time.Now()
	for time.Since(began) < 3*brisk.missing {
		p.move()
		require.Equal(t, old.Port(), port(t, db))
	}
	require.NotEmpty(t, p.moving.tried, "it was found out that nothing is there")
	assert.Empty(t, p.Status().Closed)

	require.NoError(t, next.Resume(t.Context()))
	pgtest.Eventually(t, patience, func() bool { p.move(); return p.Status().Closed["moved"] == 3 })
	assert.Equal(t, next.Port(), port(t, db))
}
