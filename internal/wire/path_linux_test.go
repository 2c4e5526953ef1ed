//go:build linux && !386 && !s390x

package wire

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// bothEnds returns both ends of a connection on the loopback interface.
func bothEnds(t *testing.T, network, address string) (own, other net.Conn) {
	t.Helper()
	listener, err := net.Listen(network, address)
	require.NoError(t, err)
	defer listener.Close()
	own, err = net.Dial(network, listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = own.Close() })
	other, err = listener.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = other.Close() })
	return own, other
}

func TestOfASoundPathTheSystemKnowsWhenItsEndHasLastAcknowledgedSomething(t *testing.T) {
	t.Parallel()
	own, _ := bothEnds(t, "tcp", "127.0.0.1:0")
	_, err := own.Write([]byte{1})
	require.NoError(t, err)
	const pause = 300 * time.Millisecond
	sent := time.Now()
	require.Eventually(t, func() bool { return time.Since(sent) > pause }, time.Minute, time.Millisecond)
	for _, c := range []net.Conn{own, Adopt(own, "tcp", "db:5432"), tls.Client(own, nil)} {
		path, ok := PathOf(c)
		require.True(t, ok)
		assert.Zero(t, path.Tries)
		assert.GreaterOrEqual(t, path.Silent, pause/2)
		assert.LessOrEqual(t, path.Silent, time.Since(sent)+pause)
	}
}

// TestWhoHasNoRoomReplies fills all buffers of a connection that nobody reads. The kernel asks for room again and again.
func TestWhoHasNoRoomReplies(t *testing.T) {
	t.Parallel()
	own, _ := bothEnds(t, "tcp", "127.0.0.1:0")
	require.NoError(t, own.SetWriteDeadline(time.Now().Add(3*time.Second)))
	for full := false; !full; {
		_, err := own.Write(make([]byte, 1<<20))
		full = err != nil
	}
	path, ok := PathOf(own)
	require.True(t, ok)
	assert.LessOrEqual(t, path.Tries, 1, "it may have asked just now")
}

func TestThereAreConnectionsOfWhosePathNothingIsKnown(t *testing.T) {
	t.Parallel()
	socket, _ := bothEnds(t, "unix", t.TempDir()+"/s")
	pipe, end := net.Pipe()
	defer end.Close()
	closed, _ := bothEnds(t, "tcp", "127.0.0.1:0")
	require.NoError(t, closed.Close())
	for _, c := range []net.Conn{socket, pipe, Adopt(pipe, "tcp", "db:5432"), closed} {
		_, ok := PathOf(c)
		assert.False(t, ok, "%T", c)
		_ = c.Close()
	}
}

func BenchmarkPathOf(b *testing.B) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	defer listener.Close()
	own, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(b, err)
	defer own.Close()
	b.ReportAllocs()
	for b.Loop() {
		PathOf(own)
	}
}
