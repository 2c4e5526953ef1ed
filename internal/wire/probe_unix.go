//go:build unix

package wire

import (
	"crypto/tls"
	"net"
	"syscall"
)

// A Probe looks whether the server has hung up on an idle connection, without blocking, without reading and without a
// round trip: about a microsecond. It is not safe for concurrent use.
type Probe struct {
	raw    syscall.RawConn
	look   func(fd uintptr) // kept, so that Look allocates nothing
	secure bool
	state  State
	first  [1]byte
}

// NewProbe returns a Probe for c.
func NewProbe(c net.Conn) *Probe {
	p := &Probe{}
	_, p.secure = c.(*tls.Conn)
	if sc, ok := rawConn(c).(syscall.Conn); ok {
		p.raw, _ = sc.SyscallConn()
	}
	p.look = p.peek
	return p
}

// Look reports the state of the connection.
//
// It uses Control, which takes no read lock: pgx may have left a background reader blocked on the same socket.
func (p *Probe) Look() State {
	if p.raw == nil {
		return Unknown
	}
	if err := p.raw.Control(p.look); err != nil {
		return Dead
	}
	return p.state
}

func (p *Probe) peek(fd uintptr) {
	n, err := peekByte(int(fd), &p.first)
	switch {
	case err == syscall.EAGAIN || err == syscall.EWOULDBLOCK || err == syscall.EINTR:
		p.state = Quiet
	case err != nil || n == 0:
		p.state = Dead
	default:
		p.state = judge(p.first[0], p.secure)
	}
}
