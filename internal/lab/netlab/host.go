//go:build linux

package netlab

import (
	"errors"
	"fmt"
	"os"
	"sync"
)

// inside is the name of a host's network device.
const inside = "eth0"

// A Host is a network namespace with an address. It is safe for concurrent use.
type Host struct {
	network *Network
	number  int
	slow    bool // its cable is in user space

	mu    sync.Mutex // guards the fields below; programs run under it
	ns    namespace
	cable *slowCable // nil if the kernel has it
	wire  Wire
}

// Host connects another host to the network.
func (n *Network) Host() (*Host, error) { return n.connect(false) }

// SlowHost connects another host, by a cable that can delay packets, and takes more of the machine's time than others.
func (n *Network) SlowHost() (*Host, error) { return n.connect(true) }

func (n *Network) connect(slow bool) (*Host, error) {
	h := &Host{network: n, number: 11 + len(n.hosts), slow: slow}
	n.hosts = append(n.hosts, h)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.joinLocked(); err != nil {
		return nil, err
	}
	return h, nil
}

// joinLocked makes the namespace, and connects it with the bridge.
func (h *Host) joinLocked() (err error) {
	if h.ns, err = newNamespace(); err != nil {
		return err
	}
	if err := h.plugLocked(); err != nil {
		return err
	}
	if err := ip("link set "+h.port()+" master "+h.network.bridge(), "link set "+h.port()+" up"); err != nil {
		return err
	}
	return h.ns.do(func() error {
		return ip("link set lo up", "link set "+inside+" address "+h.mac(), "addr add "+h.Address()+"/24 dev "+inside,
			"link set "+inside+" up", "route add default via "+h.network.Address())
	})
}

// plugLocked makes the cable: two devices, of which one is in the host's namespace.
func (h *Host) plugLocked() (err error) {
	if h.slow {
		h.cable, err = newSlowCable(h.port(), h.ns)
		return err
	}
	cable := []string{"link", "add", h.port(), "type", "veth", "peer", "name", inside}
	return h.withNamespaceLocked(func(path string) error { return run("ip", append(cable, "netns", path)...) })
}

// withNamespaceLocked calls f with a path of the namespace that another program can open.
func (h *Host) withNamespaceLocked(f func(path string) error) error {
	return f(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), h.ns.file.Fd()))
}

// port is the name of the bridge's end of the cable.
func (h *Host) port() string { return fmt.Sprintf("%sp%d", h.network.bridge(), h.number) }

// mac is the address of the host's device, which stays when the host reboots.
func (h *Host) mac() string {
	return fmt.Sprintf("02:00:00:00:%02x:%02x", h.network.number&255, h.number)
}

// Address is the host's address in the network.
func (h *Host) Address() string { return h.network.address(h.number) }

// Do calls f in a goroutine that is locked to a thread in the host's namespace: sockets that f opens and processes that it
// starts belong to the host.
func (h *Host) Do(f func() error) error {
	h.mu.Lock()
	ns := h.ns
	h.mu.Unlock()
	return ns.do(f)
}

// Reboot gives the host a namespace of its own again, in which nothing is known of connections: whoever writes to an old one is told
// so, and whoever waits isn't. What ran on the host must have ended. The wire is whole again.
func (h *Host) Reboot() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wire = Wire{}
	if err := h.leaveLocked(); err != nil {
		return err
	}
	return h.joinLocked()
}

// leave removes the host from the network.
func (h *Host) leave() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.leaveLocked()
}

func (h *Host) leaveLocked() error {
	if h.ns.file == nil {
		return nil
	}
	var err error
	if h.cable != nil {
		err = h.cable.close()
		h.cable = nil
	} else {
		err = run("ip", "link", "del", h.port()) // at once, and with it the other end: a namespace goes when its last socket has gone
	}
	err = errors.Join(err, forget(h.port()), h.ns.file.Close())
	h.ns = namespace{}
	return err
}
