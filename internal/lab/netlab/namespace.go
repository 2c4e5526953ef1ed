//go:build linux

package netlab

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
)

// setns is the number of the system call, which package syscall doesn't have for each architecture.
var setns = map[string]uintptr{"amd64": 308, "arm64": 268, "ppc64le": 350, "riscv64": 268, "s390x": 339}

// ownNamespace names the network namespace of the calling thread.
const ownNamespace = "/proc/thread-self/ns/net"

// A namespace is a network namespace. It exists as long as its file is open, or a process is in it.
type namespace struct{ file *os.File }

// newNamespace makes a namespace.
func newNamespace() (n namespace, err error) {
	err = elsewhere(func() error {
		if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
			return fmt.Errorf("netlab: make a network namespace: %w%s", err, hint(err))
		}
		if n.file, err = os.Open(ownNamespace); err != nil {
			return fmt.Errorf("netlab: %w", err)
		}
		return nil
	})
	return n, err
}

// do calls f in the namespace.
func (n namespace) do(f func() error) error {
	return elsewhere(func() error {
		if err := enter(n.file); err != nil {
			return err
		}
		return f()
	})
}

// elsewhere calls f, which takes its thread into another namespace, and takes the thread back.
func elsewhere(f func() error) error {
	runtime.LockOSThread()
	home, err := os.Open(ownNamespace)
	if err != nil {
		return fmt.Errorf("netlab: %w", err)
	}
	err = f()
	back := enter(home)
	if back == nil {
		runtime.UnlockOSThread() // else the thread ends with its goroutine, and nobody else gets it
	}
	return errors.Join(err, back, home.Close())
}

// enter moves the calling thread into a namespace.
func enter(file *os.File) error {
	number, ok := setns[runtime.GOARCH]
	if !ok {
		return errors.New("netlab: not on " + runtime.GOARCH)
	}
	if _, _, errno := syscall.RawSyscall(number, file.Fd(), syscall.CLONE_NEWNET, 0); errno != 0 {
		return fmt.Errorf("netlab: enter a network namespace: %w", errno)
	}
	return nil
}
