package drivertest

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// farHost is a name for this machine that doesn't look local.
const farHost = "0.0.0.0"

// far is the DSN of a server as if it were on another machine.
func far(server *pgtest.Server, more string) string {
	return fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres %s", farHost, server.Port(), more)
}

const isEncrypted = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"

func TestInProductionTheWayToAnotherHostIsEncrypted(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{TLS: &pgtest.TLS{}})
	for dsn, expected := range map[string]bool{
		far(server, ""):                        true,
		far(server, "sslmode=''"):              true,
		far(server, "sslmode=disable"):         false,
		far(server, "environment=development"): true, // libpq's prefer
	} {
		db := openPool(t, dsn)
		assert.Equal(t, expected, get[bool](t, db, isEncrypted), dsn)
	}
}

// TestInProductionNothingIsSentInTheClear has a server, or somebody in between, say that it doesn't speak TLS.
func TestInProductionNothingIsSentInTheClear(t *testing.T) {
	t.Parallel()
	port, received := refuseTLS(t)
	db := openPool(t, fmt.Sprintf("postgres://me:s3cret@%s:%d/db?pool_timeout=2m", farHost, port))
	within(t, time.Minute, func() { // it is no use to wait
		require.ErrorContains(t, db.Ping(), "server refused TLS connection")
	})
	const sslRequest = 80877103
	all := received()
	require.Len(t, all, 8)
	assert.Equal(t, uint32(sslRequest), binary.BigEndian.Uint32(all[4:]))
}

// refuseTLS answers the first connection's request for TLS with no, and returns all that it got.
func refuseTLS(t *testing.T) (port int, received func() []byte) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	all := make(chan []byte, 1)
	go func() { // ends when the client has closed its connection, or received the listener
		conn, err := listener.Accept()
		if err != nil {
			all <- nil
			return
		}
		defer conn.Close()
		head := make([]byte, 8)
		_, _ = io.ReadFull(conn, head)
		_, _ = conn.Write([]byte("N"))
		rest, _ := io.ReadAll(conn)
		all <- append(head, rest...)
	}()
	return listener.Addr().(*net.TCPAddr).Port, func() []byte {
		_ = listener.Close()
		return <-all
	}
}

func TestALocalHostNeedsNoTLS(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	var logged logBuffer
	for _, host := range []string{"127.0.0.1", "localhost", server.SocketDir()} {
		dsn := fmt.Sprintf("host='%s' port=%d user=postgres dbname=postgres slow_query=20s", host, server.Port())
		assert.False(t, get[bool](t, openPool(t, dsn, pgprod.WithLogger(logged.logger())), isEncrypted), host)
	}
	assert.Empty(t, logged.String())
}

func TestAWeakerModeIsHonouredAndLoggedOnce(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	for _, mode := range []string{"disable", "allow", "prefer"} {
		var logged logBuffer
		db := openPool(t, far(server, "slow_query=20s sslmode="+mode), pgprod.WithLogger(logged.logger()))
		fill(t, db, 3)
		assert.False(t, get[bool](t, db, isEncrypted), mode)
		assert.Equal(t, 1, strings.Count(logged.String(), "level=WARN"), logged.String())
		assert.Contains(t, logged.String(), "sslmode")
		assert.Contains(t, logged.String(), mode)
	}
}

func TestAWeakerModeInTheEnvironmentIsHonouredToo(t *testing.T) {
	server := pgtest.StartTB(t, pgtest.Config{})
	t.Setenv("PGSSLMODE", "disable")
	var logged logBuffer
	db := openPool(t, far(server, ""), pgprod.WithLogger(logged.logger()))
	assert.False(t, get[bool](t, db, isEncrypted))
	assert.Contains(t, logged.String(), "PGSSLMODE")
}

func TestVerifyFullChecksWhoAnswers(t *testing.T) {
	t.Parallel()
	ca, err := pgtest.NewCA()
	require.NoError(t, err)
	other, err := pgtest.NewCA()
	require.NoError(t, err)
	mine, theirs := caFile(t, ca), caFile(t, other)
	right := pgtest.StartTB(t, pgtest.Config{TLS: &pgtest.TLS{CA: ca, Hosts: []string{farHost, "127.0.0.1"}}})
	wrongHost := pgtest.StartTB(t, pgtest.Config{TLS: &pgtest.TLS{CA: ca, Hosts: []string{"db.example.com"}}})
	expired := pgtest.StartTB(t, pgtest.Config{TLS: &pgtest.TLS{CA: ca, Hosts: []string{farHost},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour)}})

	for name, dsn := range map[string]string{
		"the right one":              far(right, "sslmode=verify-full sslrootcert="+mine),
		"as pgtest says":             right.DSN(""),
		"verify-ca, another host":    far(wrongHost, "sslmode=verify-ca sslrootcert="+mine),
		"require, another host":      far(wrongHost, "sslmode=require"),
		"nothing said, another host": far(wrongHost, ""),
	} {
		assert.True(t, get[bool](t, openPool(t, dsn), isEncrypted), name)
	}

	for name, c := range map[string]struct {
		dsn   string
		check func(error) bool
	}{
		"another host":              {far(wrongHost, "sslmode=verify-full sslrootcert="+mine), isA[x509.HostnameError]},
		"expired":                   {far(expired, "sslmode=verify-full sslrootcert="+mine), isExpired},
		"expired, verify-ca":        {far(expired, "sslmode=verify-ca sslrootcert="+mine), isExpired},
		"another authority":         {far(right, "sslmode=verify-full sslrootcert="+theirs), isA[x509.UnknownAuthorityError]},
		"another authority, ca":     {far(right, "sslmode=verify-ca sslrootcert="+theirs), isA[x509.UnknownAuthorityError]},
		"an authority and no mode":  {far(right, "sslrootcert="+theirs), isA[x509.UnknownAuthorityError]},
		"the system's, which isn't": {far(right, "sslmode=verify-full sslrootcert=system"), isA[x509.UnknownAuthorityError]},
	} {
		db := openPool(t, c.dsn+" pool_timeout=2m")
		within(t, time.Minute, func() { // it is no use to wait
			err := db.Ping()
			require.Error(t, err, name)
			assert.True(t, c.check(err), "%s: %v", name, err)
		})
	}
}

func caFile(t *testing.T, ca *pgtest.CA) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.crt")
	require.NoError(t, os.WriteFile(path, ca.PEM(), 0o600))
	return path
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func isExpired(err error) bool {
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok && invalid.Reason == x509.Expired
}

func TestCancelPeekAndReconnectWorkOverTLS(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{TLS: &pgtest.TLS{}})
	db := openPool(t, with(server.DSN(""), "command_timeout", "700ms"))
	mustExec(t, db, "create table t (a int)")
	pgtest.Confirmed(t, func(t *pgtest.Trial) {
		pid := backendPID(t, db)
		requireCut(t, t.Cut(700*time.Millisecond, func() error {
			_, err := db.Exec(forever)
			return err
		}), context.DeadlineExceeded)
		requireCut(t, cutAfter(t, 300*time.Millisecond, db), context.DeadlineExceeded)
		assert.Equal(t, pid, backendPID(t, db))
	})

	pids := fill(t, db, 5)
	require.NoError(t, server.Terminate(t.Context(), pids...))
	for i := range 20 {
		mustExec(t, db, "insert into t values ($1)", i)
	}
	assert.Equal(t, 20, get[int](t, db, "select count(*) from t"))
	require.NoError(t, server.Restart(t.Context(), pgtest.Fast))
	assert.Equal(t, 20, get[int](t, db, "select count(*) from t"))
}
