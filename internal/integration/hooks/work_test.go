package hooks

import (
	"context"
	"database/sql"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// work puts a pool, with command_timeout=2s, through what depends on its network connections: load, large results and
// arguments, cancel requests, a restart of the server.
func work(t *testing.T, db *sql.DB, server *pgtest.Server) {
	t.Helper()
	var workers sync.WaitGroup
	for range 6 {
		workers.Go(func() {
			for i := range 20 {
				assert.Equal(t, i, get[int](t, db, "select $1::int", i))
			}
		})
	}
	workers.Wait()
	const large = 1 << 20
	assert.Len(t, get[[]byte](t, db, "select convert_to(repeat('x', $1), 'UTF8')", large), large)
	assert.Equal(t, large, get[int](t, db, "select length($1::bytea)", make([]byte, large)))

	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	pid := func() (pid int) {
		require.NoError(t, conn.QueryRowContext(context.Background(), "select pg_backend_pid()").Scan(&pid))
		return pid
	}
	before := pid()
	_, err = conn.ExecContext(t.Context(), "select pg_sleep(60)")
	require.ErrorIs(t, err, context.DeadlineExceeded, "command_timeout")
	require.ErrorContains(t, err, "57014", "by a cancel request")
	require.Equal(t, before, pid(), "the connection lives on")
	require.NoError(t, conn.Close())

	for range 2 {
		require.NoError(t, server.Restart(t.Context(), pgtest.Fast))
		assert.Equal(t, 1, get[int](t, db, "select 1"))
	}
}
