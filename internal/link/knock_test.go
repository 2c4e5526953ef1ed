package link

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/settings"
)

// knocker returns a Dialer that can do no more than knock.
func knocker(t *testing.T, hooks Hooks) *Dialer {
	t.Helper()
	conn, err := pgx.ParseConfig("host=127.0.0.1")
	require.NoError(t, err)
	return &Dialer{cfg: &settings.Config{Conn: conn, ConnectTimeout: time.Minute, DeadAfter: time.Second}, hooks: hooks}
}

// listens returns a door behind which serve is called for each connection, which is closed afterwards.
func listens(t *testing.T, network, address string, serve func(net.Conn)) Door {
	t.Helper()
	l, err := net.Listen(network, address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() { // ends when l is closed
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c)
			_ = c.Close()
		}
	}()
	return Door{network, l.Addr().String()}
}

func TestWhateverComesIsAnAnswer(t *testing.T) {
	read := func(c net.Conn) { _, _ = c.Read(make([]byte, 8)) }
	for name, door := range map[string]Door{
		"a byte": listens(t, "tcp", "127.0.0.1:0", func(c net.Conn) { read(c); _, _ = c.Write([]byte{'N'}) }),
		"FIN":    listens(t, "tcp", "127.0.0.1:0", read),
		"RST":    listens(t, "tcp", "127.0.0.1:0", func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }),
		"a byte on a unix socket": listens(t, "unix", filepath.Join(t.TempDir(), "s"),
			func(c net.Conn) { read(c); _, _ = c.Write([]byte{'N'}) }),
		"refusal":   {"tcp", "127.0.0.1:1"},
		"no socket": {"unix", filepath.Join(t.TempDir(), "nobody")},
	} {
		t.Run(name, func(t *testing.T) {
			assert.NoError(t, knocker(t, Hooks{}).Knock(t.Context(), door, true))
			assert.NoError(t, knocker(t, Hooks{}).Knock(t.Context(), door, false))
		})
	}
}

func TestSilenceIsNoAnswer(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	door := listens(t, "tcp", "127.0.0.1:0", func(net.Conn) { <-t.Context().Done() })
	require.Error(t, knocker(t, Hooks{}).Knock(ctx, door, true))
	require.Error(t, ctx.Err(), "it has waited")
}

// TestWhoCannotAskKnowsNothing: what says nothing of the other end is taken for an answer, so that nothing is cut.
func TestWhoCannotAskKnowsNothing(t *testing.T) {
	for _, c := range []struct {
		err    error
		silent bool
	}{
		{err: &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)}},
		{err: &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)}},
		{err: &net.DNSError{Err: "i/o timeout", IsTimeout: true}},
		{err: errors.New("the tunnel is broken")},
		{err: &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}, silent: true},
		{err: &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ETIMEDOUT)}, silent: true},
		{err: context.DeadlineExceeded, silent: true},
	} {
		d := knocker(t, Hooks{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, c.err }})
		assert.Equal(t, c.silent, d.Knock(t.Context(), Door{"tcp", "db:5432"}, true) != nil, "%v", c.err)
	}
}

func TestAQuestionIsAskedByTheApplicationsFunction(t *testing.T) {
	asked := make(chan []byte, 1)
	d := knocker(t, Hooks{Dial: func(_ context.Context, network, address string) (net.Conn, error) {
		assert.Equal(t, "tcp db:5432", network+" "+address)
		own, other := net.Pipe()
		go func() { // ends when own is closed
			question := make([]byte, 8)
			_, _ = other.Read(question)
			asked <- question
			_, _ = other.Write([]byte{'S'})
			_ = other.Close()
		}()
		return own, nil
	}})
	require.NoError(t, d.Knock(t.Context(), Door{"tcp", "db:5432"}, true))
	assert.Equal(t, []byte{0, 0, 0, 8, 4, 210, 22, 48}, <-asked)
	require.NoError(t, d.Knock(t.Context(), Door{"tcp", "db:5432"}, false))
	assert.Equal(t, []byte{0, 0, 0, 8, 4, 210, 22, 47}, <-asked)
	assert.NotZero(t, d.DialTook())
}

func TestAQuestionGoesThroughTheConfigurationsAfterNetConnect(t *testing.T) {
	door := listens(t, "tcp", "127.0.0.1:0", func(c net.Conn) { // the last byte of the question, turned round
		question := make([]byte, 8)
		if _, _ = io.ReadFull(c, question); question[7] == ^byte(48) {
			_, _ = c.Write([]byte{'N'})
			return
		}
		<-t.Context().Done()
	})
	d := knocker(t, Hooks{})
	d.cfg.Conn.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, nc net.Conn) (net.Conn, error) { return turned{nc}, nil }
	require.NoError(t, d.Knock(t.Context(), door, true))

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	d.cfg.Conn.AfterNetConnect = func(ctx context.Context, _ *pgconn.Config, nc net.Conn) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	require.Error(t, d.Knock(ctx, door, true))
}

// turned turns each bit round that is written.
type turned struct{ net.Conn }

func (c turned) Write(b []byte) (int, error) {
	b = slices.Clone(b)
	for i := range b {
		b[i] = ^b[i]
	}
	return c.Conn.Write(b)
}
