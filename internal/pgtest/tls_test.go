package pgtest_test

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

func TestAServerSpeaksTLSWithACertificateThatVerifies(t *testing.T) {
	server := pgtest.StartTB(t, pgtest.Config{TLS: &pgtest.TLS{}})
	const encrypted = "select ssl::text from pg_stat_ssl where pid = pg_backend_pid()"
	assert.Contains(t, server.DSN(""), "verify-full")
	assert.Equal(t, "true", query(t, server.DSN(""), encrypted))
	assert.Equal(t, "true", query(t, strings.Replace(server.DSN(""), "127.0.0.1", "localhost", 1), encrypted))
	assert.Equal(t, "false", query(t, server.SocketDSN(""), encrypted))
}

func TestACertificateForAnotherHostOrTimeDoesNotVerify(t *testing.T) {
	ca, err := pgtest.NewCA()
	require.NoError(t, err)
	elsewhere := pgtest.StartTB(t, pgtest.Config{TLS: &pgtest.TLS{CA: ca, Hosts: []string{"db.example.com"}}})
	_, err = tryConnect(t, elsewhere.DSN(""))
	var wrongHost x509.HostnameError
	require.ErrorAs(t, err, &wrongHost)

	expired := pgtest.StartTB(t, pgtest.Config{TLS: &pgtest.TLS{CA: ca, NotAfter: time.Now().Add(-time.Minute)}})
	_, err = tryConnect(t, expired.DSN(""))
	var invalid x509.CertificateInvalidError
	require.ErrorAs(t, err, &invalid)
	assert.Equal(t, x509.Expired, invalid.Reason)
}

func TestAClientCanShowACertificateOfTheSameAuthority(t *testing.T) {
	ca, err := pgtest.NewCA()
	require.NoError(t, err)
	server := pgtest.StartTB(t, pgtest.Config{
		TLS: &pgtest.TLS{CA: ca}, HBA: []string{"hostssl all all 127.0.0.1/32 cert"},
	})
	_, err = tryConnect(t, server.DSN(""))
	require.Error(t, err)

	cert, key, err := ca.Issue([]string{"postgres"}, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	require.NoError(t, err)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key")
	require.NoError(t, os.WriteFile(certFile, cert, 0o600))
	require.NoError(t, os.WriteFile(keyFile, key, 0o600))
	assert.Equal(t, "1", query(t, server.DSN("")+"&sslcert="+certFile+"&sslkey="+keyFile, "select 1::text"))
}
