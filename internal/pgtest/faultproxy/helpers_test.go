package faultproxy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// patience is for what should happen at once.
const patience = 10 * time.Second

// fixture is a database with a table t (x int), reached directly and through a proxy.
func fixture(t *testing.T) (direct *pgx.Conn, proxy *faultproxy.Proxy) {
	t.Helper()
	dsn := pgtest.NewDatabase(t)
	direct = connect(t, dsn)
	_, err := direct.Exec(t.Context(), "create table t (x int)")
	require.NoError(t, err)
	return direct, faultproxy.StartTB(t, dsn)
}

// connect opens a connection that is closed at the end of the test.
func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	closeAtEnd(t, conn)
	return conn
}

func closeAtEnd(t *testing.T, conn *pgx.Conn) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	})
}

// witness is a connection's socket that remembers how it ended: pgx doesn't always tell.
type witness struct {
	net.Conn
	mu   sync.Mutex // guards what follows
	read int        // how many bytes were read
	err  error      // the first one
}

// bytes returns how many bytes the client has read.
func (w *witness) bytes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.read
}

func (w *witness) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.read += n
	if err != nil && w.err == nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, net.ErrClosed) {
		w.err = err
	}
	return n, err
}

// requireEnd checks that the client saw the end that the proxy was told to give.
func (w *witness) requireEnd(t *testing.T, end faultproxy.End) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if end == faultproxy.RST {
		require.ErrorIs(t, w.err, syscall.ECONNRESET)
	} else {
		require.Equal(t, io.EOF, w.err)
	}
}

// connectWatched is connect with a witness.
func connectWatched(t *testing.T, dsn string) (*pgx.Conn, *witness) {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	w := &witness{}
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if w.Conn != nil { // pgx dials again for a cancel request, which would end what the server still does
			return nil, errors.New("no cancel requests")
		}
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		w.Conn = conn
		return w, nil
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	closeAtEnd(t, conn)
	return conn, w
}

// rows counts the rows of t.
func rows(t *testing.T, conn *pgx.Conn) (n int) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), "select count(*) from t").Scan(&n))
	return n
}

func eventually(t *testing.T, cond func() bool, msg ...any) {
	t.Helper()
	pgtest.Eventually(t, patience, cond, msg...)
}
