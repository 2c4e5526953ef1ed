package hooks

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// inside is a name that only the bastion resolves.
const inside = "db.inside.invalid"

// A bastion is a server of SSH's that forwards connections (direct-tcpip) to a PostgreSQL.
type bastion struct {
	config   *ssh.ServerConfig
	database string // its address
	forwards atomic.Int32
}

// startBastion starts a bastion and returns it with a client that has logged in.
func startBastion(t *testing.T, server *pgtest.Server) (*bastion, *ssh.Client) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	key, err := ssh.NewSignerFromKey(private)
	require.NoError(t, err)
	b := &bastion{config: &ssh.ServerConfig{NoClientAuth: true}, database: fmt.Sprintf("127.0.0.1:%d", server.Port())}
	b.config.AddHostKey(key)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() { serve(listener, b.handle) })
	client, err := ssh.Dial("tcp", listener.Addr().String(), &ssh.ClientConfig{
		User: "tunnel", HostKeyCallback: ssh.FixedHostKey(key.PublicKey()), Timeout: patience,
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = client.Close()
		require.NoError(t, listener.Close())
		serving.Wait()
	})
	return b, client
}

// handle serves one connection of SSH's.
func (b *bastion) handle(c net.Conn) {
	conn, channels, requests, err := ssh.NewServerConn(c, b.config)
	if err != nil {
		return
	}
	defer conn.Close()
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { ssh.DiscardRequests(requests) })
	for channel := range channels {
		all.Go(func() { b.forward(channel) })
	}
}

// forward serves a direct-tcpip channel (RFC 4254, 7.2).
func (b *bastion) forward(offered ssh.NewChannel) {
	var to struct {
		Host   string
		Port   uint32
		Origin string
		From   uint32
	}
	err := ssh.Unmarshal(offered.ExtraData(), &to)
	if err != nil || offered.ChannelType() != "direct-tcpip" || to.Host != inside || to.Port != 5432 {
		_ = offered.Reject(ssh.ConnectionFailed, fmt.Sprintf("no way to %s:%d", to.Host, to.Port))
		return
	}
	b.forwards.Add(1)
	upstream, err := net.Dial("tcp", b.database)
	if err != nil {
		_ = offered.Reject(ssh.ConnectionFailed, "the database is down")
		return
	}
	channel, requests, err := offered.Accept()
	if err != nil {
		_ = upstream.Close()
		return
	}
	var all sync.WaitGroup
	all.Go(func() { ssh.DiscardRequests(requests) })
	relay(struct{ io.ReadWriteCloser }{channel}, upstream)
	all.Wait()
}

func TestATunnelOfSSHCarriesAllConnections(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	bastion, client := startBastion(t, server)
	db := open(t, "host="+inside+" user=postgres dbname=postgres sslmode=disable pool_size=3 command_timeout=2s",
		pgprod.WithDialFunc(client.DialContext))
	work(t, db, server)
	assert.Greater(t, bastion.forwards.Load(), int32(3))
	require.Equal(t, "healthy", string(pgprod.Check(t.Context(), db).Status))
}

// A channel of SSH's has no deadlines, so pgx alone would wait for ever.
func TestAServerThatFallsSilentBehindATunnelHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	_, client := startBastion(t, server)
	c, err := client.DialContext(t.Context(), "tcp", inside+":5432")
	require.NoError(t, err)
	require.Error(t, c.SetDeadline(time.Now()), "a channel of SSH's has deadlines now: wire.Pump may not be needed any more")
	require.NoError(t, c.Close())

	db := open(t, "host="+inside+" user=postgres dbname=postgres sslmode=disable pool_size=1 max_overflow=0 command_timeout=1s pool_timeout=5s",
		pgprod.WithDialFunc(client.DialContext))
	require.NoError(t, db.Ping())
	require.NoError(t, server.Freeze())
	_, err = db.ExecContext(context.Background(), "select 1")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, server.Thaw())
	pgtest.Eventually(t, patience, func() bool { return db.Ping() == nil }, "the pool doesn't recover")
}

func TestATunnelThatIsLostIsMadeAnewByItsOwner(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	_, first := startBastion(t, server)
	_, second := startBastion(t, server)
	var tunnel atomic.Pointer[ssh.Client]
	tunnel.Store(first)
	db := open(t, "host="+inside+" user=postgres dbname=postgres sslmode=disable pool_size=2",
		pgprod.WithDialFunc(func(ctx context.Context, network, addr string) (net.Conn, error) {
			return tunnel.Load().DialContext(ctx, network, addr)
		}))
	assert.Equal(t, 1, get[int](t, db, "select 1"))
	tunnel.Store(second)
	require.NoError(t, first.Close())
	var one int // repeatable, as the end of the tunnel may be noticed only when the statement is written
	require.NoError(t, db.QueryRowContext(pgprod.ContextRepeatable(t.Context()), "select 1").Scan(&one))
	assert.Equal(t, 1, get[int](t, db, "select 1"))
}
