// Package loopback finds TCP ports on 127.0.0.1 that can be closed and opened again. They lie outside the range from
// which the kernel takes the ports of outgoing connections: within it, another connection may take the port while nothing
// listens there, and a client that dials it then may even be connected to itself. And no other process that uses this
// package takes them.
package loopback

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
)

const (
	lowest   = 10000
	attempts = 100
	perBlock = 127 // ports, beside the one that claims them
	blocks   = 8   // at most, for one process
)

// claimed are the process's own ports, in blocks. It listens on the first port of each as long as it lives, which keeps
// other processes off. No port comes twice before all others have.
var claimed struct {
	sync.Mutex // guards the fields
	claims     []*net.TCPListener
	given      int // ports
}

// Listen listens on a free port of 127.0.0.1.
func Listen() (*net.TCPListener, error) {
	var cause error
	for range attempts {
		port, err := own()
		if err != nil {
			return nil, err
		}
		listener, err := listen(port)
		if err == nil {
			return listener, nil
		}
		cause = err
	}
	return nil, fmt.Errorf("find a free port: %w", cause)
}

// own is the next of the process's ports.
func own() (int, error) {
	claimed.Lock()
	defer claimed.Unlock()
	at := claimed.given % perBlock
	if at == 0 && len(claimed.claims) < blocks {
		if err := claim(); err != nil && len(claimed.claims) == 0 {
			return 0, err
		}
	}
	block := claimed.claims[claimed.given/perBlock%len(claimed.claims)]
	claimed.given++
	return block.Addr().(*net.TCPAddr).Port + 1 + at, nil
}

func claim() (err error) {
	for range attempts {
		block := rand.IntN((ephemeral() - lowest) / (1 + perBlock))
		var listener *net.TCPListener
		if listener, err = listen(lowest + block*(1+perBlock)); err == nil {
			claimed.claims = append(claimed.claims, listener)
			return nil
		}
	}
	return fmt.Errorf("find free ports: %w", err)
}

func listen(port int) (*net.TCPListener, error) {
	return net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
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
