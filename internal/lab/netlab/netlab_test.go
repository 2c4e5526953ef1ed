//go:build linux

package netlab_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pgprod/pgprod/internal/lab/netlab"
)

func TestMain(m *testing.M) {
	if err := netlab.Isolate(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// moment is how long a test waits for what must not come.
const moment = 300 * time.Millisecond

func newNetwork(t *testing.T) *netlab.Network {
	n, err := netlab.New()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, n.Close()) })
	return n
}

func newHost(t *testing.T) *netlab.Host {
	h, err := newNetwork(t).Host()
	require.NoError(t, err)
	return h
}

// echo serves on TCP and UDP, on a host, and sends back what it gets.
func echo(t *testing.T, h *netlab.Host) (address string) {
	address = net.JoinHostPort(h.Address(), "7")
	var serving sync.WaitGroup
	require.NoError(t, h.Do(func() error {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		packets, err := net.ListenPacket("udp", address)
		if err != nil {
			return errors.Join(err, listener.Close())
		}
		t.Cleanup(func() {
			_, _ = listener.Close(), packets.Close()
			serving.Wait()
		})
		serving.Go(func() { echoConns(t, listener, &serving) }) // ends when the listener is closed
		serving.Go(func() { echoPackets(packets) })             // as that
		return nil
	}))
	return address
}

func echoConns(t *testing.T, listener net.Listener, serving *sync.WaitGroup) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		t.Cleanup(func() { _ = conn.Close() })
		serving.Go(func() { // ends with the test
			_, _ = io.Copy(conn, conn)
			_ = conn.Close()
		})
	}
}

func echoPackets(packets net.PacketConn) {
	buffer := make([]byte, 1000)
	for {
		n, from, err := packets.ReadFrom(buffer)
		if err != nil {
			return
		}
		_, _ = packets.WriteTo(buffer[:n], from)
	}
}

// dial connects to a host.
func dial(t *testing.T, network, address string) net.Conn {
	conn, err := net.DialTimeout(network, address, patience)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// roundTrip sends a byte, and waits for one.
func roundTrip(conn net.Conn, limit time.Duration) error {
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte{1}); err != nil {
		return err
	}
	_, err := conn.Read(make([]byte, 1))
	return err
}

func TestATestBinaryThatIsIsolatedSeesNothingOfTheMachinesNetwork(t *testing.T) {
	interfaces, err := net.Interfaces()
	require.NoError(t, err)
	for _, i := range interfaces {
		assert.True(t, i.Name == "lo" || strings.HasPrefix(i.Name, "lab"), i.Name)
	}
}

func TestAHostIsReachedAndReachesOthers(t *testing.T) {
	n := newNetwork(t)
	a, err := n.Host()
	require.NoError(t, err)
	b, err := n.SlowHost()
	require.NoError(t, err)
	for _, h := range []*netlab.Host{a, b} {
		require.NoError(t, roundTrip(dial(t, "tcp", echo(t, h)), patience))
	}
	require.NoError(t, a.Do(func() error {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(b.Address(), "7"), patience)
		if err != nil {
			return err
		}
		return errors.Join(roundTrip(conn, patience), conn.Close())
	}))
}

func TestProcessesThatAHostStartsAreInItsNetwork(t *testing.T) {
	h := newHost(t)
	var out strings.Builder
	cmd := exec.Command("ip", "-brief", "address")
	cmd.Stdout = &out
	require.NoError(t, h.Do(cmd.Run))
	assert.Contains(t, out.String(), h.Address())
	assert.NotContains(t, out.String(), "lab")
}

func TestACutWireIsSilentAndAConnectionGoesOnWhenItIsMended(t *testing.T) {
	h := newHost(t)
	address := echo(t, h)
	for name, cut := range map[string]netlab.Wire{"cut": netlab.Cut, "deaf": {Deaf: true}, "mute": {Mute: true}} {
		conn := dial(t, "tcp", address)
		require.NoError(t, roundTrip(conn, patience), name)
		require.NoError(t, h.Set(cut))
		require.ErrorIs(t, roundTrip(conn, moment), os.ErrDeadlineExceeded, name)
		_, err := net.DialTimeout("tcp", address, moment)
		var timeout net.Error
		require.ErrorAs(t, err, &timeout, name)
		require.True(t, timeout.Timeout(), name)
		require.NoError(t, h.Set(netlab.Wire{}))
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		_, err = conn.Read(make([]byte, 1))
		require.NoError(t, err, "%s: the answer comes late", name)
		require.NoError(t, roundTrip(dial(t, "tcp", address), patience), name)
	}
}

