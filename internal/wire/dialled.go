package wire

import (
	"crypto/tls"
	"net"
	"syscall"
)

// Adopt returns a connection that the application's dial function has made, with what pgx and this package need of it and it
// may lack. Its RemoteAddr is the address that it was asked for, because pgx dials that once more for a cancel request: the
// connection's own may be that of a proxy, or none. If there is a socket below it, Probe looks at that; else it is a Pump.
func Adopt(c net.Conn, network, address string) net.Conn {
	below, _ := belowTLS(c)
	if _, isSocket := below.(syscall.Conn); !isSocket {
		c = newPump(c)
	}
	if network == "unix" {
		return &dialled{c, &net.UnixAddr{Name: address, Net: network}}
	}
	return &dialled{c, asked{network, address}}
}

// dialled is a connection with the address that it was asked for.
type dialled struct {
	net.Conn
	remote net.Addr
}

var _ net.Conn = (*dialled)(nil)

// RemoteAddr implements net.Conn.
func (d *dialled) RemoteAddr() net.Addr { return d.remote }

// asked is an address as a dial function gets it.
type asked struct{ network, address string }

var _ net.Addr = asked{}

// Network implements net.Addr.
func (a asked) Network() string { return a.network }

// String implements net.Addr.
func (a asked) String() string { return a.address }

// Encrypted reports whether a connection has TLS, be it the application's own.
func Encrypted(c net.Conn) bool {
	below, secure := belowTLS(c)
	p, isPump := below.(*Pump)
	return secure || isPump && Encrypted(p.inner)
}

// belowTLS returns the connection below TLS and below what Adopt has added, which without these is c itself, and whether there
// is TLS above it.
func belowTLS(c net.Conn) (below net.Conn, secure bool) {
	for {
		switch outer := c.(type) {
		case *tls.Conn:
			c, secure = outer.NetConn(), true
		case *dialled:
			c = outer.Conn
		default:
			return c, secure
		}
	}
}

// mayHide reports whether a part of what was written to w may have been sent although Write says that nothing was: with TLS,
// a part of its record, and with a transport of the application's, whatever it makes of it.
func mayHide(w any) bool {
	if d, ok := w.(*dialled); ok {
		switch d.Conn.(type) {
		case *net.TCPConn, *net.UnixConn:
			return false
		}
		return true
	}
	_, secure := w.(*tls.Conn)
	return secure
}
