package tools

import (
	"database/sql"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// outcome opens a pool, runs a query for one text, and returns the text or the error of either.
func outcome(driver, dsn, query string) (string, error) {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return "", err
	}
	defer db.Close()
	var text string
	err = db.QueryRow(query).Scan(&text)
	return text, err
}

// setting is the query for one setting of the server.
func setting(name string) string { return "select current_setting('" + name + "')" }

func TestOnlyTheImportAndTheNameChange(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	for _, driver := range []string{"postgres", "pgprod"} {
		text, err := outcome(driver, dsn, "select current_database()")
		require.NoError(t, err, driver)
		assert.Equal(t, pgtest.DatabaseName(dsn), text)
	}
	assert.Panics(t, func() { pgprod.Register("postgres") }, "as long as lib/pq is linked, the name is taken")
}

// libpqKeys are those of lib/pq's DSNs.
func libpqKeys() []dsnKey {
	const sslModes = "must be disable, allow, prefer, require, verify-ca or verify-full"
	return []dsnKey{
		{key: "sslmode", value: "disable"},
		{key: "sslmode", value: "allow"},
		{key: "sslmode", value: "prefer"},
		{key: "sslmode", value: "pqgo-mine", refused: "DSN key sslmode: " + sslModes},
		{key: "sslsni", value: "0"},
		{key: "sslnegotiation", value: "postgres"},
		{key: "sslinline", value: "true", refused: "DSN key sslinline: is lib/pq's; sslcert, sslkey and sslrootcert are files here"},
		{key: "ssl_min_protocol_version", value: "TLSv1.2", instead: []string{},
			refused: "DSN key ssl_min_protocol_version: is libpq's; leave it out, TLS is 1.2 or later here"},
		{key: "ssl_max_protocol_version", value: "TLSv1.3", instead: []string{},
			refused: "DSN key ssl_max_protocol_version: is libpq's; leave it out"},
		{key: "sslrootcert", value: "/nowhere", refused: "DSN key sslrootcert: can't be read: no such file or directory"},
		{key: "connect_timeout", value: "5"},
		{key: "connect_timeout", value: "0", instead: []string{"connect_timeout", "5s"},
			refused: "DSN key connect_timeout: must be a duration above 0, such as 5s or bare seconds: a dial must be bounded"},
		{key: "binary_parameters", value: "yes", instead: []string{}, refused: "DSN key binary_parameters: is lib/pq's; leave it out"},
		{key: "disable_prepared_binary_result", value: "yes", instead: []string{},
			refused: "DSN key disable_prepared_binary_result: is lib/pq's; leave it out"},
		{key: "application_name", value: "mine", query: setting("application_name"), want: "mine"},
		{key: "fallback_application_name", value: "mine", instead: []string{"application_name", "mine"},
			refused: "DSN key fallback_application_name: is libpq's; application_name serves here", query: setting("application_name"), want: "mine"},
		{key: "client_encoding", value: "UTF8", query: setting("client_encoding"), want: "UTF8"},
		{key: "datestyle", value: "ISO, MDY", query: setting("datestyle"), want: "ISO, MDY"},
		{key: "options", value: "-c geqo=off -c search_path=a", query: setting("search_path"), want: "a"},
		{key: "search_path", value: "b", query: setting("search_path"), want: "b"},
		{key: "statement_timeout", value: "1000", query: setting("statement_timeout"), want: "1s"},
		{key: "TimeZone", value: "Europe/Berlin", query: setting("timezone"), want: "Europe/Berlin"},
		{key: "geqo", value: "off", query: setting("geqo"), want: "off", ignored: true},
		{key: "tz", value: "Europe/Berlin", instead: []string{"timezone", "Europe/Berlin"}, refused: "DSN key tz: is not read; timezone serves here",
			query: setting("timezone"), want: "Europe/Berlin", ignored: true},
		{key: "hostaddr", value: "127.0.0.1", instead: []string{"host", "127.0.0.1"}, refused: "DSN key hostaddr: is libpq's; host serves here"},
		{key: "target_session_attrs", value: "read-write"},
		{key: "load_balance_hosts", value: "random"},
		{key: "min_protocol_version", value: "3.0"},
		{key: "max_protocol_version", value: "3.2"},
		{key: "passfile", value: "/nowhere"},
		{key: "krbsrvname", value: "postgres"},
		{key: "krbspn", value: "postgres/host"},
	}
}

