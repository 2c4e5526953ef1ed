package pool

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

// pgxTimeout is an error for which pgconn.Timeout reports true, and pgconn.SafeToRetry false. Callers who know pgx ask the
// first of an error, and pgconn tells by a type of its own that nobody else can make. It gives one out where the deadline
// of a read has passed, which needs no server.
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

// deadlineError is the end of a context as all who may ask for it know it: if its deadline has passed, errors.Is finds
// context.DeadlineExceeded, and pgconn.Timeout is true.
func deadlineError(err error) []error {
	if timeout := pgxTimeout(); timeout != nil && errors.Is(err, context.DeadlineExceeded) {
		return []error{err, timeout}
	}
	return []error{err}
}
