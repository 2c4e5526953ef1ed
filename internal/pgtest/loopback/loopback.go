// Package loopback finds TCP ports on 127.0.0.1 that can be closed and opened again. Nobody else takes such a port while
// nothing listens on it: it is outside of the range from which the kernel takes ports for outgoing connections, and other
// processes that use this package have other ports. (A client that dials a port inside that range may even be connected to
// itself.)
package loopback

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
)

const (
	lowest   = 10000 // the first port that may be used
	attempts = 100   // how many ports or blocks are tried before giving up
	perBlock = 127   // ports in a block, without the one that claims it
	blocks   = 8     // the most blocks of one process
)

// claimed are the blocks of ports that belong to this process. It listens on the first port of each block as long as it
// lives, so that other processes don't claim the block. A port is given out again only after all others.
var claimed struct {
	sync.Mutex // guards what follows
	claims     []*net.TCPListener
	given      int // how many ports were given out, those that came again included
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

// own returns the next one of this process's ports. Something may listen on it.
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

// claim claims a random block. It is called with claimed locked.
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

// FreePort returns a port on which nothing listens at the moment.
func FreePort() (int, error) {
	listener, err := Listen()
	if err != nil {
		return 0, err
	}
	port := listener.Addr().(*net.TCPAddr).Port
	return port, listener.Close()
}

// ephemeral is the first port of the kernel's range for outgoing connections. If that isn't known, or leaves no room below
// it, it is Linux's default.
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
