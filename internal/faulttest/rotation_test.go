package faulttest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// Connections in these tests live for shortLife, so that those from before a rotation end while the test looks on.
const shortLife = time.Second

const rotationWorkers = 8

// withoutPassword is a server's DSN that leaves the password to a file or a function.
func withoutPassword(t *testing.T, s *pgtest.Server) string {
	t.Helper()
	u, err := url.Parse(s.DSN(""))
	require.NoError(t, err)
	u.User = url.User("postgres")
	return u.String()
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, content, 0o600))
}

// startReaders has workers read from the pool.
func startReaders(t *testing.T, c client) *crowd {
	return startCrowd(t, rotationWorkers, func(worker int) error {
		var n int
		return c.QueryRow("select $1::int", worker).Scan(&n)
	})
}

// awaitReplaced waits until the backends have gone, as their connections have reached their age.
func awaitReplaced(t *testing.T, s *pgtest.Server, old []pgtest.Backend) {
	t.Helper()
	pgtest.Eventually(t, patience, func() bool {
		now, err := s.Backends(t.Context())
		require.NoError(t, err)
		for _, b := range now {
			for _, o := range old {
				if o.PID == b.PID {
					return false
				}
			}
		}
		return true
	}, "connections from before the rotation end by their lifetime")
}

// awaitFailedDials waits until dialling has failed n more times.
func awaitFailedDials(t *testing.T, c client, n int64) {
	t.Helper()
	before := c.status().FailedConnects
	pgtest.Eventually(t, patience, func() bool { return c.status().FailedConnects >= before+n })
}

func TestAPasswordChangesUnderLoad(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "password")
	var value atomic.Value
	for name, way := range map[string]struct {
		opt pgprod.Option
		set func(t *testing.T, password string)
	}{
		"file": {pgprod.WithPasswordFile(file), func(t *testing.T, password string) { writeFile(t, file, []byte(password+"\n")) }},
		"func": {
			pgprod.WithPasswordFunc(func(context.Context) (string, error) { return value.Load().(string), nil }),
			func(_ *testing.T, password string) { value.Store(password) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := pgtest.StartTB(t, pgtest.Config{Password: "0"})
			way.set(t, "0")
			c := newClient(t, withoutPassword(t, server), way.opt, pgprod.WithPoolRecycle(shortLife))
			load := startReaders(t, c)
			load.advance(t, 10)
			for round := 1; round <= 2; round++ {
				old, err := server.Backends(t.Context())
				require.NoError(t, err)
				next := fmt.Sprint(round)
				// There is a moment when the two sides disagree, whichever is first. Only where no connection is left at all
				// would a wrong password fail statements at once, so one is in use meanwhile.
				conn, err := c.Conn(t.Context())
				require.NoError(t, err)
				require.NoError(t, conn.PingContext(t.Context()))
				if round%2 == 0 {
					way.set(t, next)
					awaitFailedDials(t, c, 2)
					require.NoError(t, server.SetPassword(t.Context(), next))
				} else {
					require.NoError(t, server.SetPassword(t.Context(), next))
					awaitFailedDials(t, c, 2)
					way.set(t, next)
				}
				load.advance(t, 10)
				require.NoError(t, conn.Close())
				awaitReplaced(t, server, old)
			}
			load.finish()
			assert.Empty(t, load.failures())
			s := c.status()
			assert.NotZero(t, s.Closed["lifetime"])
			assert.Zero(t, s.Closed["invalid"])
			t.Logf("%d statements, %d failed dials, connections closed: %v", load.rounds(), s.FailedConnects, s.Closed)
		})
	}
}

