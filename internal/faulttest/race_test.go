package faulttest

import (
	"context"
	"errors"
	"fmt"

	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// dialTimeout is the connect_timeout of pools whose dials must not wait for it: whoever does is found out.
const dialTimeout = 5 * time.Minute

// severalHosts is a DSN for the same database at several addresses, in this order. The keys and values are added.
func severalHosts(t testing.TB, dsn string, addresses []string, more ...string) string {
	t.Helper()
	scheme, rest, ok := strings.Cut(dsn, "@")
	require.True(t, ok, dsn)
	_, path, ok := strings.Cut(rest, "/")
	require.True(t, ok, dsn)
	return with(scheme+"@"+strings.Join(addresses, ",")+"/"+path, append([]string{"connect_timeout", dialTimeout.String()}, more...)...)
}

// proxies are n ways to the same database.
func proxies(t testing.TB, dsn string, n int) (all []*faultproxy.Proxy, addresses []string) {
	t.Helper()
	for range n {
		p := faultproxy.StartTB(t, dsn)
		all, addresses = append(all, p), append(addresses, p.Addr().String())
	}
	return all, addresses
}

// swallowing is an address to which a connection can't be made, and that doesn't say so: its queue of new connections is full.
func swallowing(t testing.TB) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, syscall.Close(fd)) })
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, syscall.Listen(fd, 0))
	name, err := syscall.Getsockname(fd)
	require.NoError(t, err)
	addr := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*syscall.SockaddrInet4).Port}).String()
	for { // until one isn't accepted
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		cancel()
		if err != nil {
			var late net.Error
			require.ErrorAs(t, err, &late)
			require.True(t, late.Timeout(), "%v", err)
			return addr
		}
		t.Cleanup(func() { assert.NoError(t, c.Close()) })
	}
}

// timed calls f, which must succeed, and logs how long it took.
func timed(t testing.TB, what string, f func() error) time.Duration {
	t.Helper()
	start := time.Now()
	require.NoError(t, f(), what)
	took := time.Since(start)
	t.Logf("%s: %v", what, took.Round(time.Millisecond))
	return took
}

func TestADeadHostCostsTheFirstDialAMomentAndTheNextOnesNothing(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(*testing.T, *faultproxy.Proxy) (address string, touched func() int){
		"it accepts, and says nothing": func(_ *testing.T, p *faultproxy.Proxy) (string, func() int) {
			p.SilenceNew(true)
			return p.Addr().String(), func() int { return p.Stats().Accepted }
		},
		"packets vanish": func(t *testing.T, p *faultproxy.Proxy) (string, func() int) {
			return swallowing(t), func() int { return 0 }
		},
		"it refuses": func(t *testing.T, p *faultproxy.Proxy) (string, func() int) {
			require.NoError(t, p.Refuse())
			return p.Addr().String(), func() int { return 0 }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.NewDatabase(t)
			all, addresses := proxies(t, dsn, 3)
			address, touched := make(t, all[0])
			addresses[0] = address
			const more = 40
			db := openPool(t, severalHosts(t, dsn, addresses, "pool_size", fmt.Sprint(more)))
			timed(t, "the first dial", db.Ping)
			require.LessOrEqual(t, 1, all[1].Stats().Accepted)
			timed(t, fmt.Sprint(more-1, " more"), func() error { fill(t, db, more); return nil })
			assert.GreaterOrEqual(t, all[1].Stats().Accepted, more)
			const scouts = more / 4 // it asks in the background as well, now and then
			assert.Less(t, touched(), scouts, "later dials leave the dead host alone")
			assert.Less(t, all[2].Stats().Accepted, scouts, "there is no need for a third host")
		})
	}
}

func TestADialsContextEndsAllItsAttempts(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	all, addresses := proxies(t, dsn, 3)
	for _, p := range all {
		p.SilenceNew(true)
	}
	db := openPool(t, severalHosts(t, dsn, addresses, "pool_timeout", "2s"))
	require.ErrorContains(t, db.Ping(), "no connection became free")
	for _, p := range all {
		assert.NotZero(t, p.Stats().Accepted, "each is asked")
	}
	require.NoError(t, db.Close())
	pgtest.Eventually(t, patience, func() bool {
		return all[0].Stats().Open+all[1].Stats().Open+all[2].Stats().Open == 0
	}, "what was begun ends with the pool")
}

func TestHooksAndSettingsAreForTheWinnerOnly(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	all, addresses := proxies(t, dsn, 2)
	all[0].DelayConnect(600 * time.Millisecond) // longer than a head start: the second host wins, the first one answers later
	var calls atomic.Int64
	db := openPool(t, severalHosts(t, dsn, addresses, "server_settings", "my.setting=x", "server_settings_mode", "set",
		"load_balance_hosts", "disable"),
		pgprod.WithAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
			calls.Add(1)
			var set string
			return conn.QueryRow(ctx, "select current_setting('my.setting')").Scan(&set)
		}))
	require.NoError(t, db.Ping())
	var late faultproxy.Stats
	pgtest.Eventually(t, patience, func() bool {
		late = all[0].Stats()
		return late.Startups > 0 && late.Messages['X'] == late.Startups && late.Open == 0
	}, "the late connection says goodbye")
	assert.Less(t, len(late.Statements), late.Startups, "nothing is set on it, other than on those by which the host is asked in the background")
	assert.Equal(t, int64(1), calls.Load())
}

