package hosts

import (
	"net"
	"net/netip"
	"strconv"
	"time"
)

// A Name is what a name has led to, so that connections to an address which it has left can be told from those of a name that
// names another of its addresses each time. It isn't safe for concurrent use.
type Name struct {
	port      string               // of addresses that a resolver gives without one
	now       map[string]bool      // what it led to in the last answer
	gone      map[string]time.Time // what it has led to before, and since when not any more
	cameBack  time.Time            // when an address last came back that had gone; zero: never
	forgetful time.Duration        // addresses that have been gone for so long are new if they come back
}

// rotatesFor is how long a name counts as one that names another address each time, after an address of it has come back.
const rotatesFor = time.Hour

// NewName returns the Name of a host, of which nothing is known. Addresses that come back after forgetAfter are new: it was a failover to
// another host and back, and not a name that names another of its addresses each time.
func NewName(h *Host, forgetAfter time.Duration) *Name {
	port := strconv.Itoa(int(h.at.Port))
	return &Name{port: port, now: map[string]bool{}, gone: map[string]time.Time{}, forgetful: forgetAfter}
}

// Answered notes what the name leads to at a time, and the addresses of connections that were made by it. They are as the resolver
// gives them, or as they were dialled, with or without a port.
func (n *Name) Answered(answer, connected []string, at time.Time) {
	is := map[string]bool{}
	for _, a := range answer {
		is[n.full(a)] = true
	}
	for a := range n.now {
		if !is[a] {
			n.gone[a] = at
		}
	}
	inUse := map[string]bool{}
	for _, a := range connected { // an answer that only the dial has seen
		inUse[n.full(a)] = true
		if _, known := n.gone[n.full(a)]; !known && !is[n.full(a)] {
			n.gone[n.full(a)] = at
		}
	}
	for a, since := range n.gone {
		switch long := at.Sub(since) >= n.forgetful; {
		case is[a] && !long:
			n.cameBack = at
			delete(n.gone, a)
		case is[a], long && !inUse[a]:
			delete(n.gone, a)
		}
	}
	n.now = is
}

// Leads reports whether the name led to an address in the last answer.
func (n *Name) Leads(address string) bool { return n.now[n.full(address)] }

// Left reports whether the name hasn't led to an address for so long, and isn't one that names another address each time.
func (n *Name) Left(address string, forSo time.Duration, at time.Time) bool {
	if !n.cameBack.IsZero() && at.Sub(n.cameBack) < rotatesFor {
		return false
	}
	since, gone := n.gone[n.full(address)]
	return gone && len(n.now) > 0 && at.Sub(since) >= forSo
}

// IsName reports whether a host of the DSN is a name that may lead elsewhere one day: it isn't an address, a socket or localhost.
func (h *Host) IsName() bool {
	name := h.at.Host
	_, err := netip.ParseAddr(name)
	return err != nil && name != "" && name != "localhost" && name[0] != '/' && name[0] != '@'
}

// full returns an address with its port, so that one that was resolved and one that was dialled can be compared.
func (n *Name) full(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = address, n.port
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.Unmap().String()
	}
	return net.JoinHostPort(host, port)
}