func TestAPasswordFileCaughtWhileItIsReplacedFailsNoStatement(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Password: "first"})
	file := filepath.Join(t.TempDir(), "password")
	writeFile(t, file, []byte("first"))
	c := newClient(t, withoutPassword(t, server), pgprod.WithPasswordFile(file), pgprod.WithPoolRecycle(shortLife))
	load := startReaders(t, c)
	load.advance(t, 10)
	for name, spoil := range map[string]func() error{
		"empty":   func() error { return os.Truncate(file, 0) },
		"missing": func() error { return os.Remove(file) },
		"NUL":     func() error { return os.WriteFile(file, make([]byte, 100), 0o600) }, // a file system's hole
	} {
		require.NoError(t, spoil(), name)
		awaitFailedDials(t, c, 1) // since connections end by their age
		writeFile(t, file, []byte("first"))
		load.advance(t, 10)
	}
	load.finish()
	assert.Empty(t, load.failures())

	// The same when there is no connection at all: the statement waits. A dial that the load has begun might bring one.
	pgtest.Eventually(t, patience, func() bool { return c.status().Connecting == 0 })
	require.NoError(t, os.Remove(file))
	require.NoError(t, server.TerminateAll(t.Context()))
	result := make(chan error, 1)
	go func() { result <- c.Ping() }() // ends when the file is back
	awaitFailedDials(t, c, 3)
	select {
	case err := <-result:
		t.Errorf("it didn't wait: %v", err)
	default:
	}
	writeFile(t, file, []byte("first"))
	require.NoError(t, <-result)
}

// certificates are those of a server and of its clients, on disk.
type certificates struct {
	t      *testing.T
	server *pgtest.Server
	dir    string // the client's
}

func (c certificates) client(name string) string { return filepath.Join(c.dir, name) }

// own is the path of one of the server's files.
func (c certificates) own(name string) string {
	return filepath.Join(filepath.Dir(c.server.CAFile()), name)
}

