//go:build linux

package netlab

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
)

// isolated is set in the environment of a process that Isolate has begun again.
const isolated = "PGPROD_NETLAB_ISOLATED"

// Isolate puts this process into a network namespace of its own, in which there is nothing but a loopback interface. To be
// called first of all in TestMain: the program is begun again, under the same process number, since all its threads have to be in
// that namespace. In the program that was begun again it returns nil. It needs root's rights.
func Isolate() error {
	if os.Getenv(isolated) != "" {
		return setUp()
	}
	if err := findTools(); err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("netlab: %w", err)
	}
	runtime.LockOSThread() // not unlocked: whoever gets an error ends
	if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
		return fmt.Errorf("netlab: make a network namespace: %w%s", err, hint(err))
	}
	if err := os.Setenv(isolated, "yes"); err != nil {
		return fmt.Errorf("netlab: %w", err)
	}
	return fmt.Errorf("netlab: begin again: %w", syscall.Exec(program, os.Args, os.Environ()))
}

// setUp makes the namespace of this process usable.
func setUp() error {
	if err := os.Unsetenv(isolated); err != nil { // other test binaries that this one starts isolate themselves
		return fmt.Errorf("netlab: %w", err)
	}
	return run("ip", "link", "set", "lo", "up")
}

// hint says what to do about an error of the kernel's.
func hint(err error) string {
	if errors.Is(err, syscall.EPERM) {
		return ": run the tests as root (in a container: with --privileged, or the capabilities SYS_ADMIN and NET_ADMIN)"
	}
	return ""
}
