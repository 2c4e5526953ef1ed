package faulttest

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/doctor"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// diagnosis is what the doctor says of a DSN, by check, and its exit status.
func diagnosis(t *testing.T, dsn string) (map[string]doctor.Line, int) {
	t.Helper()
	lines := map[string]doctor.Line{}
	report := doctor.Examine(t.Context(), doctor.Options{Environ: append(os.Environ(), "DB_DSN="+dsn)})
	for _, l := range report.Checks {
		t.Log(l)
		lines[l.Check] = l
	}
	return lines, report.ExitStatus
}

// requireNothingLeft fails if anything of the doctor's is on one of the three connections that PgBouncer has to the server.
func requireNothingLeft(t *testing.T, dsn string) {
	t.Helper()
	for range 3 {
		conn, err := pgx.Connect(t.Context(), with(dsn, "default_query_exec_mode", "simple_protocol"))
		require.NoError(t, err)
		defer func() { _ = conn.Close(context.Background()) }()
		tx, err := conn.Begin(t.Context()) // which keeps the connection to the server, so that the next one gets another
		require.NoError(t, err)
		defer func() { _ = tx.Rollback(context.Background()) }()
		var left string
		require.NoError(t, tx.QueryRow(t.Context(), `select
 (select count(*) from pg_prepared_statements where name like 'pgprod_doctor%') || coalesce(current_setting('pgprod.doctor', true), '') || (select count(*) from pg_listening_channels())
 || (select count(*) from pg_locks where locktype = 'advisory')`).Scan(&left))
		require.Equal(t, "000", left)
	}
}

func TestTheDoctorSaysWhatWorksBehindPgBouncerWithTransactionPooling(t *testing.T) {
	t.Parallel()
	b := startBouncer(t, pgtest.StartTB(t, pgtest.Config{}), "transaction")
	fits := []string{"server_settings", dropped, "default_query_exec_mode", "exec"}

	lines, status := diagnosis(t, b.dsn(""))
	assert.Equal(t, b.keepsPrepared(), status == doctor.CanServe)
	assert.Equal(t, doctor.OK, lines["pool"].Status, "a pool drops what is refused of its defaults")
	assert.Equal(t, doctor.Warning, lines["startup parameters"].Status)
	assert.Contains(t, lines["startup parameters"].Detail,
		"refused are effective_cache_size, idle_in_transaction_session_timeout, jit")
	assert.Contains(t, lines["startup parameters"].Advice,
		`DB_SERVER_SETTINGS="effective_cache_size=,idle_in_transaction_session_timeout=,jit=,random_page_cost=,statement_timeout="`)
	assert.Contains(t, lines["pooler"].Detail, "PgBouncer 1.")
	assert.Contains(t, lines["pooler"].Detail, "in transaction pooling")
	assert.Equal(t, doctor.OK, lines["set local"].Status)
	assert.Equal(t, doctor.OK, lines["cancel requests"].Status)
	assert.Equal(t, doctor.Warning, lines["session state"].Status)
	assert.Equal(t, doctor.Skipped, lines["limits"].Status)
	requireNothingLeft(t, b.dsn(""))

	lines, status = diagnosis(t, b.dsn("", "work_mem", "8MB"))
	assert.Equal(t, doctor.Misconfigured, status, "what the user has written is never dropped")
	assert.Equal(t, doctor.Failure, lines["startup parameters"].Status)
	assert.Contains(t, lines["startup parameters"].Detail, "refused are work_mem:")
	assert.Contains(t, lines["pooler settings"].Advice, "leave them out")

	lines, status = diagnosis(t, b.dsn("", fits...))
	assert.Equal(t, doctor.CanServe, status)
	assert.Equal(t, doctor.OK, lines["pooler settings"].Status)

	lines, status = diagnosis(t, b.dsn("", "server_settings_mode", "set", "default_query_exec_mode", "exec"))
	assert.Equal(t, doctor.CanServe, status)
	assert.Contains(t, lines["pooler settings"].Detail, "changes connections that others get as well")

	for mode, want := range map[string]bool{
		"cache_statement": b.keepsPrepared(), "describe_exec": false, "cache_describe": true, "simple_protocol": true,
	} {
		lines, status = diagnosis(t, b.dsn("", "server_settings", dropped, "default_query_exec_mode", mode))
		assert.Equal(t, want, status == doctor.CanServe, mode)
		assert.Equal(t, want, lines["pooler settings"].Status == doctor.OK, mode)
		assert.Equal(t, b.keepsPrepared(), lines["prepared statements"].Status == doctor.OK)
	}
	requireNothingLeft(t, b.dsn(""))
}

// keepsPrepared reports whether it knows of prepared statements, as from version 1.21 on if max_prepared_statements is set,
// which it is by default from 1.24 on.
func (b *bouncer) keepsPrepared() bool {
	major, minor := b.Version()
	return major > 1 || minor >= 24
}

func TestTheDoctorSaysWhatWorksBehindPgBouncerWithSessionPooling(t *testing.T) {
	t.Parallel()
	b := startBouncer(t, pgtest.StartTB(t, pgtest.Config{}), "session")
	lines, status := diagnosis(t, b.dsn("", "server_settings_mode", "set"))
	assert.Equal(t, doctor.CanServe, status)
	assert.Contains(t, lines["pooler"].Detail, "in session pooling")
	for _, check := range []string{
		"prepared statements", "set local", "session settings", "listen", "advisory locks", "cancel requests",
		"pooler settings", "server settings",
	} {
		assert.Equal(t, doctor.OK, lines[check].Status, check)
	}
	assert.NotContains(t, lines, "session state")

	lines, status = diagnosis(t, b.dsn(""))
	assert.Equal(t, doctor.CanServe, status)
	assert.Equal(t, doctor.Warning, lines["startup parameters"].Status)

	lines, status = diagnosis(t, b.dsn("", "work_mem", "8MB"))
	assert.Equal(t, doctor.Misconfigured, status)
	assert.Contains(t, lines["pooler settings"].Advice, "server_settings_mode=set")
}

func TestTheDoctorSaysThatStatementPoolingHasNoTransactions(t *testing.T) {
	t.Parallel()
	b := startBouncer(t, pgtest.StartTB(t, pgtest.Config{}), "statement")
	lines, status := diagnosis(t, b.dsn("", "server_settings", dropped, "default_query_exec_mode", "exec"))
	assert.Equal(t, doctor.Misconfigured, status)
	assert.Contains(t, lines["pooler"].Detail, "there are no transactions")
}

func TestTheDoctorDoesNotMistakeAPoolerForItsServer(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	b := startBouncer(t, server, "transaction", "query_wait_timeout = 1")
	require.NoError(t, server.Shutdown(t.Context(), pgtest.Fast))
	_, status := diagnosis(t, b.dsn("", "server_settings", dropped, "default_query_exec_mode", "exec"))
	assert.Equal(t, doctor.CannotServe, status)
}
