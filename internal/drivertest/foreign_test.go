package drivertest

import (
	"database/sql"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// ofProviders are ends of URLs as providers of databases and the documents of other libraries show them, with the key
// that pgprod's error has to name and what it has to advise.
var ofProviders = []struct{ query, key, advice string }{
	{"pgbouncer=true", "pgbouncer", "default_query_exec_mode=exec serves behind a pooler"},
	{"pgbouncer=true&connection_limit=1", "connection_limit", "pool_size and max_overflow serve here"},
	{"supa=base-pooler.x", "supa", "leave it out"},
	{"workaround=supabase-pooler.vercel", "workaround", "leave it out"},
	{"connection_limit=5&pool_timeout=20", "connection_limit", "pool_size"},
	{"socket_timeout=60", "socket_timeout", "command_timeout serves here"},
	{"sslaccept=strict", "sslaccept", "sslmode"},
	{"statement_cache_size=0", "statement_cache_size", "statement_cache_capacity serves here"},
	{"endpoint=ep-cool-darkness-123456", "endpoint", "the host's name"},
	{"prepareThreshold=0", "prepareThreshold", "default_query_exec_mode"},
	{"reWriteBatchedInserts=true", "reWriteBatchedInserts", "leave it out"},
	{"targetServerType=primary", "targetServerType", "target_session_attrs serves here"},
	{"pool=5", "pool", "pool_size and max_overflow serve here"},
	{"prepared_statements=false", "prepared_statements", "default_query_exec_mode"},
	{"serverVersion=16&charset=utf8", "serverVersion", "leave it out"},
	{"conn_max_age=600", "conn_max_age", "pool_recycle serves here"},
	{"prepare_threshold=0", "prepare_threshold", "default_query_exec_mode"},
	{"min_size=2&max_size=10", "max_size", "pool_size and max_overflow serve here"},
	{"max=20&idleTimeoutMillis=30000", "idleTimeoutMillis", "pool_idle_timeout serves here"},
	{"statement_cache_mode=describe", "statement_cache_mode", "default_query_exec_mode"},
	{"prefer_simple_protocol=true", "prefer_simple_protocol", "default_query_exec_mode"},
	{"load_balance=true&topology_keys=a.b.c", "topology_keys", "load_balance_hosts"},
	{"parseTime=true", "parseTime", "leave it out"},
}

func TestWhatProvidersWriteIntoAURLIsRefusedByNameInOpen(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	for _, c := range ofProviders {
		url := dsn + "&" + c.query
		_, err := sql.Open("pgprod", url)
		require.ErrorContains(t, err, "pgprod: DSN key "+c.key+": ", c.query)
		assert.ErrorContains(t, err, c.advice, c.query)

		plain, err := sql.Open("pgx", url)
		require.NoError(t, err)
		assert.Equal(t, "42704", sqlState(plain.Ping()), "plain pgx hears of it from the server: %s", c.query)
		require.NoError(t, plain.Close())
	}
}

// TestWordsOfOthersThatMeanTheSameHoldOnTheServer has URLs as others write them.
func TestWordsOfOthersThatMeanTheSameHoldOnTheServer(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	for query, want := range map[string]string{
		"schema=public":                       "search_path=public",
		"schema=My%20App":                     `search_path="My App"`,
		"currentSchema=a,b":                   "search_path=a,b",
		"ApplicationName=app":                 "application_name=app",
		"encoding=unicode&charset=utf8":       "client_encoding=UTF8",
		"uselibpqcompat=true&adapter=postgis": "jit=off",
	} {
		for _, scheme := range []string{"postgres://", "jdbc:postgresql://", "postgresql+psycopg://", "postgis://"} {
			db := openPool(t, scheme+strings.TrimPrefix(dsn, "postgres://")+"&"+query)
			name, value, _ := strings.Cut(want, "=")
			assert.Equal(t, value, get[string](t, db, "select current_setting($1)", name), query)
		}
	}
}

func TestWhatServesIsNoForeignWord(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	for _, query := range []string{
		"pool_timeout=20", "ssl=true", "channel_binding=prefer", "options=-c%20geqo%3Doff", "options=endpoint%3Dep-x", "search_path=app",
		"application_name=app", "my.setting=x", "role=app", "connect_timeout=15", "target_session_attrs=any", "sslnegotiation=postgres",
	} {
		c, err := pgprod.NewConnector(strings.Replace(dsn, "sslmode=disable", query, 1))
		if assert.NoError(t, err, query) {
			require.NoError(t, c.Close())
		}
	}
}

// TestEachParameterOfTheServersThatASessionMaySetMayStandInADSN asks the server of this machine for them.
func TestEachParameterOfTheServersThatASessionMaySetMayStandInADSN(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	rows, err := openPgx(t, dsn).Query("select name from pg_settings where context in ('user', 'superuser', 'backend', 'superuser-backend')")
	require.NoError(t, err)
	tried := 0
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		if name == "client_encoding" || name == "tcp_user_timeout" {
			continue // must be UTF8; is libpq's own in a DSN, and the server's in server_settings
		}
		c, err := pgprod.NewConnector(with(dsn, name, "x"))
		if assert.NoError(t, err, name) {
			require.NoError(t, c.Close())
		}
		tried++
	}
	require.NoError(t, rows.Err())
	assert.Greater(t, tried, 150)
}
