// Package loopback finds TCP ports on 127.0.0.1 that can be closed and opened again: they lie outside the range from
// which the kernel takes the ports of outgoing connections. Within it, another connection may take the port while
// nothing listens there, and a client that dials it then may even be connected to itself.
package loopback

import (
	"fmt"
	"net"
	"os"
	"sync/atomic"
)

const (
	lowest   = 10000
	attempts = 1000
	shares   = 16 // of the ports: two processes that run at once rarely begin in the same
)

// taken counts the ports that this process has tried. None comes twice before all others have: whoever closes one may
// open it again later.
var taken atomic.Int64

// Listen listens on a free port of 127.0.0.1.
func Listen() (*net.TCPListener, error) {
	var cause error
	for range attempts {
		ports := ephemeral() - lowest
		port := lowest + (os.Getpid()%shares*ports/shares+int(taken.Add(1)))%ports
		listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err == nil {
			return listener, nil
		}
		cause = err
	}
	return nil, fmt.Errorf("find a free port: %w", cause)
}

// FreePort is a port on which nothing listens at the moment.
func FreePort() (int, error) {
	listener, err := Listen()
	if err != nil {
		return 0, err
	}
	port := listener.Addr().(*net.TCPAddr).Port
	return port, listener.Close()
}

// ephemeral is the first port of the range for outgoing connections or, where it isn't known or leaves no room below,
// Linux's default.
func ephemeral() int {
	const usual = 32768
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return usual
	}
	var first, last int
	if _, err := fmt.Sscan(string(text), &first, &last); err != nil || first < lowest+1000 {
		return usual
	}
	return first
}
