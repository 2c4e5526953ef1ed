package pgerror

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgproto3"
)

// pgxTimeout returns an error for which pgconn.Timeout reports true, and pgconn.SafeToRetry false. Applications that know pgx
// ask pgconn.Timeout of an error, which looks for a type of pgconn's own that nobody else can make. pgconn makes such an error
// when the deadline of a read has passed, so this reads once, after its deadline, from a connection that leads nowhere. It
// returns nil if pgconn doesn't make one there any more.
var pgxTimeout = sync.OnceValue(func() error {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	_ = client.SetReadDeadline(time.Unix(1, 0))
	pg, err := pgconn.Construct(&pgconn.HijackedConn{Conn: client, Config: &pgconn.Config{
		BuildFrontend: pgproto3.NewFrontend,
		BuildContextWatcherHandler: func(pg *pgconn.PgConn) ctxwatch.Handler {
			return &pgconn.DeadlineContextWatcherHandler{Conn: pg.Conn()}
		},
	}})
	if err == nil {
		_, err = pg.ReceiveMessage(context.Background())
	}
	return errors.Unwrap(err) // what says that it was to no avail lies around it
})

// OfContext returns the end of a context as all who may ask for it know it. It is for an Unwrap() []error: errors.Is finds
// err among them, and if err is or wraps context.DeadlineExceeded, pgconn.Timeout is true as well.
func OfContext(err error) []error {
	if timeout := pgxTimeout(); timeout != nil && errors.Is(err, context.DeadlineExceeded) {
		return []error{err, timeout}
	}
	return []error{err}
}