// replies sends packets, and counts those that come back.
func replies(t *testing.T, address string, sent int) (received int) {
	conn := dial(t, "udp", address)
	for range sent {
		_, err := conn.Write([]byte{1})
		require.NoError(t, err)
		for roundDone := false; !roundDone; {
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(2*time.Millisecond)))
			_, err := conn.Read(make([]byte, 1))
			if roundDone = err != nil; !roundDone {
				received++
			}
		}
	}
	return received
}

func TestPacketsAreLostAndDoubledAsOftenAsSaid(t *testing.T) {
	h := newHost(t)
	address := echo(t, h)
	require.NoError(t, h.Set(netlab.Wire{Lost: 300}))
	n := replies(t, address, 400)
	assert.InDelta(t, 196, n, 90, "of 400 packets 7 of 10 arrive, and of their answers too")
	require.NoError(t, h.Set(netlab.Wire{Doubled: 300}))
	n = replies(t, address, 400)
	assert.Greater(t, n, 500, "of 400 packets 3 of 10 arrive twice, and of their answers too: 676")
	require.NoError(t, h.Set(netlab.Wire{}))
	n = replies(t, address, 100)
	assert.InDelta(t, 100, n, 5)
}

func TestPacketsAreLateAsSaidAndOvertakeEachOther(t *testing.T) {
	h, err := newNetwork(t).SlowHost()
	require.NoError(t, err)
	conn := dial(t, "tcp", echo(t, h))
	require.NoError(t, roundTrip(conn, patience))
	require.NoError(t, h.Set(netlab.Wire{Delay: 50 * time.Millisecond, Jitter: 20 * time.Millisecond, Doubled: 50, Lost: 10}))
	for range 5 {
		begin := time.Now()
		require.NoError(t, roundTrip(conn, patience))
		assert.GreaterOrEqual(t, time.Since(begin), 60*time.Millisecond)
	}
	const size = 200_000
	go func() { _, _ = conn.Write(make([]byte, size)) }() // ends with what is read of it, or with the connection
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = io.CopyN(io.Discard, conn, size)
	require.NoError(t, err)
}

func TestOnlyASlowHostHasADelay(t *testing.T) {
	require.ErrorContains(t, newHost(t).Set(netlab.Wire{Delay: time.Second}), "SlowHost")
}

func TestAHostThatHasRebootedKnowsNothingOfItsConnections(t *testing.T) {
	for _, connect := range []func(*netlab.Network) (*netlab.Host, error){(*netlab.Network).Host, (*netlab.Network).SlowHost} {
		h, err := connect(newNetwork(t))
		require.NoError(t, err)
		conn := dial(t, "tcp", echo(t, h))
		require.NoError(t, roundTrip(conn, patience))
		require.NoError(t, h.Set(netlab.Cut))
		require.NoError(t, h.Reboot())
		assert.Zero(t, h.Wire())
		again := dial(t, "tcp", echo(t, h))
		require.NoError(t, roundTrip(again, patience))
		require.NoError(t, conn.SetDeadline(time.Now().Add(moment)))
		_, err = conn.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "who waits isn't told")
		require.ErrorIs(t, roundTrip(conn, patience), syscall.ECONNRESET, "who writes is")
	}
}

func TestWithoutRightsItIsSaidWhatIsMissing(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestOnlyASlowHostHasADelay$")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(out), "run the tests as root", "error: %v", err)
}

func TestAForgottenConnectionIsSilentWhileItsHostAnswersOthers(t *testing.T) {
	h := newHost(t)
	address := echo(t, h)
	conn, other := dial(t, "tcp", address), dial(t, "tcp", address)
	require.NoError(t, roundTrip(conn, patience))
	require.NoError(t, h.Set(netlab.Wire{Forgotten: []int{conn.LocalAddr().(*net.TCPAddr).Port}}))
	require.ErrorIs(t, roundTrip(conn, moment), os.ErrDeadlineExceeded)
	require.NoError(t, roundTrip(other, patience))
	require.NoError(t, roundTrip(dial(t, "tcp", address), patience))
	require.NoError(t, h.Set(netlab.Wire{}))
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err := conn.Read(make([]byte, 1))
	require.NoError(t, err)
}
