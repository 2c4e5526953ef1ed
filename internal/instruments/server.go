package instruments

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// defaultPort is PostgreSQL's port, which the conventions leave out.
const defaultPort = 5432

// A Server is what a pool connects to, as it was configured. It stays the same wherever the pool is connected.
type Server struct {
	Hosts     []Host // in configured order; none: not known
	Namespace string // the database; "": not known
}

// A Host is one of a Server's.
type Host struct {
	Address string // name, IP address, or directory of the socket
	Port    int    // also of a socket, in whose name it is
}

// target returns server.address, and server.port if it must be given, else 0. Several hosts are a list with commas between
// them, in which all have their port if one of them has another than the default.
func (s Server) target() (address string, port int) {
	if len(s.Hosts) == 1 && s.Hosts[0].Port != defaultPort {
		return s.Hosts[0].Address, s.Hosts[0].Port
	}
	withPorts := false
	for _, h := range s.Hosts {
		withPorts = withPorts || h.Port != defaultPort
	}
	all := make([]string, len(s.Hosts))
	for n, h := range s.Hosts {
		if all[n] = h.Address; withPorts {
			all[n] = net.JoinHostPort(h.Address, strconv.Itoa(h.Port))
		}
	}
	return strings.Join(all, ","), 0
}

// attributes are those that name the server. All spans of statements and all metrics have them.
func (s Server) attributes() []attribute.KeyValue {
	attrs := []attribute.KeyValue{semconv.DBSystemNamePostgreSQL}
	if s.Namespace != "" {
		attrs = append(attrs, semconv.DBNamespace(s.Namespace))
	}
	address, port := s.target()
	if address != "" {
		attrs = append(attrs, semconv.ServerAddress(address))
	}
	if port != 0 {
		attrs = append(attrs, semconv.ServerPort(port))
	}
	return attrs
}

// A peer is the other end of a network connection. Spans show it, metrics don't: in a cluster addresses come and go, and
// each would be a time series of every statement. The zero value is one that isn't known.
type peer struct {
	address string // IP address, or path of the socket
	port    int    // 0 for a socket
}

// peerAt returns the peer with an address; nil, and an address that is neither IP nor a socket, is an unknown peer.
func peerAt(addr net.Addr) peer {
	switch a := addr.(type) {
	case nil:
		return peer{}
	case *net.UnixAddr:
		return peer{address: a.Name}
	}
	at, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return peer{}
	}
	return peer{at.Addr().Unmap().String(), int(at.Port())}
}

// attributes are those of spans.
func (p peer) attributes() (attrs []attribute.KeyValue) {
	if p.address != "" {
		attrs = append(attrs, semconv.NetworkPeerAddress(p.address))
	}
	if p.port != 0 {
		attrs = append(attrs, semconv.NetworkPeerPort(p.port))
	}
	return attrs
}