type dsnKey struct {
	key, value  string
	refused     string   // by pgprod, with this in the error; "" if it serves
	instead     []string // keys and values that serve pgprod in its place; nil: none do
	query, want string   // what both see
	ignored     bool     // by lib/pq, though it is in its list
}

func TestKeysOfLibpqsDSNsServeOrAreRefused(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	for _, k := range libpqKeys() {
		if k.query == "" {
			k.query, k.want = "select 'reached'", "reached"
		}
		old := with(dsn, k.key, k.value)
		if k.key != "sslmode" || k.refused == "" { // a mode pqgo-… must be registered in code
			text, err := outcome("postgres", old, k.query)
			require.NoError(t, err, "lib/pq: %s", k.key)
			assert.Equal(t, k.ignored, k.want != text, "lib/pq: %s: %s", k.key, text)
		}
		text, err := outcome("pgprod", old, k.query)
		if k.refused != "" {
			require.ErrorContains(t, err, k.refused, "%s=%s", k.key, k.value)
			require.ErrorContains(t, err, k.key)
			if k.instead == nil {
				continue
			}
			text, err = outcome("pgprod", with(dsn, k.instead...), k.query)
		}
		require.NoError(t, err, "%s=%s", k.key, k.value)
		assert.Equal(t, k.want, text, k.key)
	}
}

func TestWithoutSSLModeLibpqDemandsTLSEverywhereAndPgprodNotOfALocalHost(t *testing.T) {
	t.Parallel()
	dsn := strings.Replace(pgtest.NewDatabase(t), "?sslmode=disable", "", 1)
	_, err := outcome("postgres", dsn, "select 'reached'")
	require.ErrorContains(t, err, "SSL is not enabled on the server")
	text, err := outcome("pgprod", dsn, "select 'reached'")
	require.NoError(t, err)
	assert.Equal(t, "reached", text)
}

func TestAPlusInAURLIsASpaceToLibpqAndAPlusToPgprod(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t) + "&application_name=a"
	for _, c := range []struct{ driver, separator, want string }{
		{"postgres", "+", "a b"}, {"pgprod", "+", "a+b"}, {"postgres", "%20", "a b"}, {"pgprod", "%20", "a b"},
	} {
		text, err := outcome(c.driver, dsn+c.separator+"b", setting("application_name"))
		require.NoError(t, err)
		assert.Equal(t, c.want, text, "%s %s", c.driver, c.separator)
	}
}

func TestAWrongDSNFailsInOpenAndWithLibpqAtTheFirstUse(t *testing.T) {
	t.Parallel()
	const dsn = "postgres://127.0.0.1/db?sslmode=wrong"
	db, err := sql.Open("postgres", dsn)
	require.NoError(t, err)
	defer db.Close()
	require.ErrorContains(t, db.Ping(), "sslmode")
	_, err = sql.Open("pgprod", dsn)
	require.ErrorContains(t, err, "DSN key sslmode")
}

func TestTheModesOfTLSAreTheSame(t *testing.T) {
	t.Parallel()
	dsn := pgtest.StartTB(t, pgtest.Config{TLS: &pgtest.TLS{}}).DSN("")
	for _, mode := range []string{"prefer", "require", "verify-ca", "verify-full"} {
		for _, driver := range []string{"postgres", "pgprod"} {
			text, err := outcome(driver, with(dsn, "sslmode", mode),
				"select ssl::text from pg_stat_ssl where pid = pg_backend_pid()")
			require.NoError(t, err, "%s %s", driver, mode)
			assert.Equal(t, "true", text, "%s %s", driver, mode)
		}
	}
}
