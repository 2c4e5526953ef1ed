//go:build unix

package wire

import (
	"net"
	"syscall"
)

// A Probe finds out whether the server has closed an idle connection. It doesn't block, takes nothing from the socket, makes
// no round trip, and takes about a microsecond. It is not safe for concurrent use.
type Probe struct {
	raw    syscall.RawConn  // the socket; nil: there is none that can be looked at
	peek   func(fd uintptr) // the method value p.peekAt, made once, so that Peek allocates nothing
	pump   *Pump            // in place of the socket; nil: it isn't a Pump
	secure bool             // the connection uses TLS
	state  State            // the result of peekAt
	first  [1]byte          // the buffer of peekAt
}

// NewProbe returns a Probe for c, a socket, a Pump, or TLS on one of these; for any other net.Conn, Peek returns Unknown.
func NewProbe(c net.Conn) *Probe {
	p := &Probe{}
	bottom, secure := belowTLS(c)
	p.secure = secure
	p.pump, _ = bottom.(*Pump)
	if sc, ok := bottom.(syscall.Conn); ok {
		p.raw, _ = sc.SyscallConn()
	}
	p.peek = p.peekAt
	return p
}

// Peek returns the state of the connection. An error of the socket is Dead.
//
// It uses Control and not Read, which would wait for the socket's read lock: a background reader that pgx has left behind
// may hold that.
func (p *Probe) Peek() State {
	if p.pump != nil {
		return p.pump.state(p.secure)
	}
	if p.raw == nil {
		return Unknown
	}
	if err := p.raw.Control(p.peek); err != nil {
		return Dead
	}
	return p.state
}

// peekAt looks at the first byte that waits on the socket, and sets p.state. RawConn.Control calls it.
func (p *Probe) peekAt(fd uintptr) {
	n, err := peekByte(int(fd), &p.first)
	switch {
	case err == syscall.EAGAIN || err == syscall.EWOULDBLOCK || err == syscall.EINTR:
		p.state = Silent
	case err != nil || n == 0:
		p.state = Dead
	default:
		p.state = judge(p.first[0], p.secure)
	}
}