func TestRandomOrderSpreadsTheConnections(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	all, addresses := proxies(t, dsn, 3)
	const n = 60
	fill(t, openPool(t, severalHosts(t, dsn, addresses, "load_balance_hosts", "random", "pool_size", fmt.Sprint(n))), n)
	for _, p := range all {
		t.Log(p.Stats().Accepted)
		assert.GreaterOrEqual(t, p.Stats().Accepted, 4)
	}
}

// hostsByName is a configuration whose names are resolved by lookup.
func hostsByName(t *testing.T, dsn, names string, lookup pgconn.LookupFunc) pgprod.Option {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	several, err := pgx.ParseConfig("host=" + names + " port=1 sslmode=disable user=" + cfg.User + " dbname=" + cfg.Database)
	require.NoError(t, err)
	several.LookupFunc = lookup
	return pgprod.WithConnConfig(several)
}

func TestAllAddressesOfANameAreUsed(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	all, addresses := proxies(t, dsn, 2)
	all[0].SilenceNew(true)
	var lookups atomic.Int64
	const n = 20
	db := openPool(t, "connect_timeout="+dialTimeout.String()+" pool_size="+fmt.Sprint(n),
		hostsByName(t, dsn, "db.example.com", func(context.Context, string) ([]string, error) {
			lookups.Add(1)
			return addresses, nil
		}))
	timed(t, "the first dial", db.Ping)
	timed(t, "19 more", func() error { fill(t, db, n); return nil })
	assert.Equal(t, 1, all[0].Stats().Accepted, "later dials leave the dead address alone")
	assert.GreaterOrEqual(t, lookups.Load(), int64(n), "each dial resolves the name")
}

func TestAHostWhoseNameIsNotKnownHarmsNoOther(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	all, addresses := proxies(t, dsn, 1)
	lookup := func(ctx context.Context, name string) ([]string, error) {
		switch name {
		case "gone.example.com":
			return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
		case "hangs.example.com":
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return addresses, nil
	}
	db := openPool(t, "connect_timeout="+dialTimeout.String(), hostsByName(t, dsn, "gone.example.com,hangs.example.com,db.example.com", lookup))
	timed(t, "the first dial", db.Ping)

	require.NoError(t, all[0].Refuse())
	db = openPool(t, "connect_timeout=1s pool_timeout=4s", hostsByName(t, dsn, "gone.example.com,db.example.com", lookup))
	err := db.Ping()
	require.ErrorContains(t, err, "lookup gone.example.com: no such host")
	require.ErrorContains(t, err, addresses[0]+" (db.example.com): dial error")
	assert.ErrorIs(t, err, syscall.ECONNREFUSED)
	_, named := errors.AsType[*net.DNSError](err)
	assert.True(t, named)
	_, connect := errors.AsType[*pgconn.ConnectError](err)
	assert.True(t, connect)
}

func TestAWrongPasswordEndsTheChainAsInPgx(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Password: "secret"})
	dsn := server.DSN("postgres")
	all, addresses := proxies(t, dsn, 2)
	all[1].SilenceNew(true) // whoever asks it as well waits for dialTimeout
	err := openPool(t, severalHosts(t, strings.Replace(dsn, "secret", "wrong", 1), addresses)).Ping()
	require.Equal(t, "28P01", sqlState(err), "%v", err)
}

// TestDialsGoOnWhileHostsComeAndGo has hosts fall silent, refuse and come back, while connections are made all the time.
func TestDialsGoOnWhileHostsComeAndGo(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	all, addresses := proxies(t, dsn, 3)
	db := openPool(t, severalHosts(t, dsn, addresses, "pool_size", "1", "max_overflow", "7", "pool_timeout", "1m",
		"pool_recycle", "20ms", "target_session_attrs", "primary"))
	done, ctx := make(chan struct{}), t.Context()
	go func() { // ends after its rounds
		defer close(done)
		for i := range 30 {
			p := all[i%3]
			switch i % 2 {
			case 0:
				p.SilenceNew(true)
				p.CloseAll(faultproxy.RST)
			default:
				assert.NoError(t, p.Refuse())
			}
			pause(ctx, 100*time.Millisecond)
			p.SilenceNew(false)
			if i%2 == 1 {
				assert.NoError(t, p.Admit())
			}
		}
	}()
	var workers sync.WaitGroup
	var visits atomic.Int64
	for range 8 {
		workers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if conn, err := db.Conn(ctx); assert.NoError(t, err) {
					if conn.PingContext(ctx) == nil {
						visits.Add(1)
					}
					assert.NoError(t, conn.Close())
				}
			}
		})
	}
	workers.Wait()
	require.NoError(t, db.Ping())
	t.Logf("%d visits, %d dials", visits.Load(), all[0].Stats().Startups+all[1].Stats().Startups+all[2].Stats().Startups)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
