//go:build linux

package netlab

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// A Wire says what becomes of IP packets between a host and all others. The zero value delivers all of them.
type Wire struct {
	// Deaf and Mute lose all packets to the host, and all from it.
	Deaf, Mute bool
	// Forgotten are ports of clients, all of whose packets are lost, and all for them: so a firewall treats a connection that it
	// has forgotten.
	Forgotten []int
	// Lost and Doubled are how many of a thousand packets are lost, and how many come twice, in each direction.
	Lost, Doubled int
	// Delay is how long a packet takes, in each direction, and Jitter by how much more or less, so that packets overtake each
	// other. They need a SlowHost.
	Delay, Jitter time.Duration
}

// Cut loses all packets: a black hole.
var Cut = Wire{Deaf: true, Mute: true}

// Set says what becomes of packets from now on. All changes at once, but for the two directions, which follow each other within
// milliseconds.
func (h *Host) Set(w Wire) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if w.Delay > 0 || w.Jitter > 0 || h.cable != nil {
		if h.cable == nil {
			return errors.New("netlab: only a SlowHost has a delay")
		}
		h.cable.set(w.Delay, w.Jitter)
	}
	h.wire = w
	// The rules for what comes in are where it comes in, so that whoever has sent it isn't told.
	toHost := func() error { return feed(rules(inside, w.Deaf, "sport", w), "nft", "-f", "-") }
	if err := h.ns.do(toHost); err != nil {
		return err
	}
	return feed(rules(h.port(), w.Mute, "dport", w), "nft", "-f", "-")
}

// rules are nftables' rules for a device at one end of a cable. Address resolution goes on in a cut wire, as it does in a network in
// which a router stands in front of the host: else the kernel would soon say that there is no such host. client is what nftables calls
// the client's port in this direction.
func rules(device string, deaf bool, client string, w Wire) string {
	text := forgetting(device) + "\ntable netdev " + table(device) + " {\n"
	text += fmt.Sprintf("chain in { type filter hook ingress device %s priority 0\n%s\n}\n", device, incoming(deaf, client, w))
	if w.Doubled > 0 {
		text += fmt.Sprintf("chain out { type filter hook egress device %s priority 0\n%s dup to %s\n}\n",
			device, chance(w.Doubled), device)
	}
	return text + "}\n"
}

func incoming(deaf bool, client string, w Wire) string {
	var text string
	switch {
	case deaf:
		text = "meta protocol ip drop"
	case w.Lost > 0:
		text = chance(w.Lost) + " drop"
	}
	for _, port := range w.Forgotten {
		text += fmt.Sprintf("\ntcp %s %d drop", client, port)
	}
	return text
}

func chance(ofThousand int) string {
	return fmt.Sprintf("meta protocol ip numgen random mod 1000 < %d", ofThousand)
}

// table is the name of the table with a device's rules.
func table(device string) string { return "wire_" + strings.ReplaceAll(device, "-", "_") }

// forgetting is what removes a device's rules, if there are any.
func forgetting(device string) string {
	return fmt.Sprintf("table netdev %s {}\ndelete table netdev %s", table(device), table(device))
}

// forget removes the rules of a device.
func forget(device string) error { return feed(forgetting(device), "nft", "-f", "-") }

// Wire is what Set has said last.
func (h *Host) Wire() Wire {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.wire
}
