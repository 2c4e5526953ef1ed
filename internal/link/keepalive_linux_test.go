package link

import (
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheSystemLooksAfterNetworkConnections(t *testing.T) {
	door := listens(t, "tcp", "127.0.0.1:0", func(net.Conn) { <-t.Context().Done() })
	for _, c := range []struct {
		deadAfter time.Duration
		idle      int
	}{{time.Second, 5}, {20 * time.Second, 20}, {0, 15}} { // the last one is Go's
		d := knocker(t, Hooks{})
		d.cfg.DeadAfter = c.deadAfter
		nc, err := d.dialNetwork(t.Context(), door.network, door.address)
		require.NoError(t, err)
		defer nc.Close()
		assert.Equal(t, c.idle, option(t, nc, syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE))
		if assert.Equal(t, 1, option(t, nc, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)); c.deadAfter > 0 {
			assert.Equal(t, 1, option(t, nc, syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL))
		}
	}
}

// option returns an option of a socket.
func option(t *testing.T, nc net.Conn, level, name int) (value int) {
	t.Helper()
	raw, err := nc.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	var failed error
	require.NoError(t, raw.Control(func(fd uintptr) { value, failed = syscall.GetsockoptInt(int(fd), level, name) }))
	require.NoError(t, failed)
	return value
}
