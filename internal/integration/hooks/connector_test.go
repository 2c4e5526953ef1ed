package hooks

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// instance is the name of an instance, which is no host's name.
const instance = "project:region:shop"

// A connector emulates a cloud provider's (Cloud SQL's, AlloyDB's): it finds the instance by a name that no resolver knows,
// and connects by TLS of its own, with a client's certificate, to a proxy before the server. Its Dial has the signature of
// cloud.google.com/go/cloudsqlconn.
type connector struct {
	proxy  string      // its address
	config *tls.Config // that the connector uses
	dials  atomic.Int32
}

// newConnector starts a proxy before a server, and returns a connector to it.
func newConnector(t *testing.T, server *pgtest.Server) *connector {
	t.Helper()
	ca, err := pgtest.NewCA()
	require.NoError(t, err)
	authorities := x509.NewCertPool()
	require.True(t, authorities.AppendCertsFromPEM(ca.PEM()))
	pair := func(name string) []tls.Certificate {
		cert, key, err := ca.Issue([]string{name}, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
		require.NoError(t, err)
		certificate, err := tls.X509KeyPair(cert, key)
		require.NoError(t, err)
		return []tls.Certificate{certificate}
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: pair("proxy.invalid"), ClientCAs: authorities, ClientAuth: tls.RequireAndVerifyClientCert,
	})
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		serve(listener, func(c net.Conn) {
			if upstream, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", server.Port())); err == nil {
				relay(c, upstream)
			}
		})
	})
	t.Cleanup(func() {
		require.NoError(t, listener.Close())
		serving.Wait()
	})
	return &connector{proxy: listener.Addr().String(),
		config: &tls.Config{ServerName: "proxy.invalid", RootCAs: authorities, Certificates: pair("client")}}
}

// Dial connects to an instance by its name.
func (c *connector) Dial(ctx context.Context, name string) (net.Conn, error) {
	if name != instance {
		return nil, fmt.Errorf("no instance %q", name)
	}
	c.dials.Add(1)
	return (&tls.Dialer{Config: c.config}).DialContext(ctx, "tcp", c.proxy)
}

func TestAConnectorOfACloudProvidersMakesTheConnections(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	cloud := newConnector(t, server)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return cloud.Dial(ctx, instance) }
	db := open(t, "host=shop.db.invalid user=postgres dbname=postgres sslmode=disable pool_size=3 command_timeout=2s",
		pgprod.WithDialFunc(dial))
	work(t, db, server)
	assert.Greater(t, cloud.dials.Load(), int32(3))
	require.Equal(t, "healthy", string(pgprod.Check(t.Context(), db).Status))
}

func TestTLSOfTheDSNsRunsInsideThatOfAConnector(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{TLS: &pgtest.TLS{}})
	cloud := newConnector(t, server)
	db := open(t, "host=shop.db.invalid user=postgres dbname=postgres sslmode=require pool_size=3 command_timeout=2s",
		pgprod.WithDialFunc(func(ctx context.Context, _, _ string) (net.Conn, error) { return cloud.Dial(ctx, instance) }))
	assert.True(t, get[bool](t, db, "select ssl from pg_stat_ssl where pid = pg_backend_pid()"))
	work(t, db, server)
}
