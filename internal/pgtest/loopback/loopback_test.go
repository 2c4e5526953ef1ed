package loopback_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
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

func TestNoPortComesTwiceBeforeManyOthersHave(t *testing.T) {
	seen := map[int]bool{}
	for range 500 {
		port, err := loopback.FreePort()
		require.NoError(t, err)
		require.False(t, seen[port], port)
		seen[port] = true
	}
}

func TestTwoProcessesHavePortsOfTheirOwn(t *testing.T) {
	const child = "LOOPBACK_TEST_CHILD"
	if os.Getenv(child) != "" {
		for range 100 {
			port, err := loopback.FreePort()
			require.NoError(t, err)
			fmt.Println("port", port)
		}
		return
	}
	var mine []int
	for range 100 {
		port, err := loopback.FreePort()
		require.NoError(t, err)
		mine = append(mine, port)
	}
	for range 4 { // each draws anew
		other := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		other.Env = append(os.Environ(), child+"=1")
		out, err := other.Output()
		require.NoError(t, err)
		for _, port := range mine {
			require.NotContains(t, string(out), fmt.Sprintf("port %d\n", port))
		}
		require.Equal(t, 100, strings.Count(string(out), "port "))
	}
}
