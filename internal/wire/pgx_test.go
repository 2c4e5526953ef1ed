package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A writes is a network connection that hands over what is written to it, one Write at a time, and whose reads give what was
// put into answers. Each ends with the connection.
type writes struct {
	net.Conn // nil: pgx calls nothing else in these tests

	written chan []byte
	answers io.Reader
	closed  chan struct{}
}

var _ net.Conn = (*writes)(nil)

func (w *writes) Write(p []byte) (int, error) {
	w.written <- bytes.Clone(p)
	return len(p), nil
}

func (w *writes) Read(p []byte) (int, error)  { return w.answers.Read(p) }
func (w *writes) SetDeadline(time.Time) error { return nil }
func (w *writes) RemoteAddr() net.Addr        { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 5432} }

func (w *writes) Close() error {
	select {
	case <-w.closed:
	default:
		close(w.closed)
	}
	return nil
}

// tapped returns a connection of pgx's, as if it had logged in, through a tap. What the server says is in answers.
func tapped(t *testing.T, answers string) (*pgconn.PgConn, *Tap, *writes) {
	t.Helper()
	var tap *Tap
	w := &writes{written: make(chan []byte, 10), answers: bytes.NewBufferString(answers), closed: make(chan struct{})}
	pg, err := pgconn.Construct(&pgconn.HijackedConn{Conn: w, Config: &pgconn.Config{
		BuildFrontend: func(r io.Reader, w io.Writer) *pgproto3.Frontend {
			tap = NewTap(r, w, func() bool { return false })
			return pgproto3.NewFrontend(tap, tap)
		},
		BuildContextWatcherHandler: func(pg *pgconn.PgConn) ctxwatch.Handler {
			return &pgconn.DeadlineContextWatcherHandler{Conn: pg.Conn()}
		},
		DialFunc: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no cancel request") },
	}})
	require.NoError(t, err)
	return pg, tap, w
}

// kinds are the kinds of the messages in what was written.
func kinds(written []byte) (all string) {
	for len(written) > 4 {
		all += string(written[0])
		written = written[1+int(written[3])<<8+int(written[4]):]
	}
	return all
}

// TestPgxStillWritesAStatementAtOnce is what Refused relies on: the first message of a Write tells what it is.
func TestPgxStillWritesAStatementAtOnce(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for want, send := range map[string]func(*pgconn.PgConn){
		"Q":     func(pg *pgconn.PgConn) { pg.Exec(ctx, "select 1") },
		"PDS":   func(pg *pgconn.PgConn) { _, _ = pg.Prepare(ctx, "name", "select 1", nil) },
		"PBDES": func(pg *pgconn.PgConn) { pg.ExecParams(ctx, "select 1", nil, nil, nil, nil) },
		"BES": func(pg *pgconn.PgConn) {
			pg.ExecStatement(ctx, &pgconn.StatementDescription{Fields: make([]pgconn.FieldDescription, 1)}, nil, nil, nil)
		},
	} {
		pg, _, w := tapped(t, "")
		send(pg)
		assert.Equal(t, want, kinds(<-w.written))
		require.NoError(t, pg.Close(ctx))
		<-w.closed
	}
}

// TestPgxStillSaysGoodbyeByALoneTerminateInTheBackground is why a Tap doesn't count one: the caller of a statement whose
// connection has failed asks, at the same time, whether the statement got out.
func TestPgxStillSaysGoodbyeByALoneTerminateInTheBackground(t *testing.T) {
	t.Parallel()
	pg, tap, w := tapped(t, "")   // the first read is at the end
	w.written = make(chan []byte) // so that a goodbye waits until it is looked at
	err := make(chan error)
	go func() { // ends with the statement
		_, e := pg.Exec(context.Background(), "select 1").ReadAll()
		err <- e
	}()
	assert.Equal(t, "Q", kinds(<-w.written))
	require.Error(t, <-err, "though nobody has seen the goodbye")
	before := tap.Mark()
	assert.Equal(t, "X\x00\x00\x00\x04", string(<-w.written))
	<-pg.CleanupDone()
	assert.Equal(t, before, tap.Mark())
}
