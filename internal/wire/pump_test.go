package wire

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// bare is a connection without deadlines and without addresses, as a channel of SSH is.
type bare struct{ net.Conn }

func (bare) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (bare) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (bare) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }
func (bare) RemoteAddr() net.Addr             { return nil }
func (bare) LocalAddr() net.Addr              { return nil }

// adoptedPipe returns a connection without a socket as a dial function's, and its other end.
func adoptedPipe(t *testing.T) (c, other net.Conn) {
	t.Helper()
	near, other := net.Pipe()
	c = Adopt(bare{near}, "tcp", "db.example.com:5432")
	t.Cleanup(func() {
		_ = c.Close()
		_ = other.Close()
	})
	return c, other
}

func TestAConnectionWithoutASocketHasTheAddressItWasAskedFor(t *testing.T) {
	c, _ := adoptedPipe(t)
	assert.Equal(t, "tcp", c.RemoteAddr().Network())
	assert.Equal(t, "db.example.com:5432", c.RemoteAddr().String())
}

func TestAConnectionWithoutASocketCarriesAllThatIsSent(t *testing.T) {
	c, other := adoptedPipe(t)
	sent := make([]byte, 10*pumpSize+7)
	for i := range sent {
		sent[i] = byte(i * 31)
	}
	var ends sync.WaitGroup
	ends.Go(func() {
		_, err := other.Write(sent)
		assert.NoError(t, err)
		assert.NoError(t, other.Close())
	})
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	ends.Wait()
	assert.Equal(t, sent, got)
}

func TestAReadWithoutASocketEndsAtItsDeadlineAndLosesNothing(t *testing.T) {
	c, other := adoptedPipe(t)
	one := make([]byte, 1)
	for _, in := range []time.Duration{-time.Second, time.Millisecond} {
		require.NoError(t, c.SetDeadline(time.Now().Add(in)))
		_, err := c.Read(one)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		var timeout net.Error
		require.ErrorAs(t, err, &timeout)
		assert.True(t, timeout.Timeout())
	}
	require.NoError(t, c.SetDeadline(time.Time{}))
	failed := make(chan error, 1)
	go func() { // ends with the deadline below
		_, err := c.Read(one)
		failed <- err
	}()
	require.NoError(t, c.SetReadDeadline(time.Now())) // also for the read under way
	require.ErrorIs(t, <-failed, os.ErrDeadlineExceeded)

	_, err := other.Write([]byte("x")) // it is read ahead, although the time is up
	require.NoError(t, err)
	_, err = c.Read(one)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, c.SetReadDeadline(time.Time{}))
	_, err = c.Read(one)
	require.NoError(t, err)
	assert.Equal(t, "x", string(one))
}

func TestAWriteWithoutASocketEndsAtItsDeadlineWithItsConnection(t *testing.T) {
	c, _ := adoptedPipe(t)
	require.NoError(t, c.SetWriteDeadline(time.Now().Add(-time.Second)))
	_, err := c.Write([]byte("x"))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Millisecond)))
	_, err = c.Write([]byte("nobody reads this"))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, c.SetDeadline(time.Time{}))
	_, err = c.Read(make([]byte, 1))
	require.Error(t, err, "the connection is closed")
}

func TestAReadWithoutASocketEndsWhenEitherEndCloses(t *testing.T) {
	for name, closes := range map[string]func(c, other net.Conn) error{
		"here":  func(c, _ net.Conn) error { return c.Close() },
		"there": func(_, other net.Conn) error { return other.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			c, other := adoptedPipe(t)
			failed := make(chan error, 1)
			go func() { // ends when the connection is closed
				_, err := c.Read(make([]byte, 1))
				failed <- err
			}()
			require.NoError(t, closes(c, other))
			require.Error(t, <-failed)
		})
	}
}

func TestAProbeSeesWhatAConnectionWithoutASocketHasReadAhead(t *testing.T) {
	c, other := adoptedPipe(t)
	p := NewProbe(c)
	assert.Equal(t, Silent, p.Peek())
	becomes := func(want State) {
		t.Helper()
		require.Eventually(t, func() bool { return p.Peek() == want }, 10*time.Second, time.Millisecond)
	}
	_, err := other.Write([]byte("N"))
	require.NoError(t, err)
	becomes(Pending)
	_, err = c.Read(make([]byte, 1))
	require.NoError(t, err)
	becomes(Silent)
	require.NoError(t, other.Close())
	becomes(Dead)
}

func TestASocketOfADialFunctionIsLookedAtItself(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	raw, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	other, err := listener.Accept()
	require.NoError(t, err)
	c := Adopt(raw, "tcp", "name:1")
	defer c.Close()
	assert.False(t, mayHide(c))
	near, _ := net.Pipe()
	tunnelled := Adopt(bare{near}, "tcp", "name:1")
	defer tunnelled.Close()
	assert.True(t, mayHide(tunnelled))
	p := NewProbe(c)
	assert.Equal(t, Silent, p.Peek())
	require.NoError(t, other.Close())
	require.Eventually(t, func() bool { return p.Peek() == Dead }, 10*time.Second, time.Millisecond)
}

func TestTLSIsSeenBelowAndAboveWhatAdoptAdds(t *testing.T) {
	near, _ := net.Pipe()
	defer near.Close()
	for name, c := range map[string]net.Conn{
		"alone":             tls.Client(near, &tls.Config{}),
		"the application's": Adopt(tls.Client(bare{near}, &tls.Config{}), "tcp", "name:1"),
		"pgx's":             tls.Client(Adopt(bare{near}, "tcp", "name:1"), &tls.Config{}),
	} {
		assert.True(t, Encrypted(c), name)
	}
	assert.False(t, Encrypted(near))
	assert.False(t, Encrypted(Adopt(bare{near}, "tcp", "name:1")))
}
