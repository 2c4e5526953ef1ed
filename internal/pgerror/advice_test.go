package pgerror

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
)

// TestAPoolersRefusalOfAParameterSaysWhatToDo has the texts of PgBouncer 1.7 to 1.25.
func TestAPoolersRefusalOfAParameterSaysWhatToDo(t *testing.T) {
	const set = "server_settings_mode=set"
	for message, want := range map[string]string{
		"unsupported startup parameter: jit":                                     "the pooler doesn't know it: server_settings_mode=set sets it after connecting, server_settings=jit= drops it",
		"Unsupported startup parameter: jit":                                     "the pooler doesn't know it: server_settings_mode=set sets it after connecting, server_settings=jit= drops it",
		"unsupported startup parameter: jit=off":                                 "the pooler doesn't know it: server_settings_mode=set sets it after connecting, server_settings=jit= drops it",
		"unsupported startup parameter: replication":                             "the pooler doesn't know it, take it out of the DSN",
		"unsupported startup parameter":                                          "the pooler doesn't know it, take it out of the DSN",
		"unsupported startup parameter: options":                                 "the pooler doesn't know it: take options out of the DSN, and unset PGOPTIONS; what they set may stand in server_settings, with " + set,
		"unsupported startup parameter in options: lock_timeout":                 "the pooler doesn't take it in options: take lock_timeout out of options in the DSN and out of PGOPTIONS; in server_settings, " + set + " sets it after connecting",
		"unsupported startup parameter in options: app.x":                        "the pooler doesn't take it in options: take app.x out of options in the DSN and out of PGOPTIONS; in server_settings, " + set + " sets it after connecting",
		"unsupported options startup parameter: only '-c config=val' is allowed": "the pooler doesn't take it in options: take what isn't -c name=value out of options in the DSN and out of PGOPTIONS; in server_settings, " + set + " sets it after connecting",
	} {
		refused := &pgconn.PgError{Severity: "FATAL", Code: "08P01", Message: message}
		assert.Equal(t, want, Advice(refused, ""), message)
		assert.Equal(t, Final, ProspectOf(refused, false), message)
	}
	for _, message := range []string{"query_wait_timeout", "no more connections allowed (max_client_conn)", "server login has been failing"} {
		assert.Equal(t, Passing, ProspectOf(&pgconn.PgError{Severity: "FATAL", Code: "08P01", Message: message}, false), message)
	}
}

// refusedSettings are the words of those that refuse a setting at connect: PgBouncer's, which Neon, DigitalOcean, Railway and
// others have in between; the servers' own, which other servers than PostgreSQL send for what they don't know; and RDS Proxy's
// about options.
var refusedSettings = []struct{ code, message, refused string }{
	{"08P01", "unsupported startup parameter: jit", "jit"},
	{"08P01", "Unsupported startup parameter: statement_timeout", "statement_timeout"},
	{"08P01", "unsupported startup parameter in options: jit", "jit"},
	{"08P01", "query_wait_timeout", ""},
	{"08P01", "server login failed: jit", ""},
	{"42704", `unrecognized configuration parameter "jit"`, "jit"},
	{"42704", `unbekannter Konfigurationsparameter »JIT«`, "jit"},
	{"42704", `role "jit_user" does not exist`, ""},
	{"55P02", `parameter "jit" cannot be changed now`, "jit"},
	{"42501", `permission denied to set parameter "statement_timeout"`, "statement_timeout"},
	{"42501", `permission denied for database "jit"`, ""},
	{"22023", `invalid value for parameter "effective_cache_size": "1GB"`, ""},
	{"0A000", "Feature not supported: RDS Proxy currently doesn’t support command-line options.", ""},
	{"28P01", `password authentication failed for user "jit"`, ""},
}

func TestRefusedSettingsAreKnownByTheWordsOfPoolersAndServers(t *testing.T) {
	t.Parallel()
	for _, c := range refusedSettings {
		err := error(&pgconn.PgError{Severity: "FATAL", Code: c.code, Message: c.message})
		got := RefusedSettings(fmt.Errorf("connect: %w", errors.Join(io.EOF, err)), []string{"jit", "statement_timeout"})
		assert.Equal(t, c.refused, strings.Join(got, " "), c.message)
	}
	assert.Empty(t, RefusedSettings(io.EOF, []string{"jit"}))
}

func TestAFailedDialSaysWhatToLookAt(t *testing.T) {
	t.Parallel()
	refused := func(code, message string) error {
		return &pgconn.PgError{Severity: "FATAL", Code: code, Message: message}
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{refused("28P01", ""), "the server doesn't accept the password, or the role has none; it was taken from the DSN"},
		{refused("28000", ""), "pg_hba.conf"},
		{refused("3D000", ""), "there is no such database"},
		{refused("42501", `permission denied for database "d"`), "lacks the right to connect"},
		{refused("42501", `permission denied to set parameter "x"`), "GRANT SET ON PARAMETER"},
		{refused("53300", ""), "max_connections"},
		{refused("57P03", ""), "starting, stopping or recovering"},
		{refused("42704", ""), "server_settings"},
		{refused("55P02", ""), "only the server's own configuration sets it"},
		{refused("22023", ""), "server_settings"},
		{errors.Join(io.EOF, refused("57P03", "")), "starting, stopping or recovering"},
		{&net.DNSError{Name: "a", IsNotFound: true}, "the host's name isn't known"},
		{x509.HostnameError{Certificate: &x509.Certificate{}, Host: "a"}, "the certificate is for another host"},
		{x509.UnknownAuthorityError{}, "the certificate isn't trusted"},
		{&tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{}, Host: "a"}}, "for another host"},
		{&tls.CertificateVerificationError{Err: errors.New("expired")}, "the certificate isn't trusted"},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, "nothing listens there"},
		{&net.OpError{Op: "dial", Err: fs.ErrNotExist}, "nothing listens there"},
		{context.DeadlineExceeded, "no answer in time"},
		{&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, "no answer in time"},
		{syscall.ECONNRESET, "the other end hung up"},
	} {
		assert.Contains(t, Advice(c.err, "the DSN"), c.want, "%v", c.err)
	}
	for _, err := range []error{refused("P0001", ""), errors.New("whatever"), context.Canceled} {
		assert.Empty(t, Advice(err, "the DSN"), "%v", err)
	}
	assert.NotContains(t, Advice(refused("28P01", ""), ""), "taken from")
}
