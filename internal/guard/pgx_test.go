package guard_test

import (
	"context"
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/guard"
)

// TestPgxStillGivesNoErrorForACancelRequestThatIsNotAcknowledged is why a Guard looks at the clock as well. What else it relies
// on is tested in package link, whose connections it guards.
func TestPgxStillGivesNoErrorForACancelRequestThatIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	defer server.Close()
	defer client.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pg, err := pgconn.Construct(&pgconn.HijackedConn{Conn: client, SecretKey: make([]byte, 4), Config: &pgconn.Config{
		BuildFrontend:              pgproto3.NewFrontend,
		BuildContextWatcherHandler: func(*pgconn.PgConn) ctxwatch.Handler { return guard.New(nil) },
		DialFunc: func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			go func() { // ends when pgx hangs up
				defer server.Close()
				_, err := io.ReadFull(server, make([]byte, 16)) // the whole request
				assert.NoError(t, err)
				cancel()
				_, _ = io.Copy(io.Discard, server)
			}()
			return client, nil
		},
	}})
	require.NoError(t, err)
	assert.NoError(t, pg.CancelRequest(ctx))
	assert.Error(t, ctx.Err(), "it has waited for as long as it may")
}
