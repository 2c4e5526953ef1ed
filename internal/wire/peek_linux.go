//go:build linux && !386 && !s390x

package wire

import (
	"syscall"
	"unsafe"
)

// peekByte asks the kernel directly: syscall.Recvfrom would build a peer address that nobody wants, on the heap. The
// call can't block (MSG_DONTWAIT), so the scheduler need not hear of it.
func peekByte(fd int, first *[1]byte) (int, error) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(first)), 1,
		syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
