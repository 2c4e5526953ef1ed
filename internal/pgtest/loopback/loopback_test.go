package loopback_test

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest/loopback"
)

func TestAFreePortLiesBelowThoseOfOutgoingConnections(t *testing.T) {
	first := 32768
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		first, err = strconv.Atoi(strings.Fields(string(text))[0])
		require.NoError(t, err)
	}
	for range 100 {
		port, err := loopback.FreePort()
		require.NoError(t, err)
		assert.Less(t, port, first)
		assert.GreaterOrEqual(t, port, 10000)
	}
}

func TestAListenersPortCanBeOpenedAgain(t *testing.T) {
	listener, err := loopback.Listen()
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	again, err := net.Listen("tcp", address)
	require.NoError(t, err)
	require.NoError(t, again.Close())
}
