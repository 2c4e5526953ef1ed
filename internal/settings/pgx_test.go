package settings

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// The tests of this file are about what this package relies on and pgx doesn't promise.

// TestPgxStillValidatesTargetSessionAttrsByTheseFunctions is how targetSessionAttrs knows what was given.
func TestPgxStillValidatesTargetSessionAttrsByTheseFunctions(t *testing.T) {
	for name, check := range attrChecks {
		conn, err := pgx.ParseConfig("host=h target_session_attrs=" + name)
		require.NoError(t, err)
		require.Equal(t, reflect.ValueOf(check).Pointer(), reflect.ValueOf(conn.ValidateConnect).Pointer(), name)
	}
	conn, err := pgx.ParseConfig("host=h target_session_attrs=any")
	require.NoError(t, err)
	require.Nil(t, conn.ValidateConnect)
}

// TestPgxStillBeginsItsErrorsAboutADSNLikeThis holds pgxerror.go's tables against pgx: each row explains the error of a
// DSN, but for the certificates of the system, which are there or not.
func TestPgxStillBeginsItsErrorsAboutADSNLikeThis(t *testing.T) {
	key, cert, foreign, encrypted := certificates(t)
	all := slices.Concat(syntaxErrors, keyErrors)
	dsns := map[string]string{
		"failed to parse as URL (extra key/value separator":               "postgres://h/d?options=a=b",
		"failed to parse as URL (invalid percent-encoded token":           "postgres://u:%@h/d",
		"failed to parse as URL (unexpected spaces":                       "postgres://u:a b@h/d",
		"failed to parse as URL":                                          "postgres://h/d?x",
		"failed to parse as keyword/value (unterminated quoted string":    "host=h password='x",
		"failed to parse as keyword/value":                                "host=h x",
		"invalid port":                                                    "host=h port=x",
		"could not match":                                                 "host=a,b,c port=1,2",
		"unknown target_session_attrs value":                              "host=h target_session_attrs=x",
		"failed to read service":                                          "host=h service=x",
		"invalid sslcertmode":                                             "host=h sslcertmode=x",
		"invalid min_protocol_version":                                    "host=h min_protocol_version=x",
		"invalid max_protocol_version":                                    "host=h max_protocol_version=x",
		"min_protocol_version cannot be greater":                          "host=h min_protocol_version=3.2 max_protocol_version=3.0",
		"unknown channel_binding value":                                   "host=h channel_binding=x",
		"invalid require_auth":                                            "host=h require_auth=x",
		"cannot parse statement_cache_capacity":                           "host=h statement_cache_capacity=x",
		"cannot parse description_cache_capacity":                         "host=h description_cache_capacity=x",
		"invalid default_query_exec_mode":                                 "host=h default_query_exec_mode=x",
		"failed to configure TLS (sslmode is invalid":                     "host=h sslmode=x",
		"failed to configure TLS (unable to load system certificate pool": "",
		"failed to configure TLS (unable to read CA file":                 "host=h sslrootcert=/nowhere",
		"failed to configure TLS (unable to add CA":                       "host=h sslrootcert=" + encrypted,
		`failed to configure TLS (both "sslcert"`:                         "host=h sslcert=" + cert,
		"failed to configure TLS (unable to read sslkey":                  "host=h sslkey=/nowhere sslcert=" + cert,
		"failed to configure TLS (failed to decode sslkey":                "host=h sslkey=/dev/null sslcert=" + cert,
		"failed to configure TLS (unable to find sslpassword":             "host=h sslcert=" + cert + " sslkey=" + encrypted,
		"failed to configure TLS (unable to decrypt key":                  "host=h sslpassword=x sslcert=" + cert + " sslkey=" + encrypted,
		"failed to configure TLS (unable to read cert":                    "host=h sslcert=/nowhere sslkey=" + key,
		"failed to configure TLS (unable to load cert":                    "host=h sslcert=" + cert + " sslkey=" + foreign,
		"failed to configure TLS":                                         "", // for what may come
	}
	require.Len(t, dsns, len(all))
	for begins, dsn := range dsns {
		row := slices.IndexFunc(all, func(r refusal) bool { return r.begins == begins })
		require.GreaterOrEqual(t, row, 0, "%s is in no table", begins)
		if dsn == "" {
			continue
		}
		_, err := pgx.ParseConfig(dsn)
		var failed *pgconn.ParseConfigError
		require.True(t, errors.As(err, &failed), "%v of %s", err, dsn)
		message := strings.TrimPrefix(err.Error(), pgconn.NewParseConfigError(failed.ConnString, "", nil).Error())
		first := slices.IndexFunc(all, func(r refusal) bool { return strings.HasPrefix(message, r.begins) })
		require.Equal(t, row, first, "%s of %s", message, dsn)
	}
}

// certificates writes a key with its certificate, another key, and an encrypted one.
func certificates(t *testing.T) (key, cert, foreign, encrypted string) {
	t.Helper()
	ca, err := pgtest.NewCA()
	require.NoError(t, err)
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		return path
	}
	issue := func() (cert, key []byte) {
		cert, key, err := ca.Issue([]string{"h"}, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
		require.NoError(t, err)
		return cert, key
	}
	certPEM, keyPEM := issue()
	_, foreignPEM := issue()
	lines := "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC," + strings.Repeat("00", 16) + "\n\n" +
		"AAAAAAAAAAAAAAAAAAAAAA==\n-----END EC PRIVATE KEY-----\n"
	return write("key", keyPEM), write("cert", certPEM), write("foreign", foreignPEM), write("encrypted", []byte(lines))
}
