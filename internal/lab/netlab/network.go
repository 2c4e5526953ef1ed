//go:build linux

package netlab

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// networks counts the networks of this process, so that each has a name and addresses of its own.
var networks atomic.Int64

// A Network is a bridge with an address, to which hosts are connected. Its methods are not for concurrent use.
type Network struct {
	number int
	hosts  []*Host
}

// New makes a network without hosts. The process must be isolated. Close it.
func New() (*Network, error) {
	n := &Network{number: int(networks.Add(1))}
	err := ip(
		"link add "+n.bridge()+" type bridge",
		"addr add "+n.Address()+"/24 dev "+n.bridge(),
		"link set "+n.bridge()+" up",
	)
	if err != nil {
		return nil, err
	}
	return n, nil
}

func (n *Network) bridge() string { return fmt.Sprintf("lab%d", n.number) }

// address is the address of a host by its number.
func (n *Network) address(host int) string {
	return fmt.Sprintf("10.%d.%d.%d", 64+n.number>>8&63, n.number&255, host)
}

// Address is the address of this process in the network.
func (n *Network) Address() string { return n.address(1) }

// Close removes the network and its hosts. Processes that run on hosts have to be ended before, by whoever has started them.
func (n *Network) Close() error {
	var errs []error
	for _, h := range n.hosts {
		errs = append(errs, h.leave())
	}
	return errors.Join(append(errs, run("ip", "link", "del", n.bridge()))...)
}
