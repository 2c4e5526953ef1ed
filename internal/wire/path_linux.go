//go:build linux && !386 && !s390x

package wire

import (
	"net"
	"syscall"
	"time"
	"unsafe"
)

// PathOf returns what the system knows of the path of a connection: a TCP socket, or TLS on one. For any other, ok is false. It
// is safe for concurrent use.
func PathOf(c net.Conn) (p Path, ok bool) {
	bottom, _ := belowTLS(c)
	sc, isSocket := bottom.(syscall.Conn)
	if !isSocket {
		return Path{}, false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return Path{}, false
	}
	var info tcpInfo
	err = raw.Control(func(fd uintptr) { ok = info.read(fd) })
	if err != nil || !ok {
		return Path{}, false
	}
	return info.path(), true
}

// tcpInfo is the beginning of the kernel's struct tcp_info, which only ever grows at its end.
type tcpInfo struct {
	_           [2]uint8
	retransmits uint8 // how often in a row the oldest of what isn't acknowledged was sent again
	probes      uint8 // how often in a row it was asked for room, or by keep-alive, without any reply
	_           [4]uint8
	_           [4]uint32
	unacked     uint32 // packets that were sent and aren't acknowledged
	_           [7]uint32
	lastAckRecv uint32 // milliseconds since something was last acknowledged, be it nothing new
}

// read asks the kernel. It makes the system call itself, as peekByte does, and for the same reasons.
func (i *tcpInfo) read(fd uintptr) bool {
	size := uint32(unsafe.Sizeof(*i))
	_, _, errno := syscall.RawSyscall6(syscall.SYS_GETSOCKOPT, fd, syscall.IPPROTO_TCP, syscall.TCP_INFO,
		uintptr(unsafe.Pointer(i)), uintptr(unsafe.Pointer(&size)), 0)
	return errno == 0 && uintptr(size) >= unsafe.Offsetof(i.lastAckRecv)+unsafe.Sizeof(i.lastAckRecv)
}

func (i *tcpInfo) path() Path {
	tries := i.probes
	if i.unacked > 0 {
		tries = max(tries, i.retransmits)
	}
	return Path{Tries: int(tries), Silent: time.Duration(i.lastAckRecv) * time.Millisecond}
}