// issue writes a certificate and its key, one after the other, and returns its serial number.
func (c certificates) issue(ca *pgtest.CA, crt, key string, hosts ...string) string {
	c.t.Helper()
	cert, private, err := ca.Issue(hosts, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	require.NoError(c.t, err)
	writeFile(c.t, crt, cert)
	writeFile(c.t, key, private)
	block, _ := pem.Decode(cert)
	parsed, err := x509.ParseCertificate(block.Bytes)
	require.NoError(c.t, err)
	return parsed.SerialNumber.String()
}

func (c certificates) issueClient(ca *pgtest.CA) string {
	return c.issue(ca, c.client("client.crt"), c.client("client.key"), "postgres")
}

func (c certificates) issueServer(ca *pgtest.CA) string {
	c.t.Helper()
	defer c.reload()
	return c.issue(ca, c.own("server.crt"), c.own("server.key"), "127.0.0.1")
}

// trust makes both sides trust these authorities.
func (c certificates) trust(authorities ...*pgtest.CA) {
	c.t.Helper()
	var all [][]byte
	for _, ca := range authorities {
		all = append(all, ca.PEM())
	}
	bundle := bytes.Join(all, nil)
	writeFile(c.t, c.client("ca.crt"), bundle)
	writeFile(c.t, c.own("ca.crt"), bundle)
	c.reload()
}

func (c certificates) reload() {
	c.t.Helper()
	require.NoError(c.t, c.server.Exec(context.Background(), "select pg_reload_conf()"))
}

// shown are the serial numbers of the client's and of the server's certificate on some connection of the pool.
func shown(t *testing.T, c client) (client, server string) {
	t.Helper()
	require.NoError(t, pgprod.Raw(t.Context(), c.DB, func(conn *pgx.Conn) error {
		state := conn.PgConn().Conn().(*tls.Conn).ConnectionState()
		server = state.PeerCertificates[0].SerialNumber.String()
		return conn.QueryRow(t.Context(), "select client_serial::text from pg_stat_ssl where pid = pg_backend_pid()").Scan(&client)
	}))
	return client, server
}

// newCertificates starts a server that asks for certificates, and gives it and its clients those of an authority.
func newCertificates(t *testing.T) (certificates, *pgtest.CA, string) {
	t.Helper()
	ca, err := pgtest.NewCA()
	require.NoError(t, err)
	server := pgtest.StartTB(t, pgtest.Config{TLS: &pgtest.TLS{CA: ca}, HBA: []string{"hostssl all all 127.0.0.1/32 cert"}})
	files := certificates{t: t, server: server, dir: t.TempDir()}
	files.trust(ca)
	return files, ca, with(server.DSN(""), "sslrootcert", files.client("ca.crt"), "sslcert", files.client("client.crt"),
		"sslkey", files.client("client.key"))
}

func TestCertificatesChangeUnderLoad(t *testing.T) {
	t.Parallel()
	files, oldCA, dsn := newCertificates(t)
	newCA, err := pgtest.NewCA()
	require.NoError(t, err)
	clientSerial, serverSerial := files.issueClient(oldCA), files.issueServer(oldCA)
	c := newClient(t, dsn, pgprod.WithPoolRecycle(shortLife))
	load := startReaders(t, c)
	load.advance(t, 10)
	await := func() {
		t.Helper()
		pgtest.Eventually(t, patience, func() bool {
			client, server := shown(t, c)
			return client == clientSerial && server == serverSerial
		}, "new connections show the new certificates")
		old, err := files.server.Backends(t.Context())
		require.NoError(t, err)
		awaitReplaced(t, files.server, old)
		client, server := shown(t, c)
		assert.Equal(t, clientSerial, client)
		assert.Equal(t, serverSerial, server)
	}
	await()

	files.trust(oldCA, newCA) // as one does it: first the new authority, then what it signs, then the old one goes
	clientSerial = files.issueClient(newCA)
	await()
	serverSerial = files.issueServer(newCA)
	await()
	files.trust(newCA)
	await()

	load.advance(t, 10)
	load.finish()
	assert.Empty(t, load.failures())
	assert.Zero(t, c.status().Closed["invalid"])
	t.Logf("%d statements, %d failed dials, connections closed: %v", load.rounds(), c.status().FailedConnects, c.status().Closed)
}

// TestCertificateFilesCaughtWhileTheyAreReplacedFailNoStatement: of the authorities the last ones that could be read serve,
// and those are not the ones from when the pool was opened, which nobody trusts any more. The client's own certificate pgx
// reads at each dial, which is repeated until it can.
func TestCertificateFilesCaughtWhileTheyAreReplacedFailNoStatement(t *testing.T) {
	t.Parallel()
	files, oldCA, dsn := newCertificates(t)
	newCA, err := pgtest.NewCA()
	require.NoError(t, err)
	files.issueClient(oldCA)
	c := newClient(t, dsn)
	require.NoError(t, c.Ping())

	serverSerial := files.issueServer(newCA)
	files.trust(newCA)
	clientSerial := files.issueClient(newCA)
	require.NoError(t, files.server.Restart(t.Context(), pgtest.Fast)) // a reload may take a while
	require.NoError(t, c.Ping())
	for name, serves := range map[string]bool{"ca.crt": true, "client.crt": false, "client.key": false} {
		for spoiled, spoil := range map[string]func(string) error{
			"missing": os.Remove,
			"empty":   func(path string) error { return os.Truncate(path, 0) },
			"half":    func(path string) error { return os.Truncate(path, 100) },
		} {
			whole, err := os.ReadFile(files.client(name))
			require.NoError(t, err)
			require.NoError(t, spoil(files.client(name)))
			require.NoError(t, files.server.TerminateAll(t.Context()))
			failed := c.status().FailedConnects
			result := make(chan error, 1)
			go func() { result <- c.Ping() }() // ends when there is a connection
			if !serves {
				awaitFailedDials(t, c, 2)
				writeFile(t, files.client(name), whole)
			}
			require.NoError(t, <-result, "%s is %s", name, spoiled)
			client, server := shown(t, c)
			assert.Equal(t, clientSerial, client)
			assert.Equal(t, serverSerial, server)
			if serves {
				assert.Equal(t, failed, c.status().FailedConnects)
				writeFile(t, files.client(name), whole)
			}
		}
	}
}
