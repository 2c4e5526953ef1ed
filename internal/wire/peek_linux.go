//go:build linux && !386 && !s390x

package wire

import (
	"syscall"
	"unsafe"
)

// peekByte copies the first byte that waits on a socket into first, without taking it, and returns how many bytes it copied:
// 1, or 0 if the other end has closed the connection. If nothing waits the error is EAGAIN.
//
// It makes the system call itself, since syscall.Recvfrom allocates a peer address that isn't used here. RawSyscall doesn't
// tell Go's scheduler, which is right for a call that never blocks (MSG_DONTWAIT).
func peekByte(fd int, first *[1]byte) (int, error) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(first)), 1,
		syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
