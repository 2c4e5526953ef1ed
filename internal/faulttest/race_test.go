package faulttest

import (
	"context"
	"fmt"

	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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
			require.ErrorIs(t, err, context.DeadlineExceeded)
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
