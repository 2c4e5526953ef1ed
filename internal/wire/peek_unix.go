//go:build unix && (!linux || 386 || s390x)

package wire

import "syscall"

// peekByte copies the first byte that waits on a socket into first, without taking it, and returns how many bytes it copied:
// 1, or 0 if the other end has closed the connection. If nothing waits the error is EAGAIN.
func peekByte(fd int, first *[1]byte) (int, error) {
	n, _, err := syscall.Recvfrom(fd, first[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return n, err
}
