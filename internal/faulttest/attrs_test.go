package faulttest

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// everyAttrs are the values of target_session_attrs.
var everyAttrs = []string{"any", "read-write", "read-only", "primary", "standby", "prefer-standby"}

// reached returns which server a pool gets its first connection from, by its port, or what the refusal is about.
func reached(t *testing.T, db *sql.DB) string {
	t.Helper()
	conn, err := db.Conn(t.Context())
	if err == nil {
		defer func() { assert.NoError(t, conn.Close()) }()
		var port string
		if err = conn.QueryRowContext(t.Context(), "select inet_server_port()").Scan(&port); err == nil {
			return port
		}
	}
	for _, refusal := range []string{
		"read only connection", "connection is not read only", "server is in standby mode", "server is not in hot standby mode",
	} {
		if strings.Contains(err.Error(), refusal) {
			return refusal
		}
	}
	return err.Error()
}

// requireReached checks where a pool's connections go: those that are made when nothing is known yet, and later ones.
func requireReached(t *testing.T, dsn, want string) {
	t.Helper()
	db := openPool(t, with(dsn, "pool_timeout", "2s", "pool_size", "1", "connect_timeout", "20"))
	assert.Equal(t, want, reached(t, db), dsn)
	require.NoError(t, pgprod.Recycle(db))
	assert.Equal(t, want, reached(t, db), dsn)
}

// requireSameHost checks that a pool's connections go where pgx's go.
func requireSameHost(t *testing.T, dsn string) {
	t.Helper()
	requireReached(t, dsn, reached(t, openPgx(t, with(dsn, "connect_timeout", "20"))))
}

func TestEveryTargetSessionAttrsLeadsWhereItLeadsPgx(t *testing.T) {
	t.Parallel()
	primary, standby := twoServers(t, nil)
	readOnly := pgtest.StartTB(t, pgtest.Config{Settings: map[string]string{"default_transaction_read_only": "on"}})
	for _, attrs := range everyAttrs {
		for name, hosts := range map[string][]*pgtest.Server{
			"primary first": {primary, standby}, "standby first": {standby, primary}, "primary": {primary}, "standby": {standby},
			"read-only": {readOnly}, "read-only first": {readOnly, primary}, "read-only, standby": {readOnly, standby},
		} {
			t.Run(attrs+", "+name, func(t *testing.T) {
				t.Parallel()
				if attrs == "prefer-standby" && name == "read-only first" { // pgx takes the last of those that aren't standbys
					requireReached(t, hostsDSN(attrs, hosts...), fmt.Sprint(readOnly.Port()))
					return
				}
				requireSameHost(t, hostsDSN(attrs, hosts...))
			})
		}
	}
}

// TestBehindAPoolerTheRoleIsTheServersOfNow promotes a standby behind a PgBouncer that is connected to it already, and that goes on
// to report what the server said when it was a standby.
func TestBehindAPoolerTheRoleIsTheServersOfNow(t *testing.T) {
	t.Parallel()
	_, standby := twoServers(t, nil)
	pooler := pgtest.StartBouncer(t, standby, "transaction", "ignore_startup_parameters = statement_timeout")
	check := func() {
		for _, attrs := range everyAttrs {
			requireSameHost(t, with(pooler.DSN("postgres"), "target_session_attrs", attrs, "statement_timeout", "30s",
				"default_query_exec_mode", "exec"))
		}
	}
	check()
	require.NoError(t, standby.Promote(t.Context()))
	check()
}
