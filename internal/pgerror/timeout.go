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

// pgxTimeout returns an error for which pgconn.Timeout reports true and pgconn.SafeToRetry false. Applications that know pgx
// call pgconn.Timeout, which looks for an unexported type of pgconn's. pgconn makes such an error when a read has passed its
// deadline, so this function reads once, after the deadline, from a connection to nowhere. It returns nil if pgconn doesn't
// make such an error there any more.
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
	return errors.Unwrap(err) // without the text about the message that could not be received
})

// OfContext returns a context's error, and with it, if that is or wraps context.DeadlineExceeded, an error for which
// pgconn.Timeout reports true. The result is for an Unwrap() []error, so that applications recognise a timeout in either
// way.
func OfContext(err error) []error {
	if timeout := pgxTimeout(); timeout != nil && errors.Is(err, context.DeadlineExceeded) {
		return []error{err, timeout}
	}
	return []error{err}
}
