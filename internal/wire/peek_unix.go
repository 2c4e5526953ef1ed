//go:build unix && (!linux || 386 || s390x)

package wire

import "syscall"

func peekByte(fd int, first *[1]byte) (int, error) {
	n, _, err := syscall.Recvfrom(fd, first[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return n, err
}
