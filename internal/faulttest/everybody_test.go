package faulttest

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/diagnose"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// everybody is what a server's sessions do, as it is asked by a connection of its own.
func everybody(t testing.TB, dsn string) *diagnose.Server {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	server, err := diagnose.Everybody(t.Context(), conn.PgConn())
	require.NoError(t, err)
	return server
}

func TestWhoWaitsForWhomIsSeenThroughPgBouncerToo(t *testing.T) {
	t.Parallel()
	b := startBouncer(t, pgtest.StartTB(t, pgtest.Config{Settings: map[string]string{"max_prepared_transactions": "2"}}), "transaction")
	name := b.database(t)
	direct := openPgx(t, with(b.server.DSN(name), "application_name", "billing"))
	_, err := direct.Exec("create table orders (id int primary key, n int); insert into orders values (1, 0), (2, 0)")
	require.NoError(t, err)
	_, err = direct.Exec("begin; update orders set n = 4711 where id = 1; prepare transaction 'order 7'")
	require.NoError(t, err)
	first := begun(direct, "update orders set n = 4711, id = 1 where id = 1")
	tx, err := direct.Begin()
	require.NoError(t, err)
	_, err = tx.Exec("update orders set n = 4711 where id = 2")
	require.NoError(t, err)
	pid := get[uint32](t, tx, "select pg_backend_pid()")
	second := begun(direct, "delete from orders where id = 2 and n <> 4711")

	for _, dsn := range []string{b.dsn(name), b.server.DSN(name)} {
		var got *diagnose.Server
		pgtest.Eventually(t, patience, func() bool {
			got = everybody(t, dsn)
			return len(got.Blocking) == 2
		}, "two trees")
		var names []string
		activity.Walk(got.Blocking, func(n *activity.Node, depth int) {
			assert.NotContains(t, n.Text, "4711")
			if depth == 0 {
				names = append(names, n.Name())
				assert.Equal(t, 1, n.Blocks())
				return
			}
			assert.Equal(t, "billing", n.Application)
			assert.Contains(t, n.Does(), "waits for Lock/transactionid for ")
			assert.Equal(t, name, n.Database)
		})
		assert.ElementsMatch(t, []string{`prepared transaction "order 7"`, (&activity.Node{Blocker: activity.Blocker{PID: pid}}).Name()}, names)
		assert.Len(t, got.Busy, 3, "not the one that asks")
		assert.Positive(t, got.Connections)
		assert.Greater(t, got.Limit, got.Connections)
	}
	require.NoError(t, tx.Rollback())
	require.NoError(t, <-second)
	_, err = direct.Exec("rollback prepared 'order 7'")
	require.NoError(t, err)
	require.NoError(t, <-first)
	assert.Empty(t, everybody(t, b.dsn(name)).Blocking)
}
