//go:build linux

package netlab

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// A slowCable connects two network devices of the kernel's by this process, which can delay what goes through. What netem does
// would be faster, but many a kernel has no netem.
type slowCable struct {
	delay, jitter atomic.Int64 // nanoseconds
	ends          [2]*os.File
	pumps         sync.WaitGroup
	flying        sync.WaitGroup // packets that are under way
}

// newSlowCable makes the two devices: one with a name in the namespace of the calling thread, and one in that of a host.
func newSlowCable(name string, host namespace) (*slowCable, error) {
	c := &slowCable{}
	var errHere, errThere error
	c.ends[0], errHere = newTap(name)
	errThere = host.do(func() (err error) {
		c.ends[1], err = newTap(inside)
		return err
	})
	if err := errors.Join(errHere, errThere); err != nil {
		return nil, errors.Join(err, c.closeEnds())
	}
	for i := range c.ends {
		c.pumps.Go(func() { c.pump(c.ends[i], c.ends[1-i]) }) // ends when close closes the devices
	}
	return c, nil
}

func (c *slowCable) set(delay, jitter time.Duration) {
	c.delay.Store(int64(delay))
	c.jitter.Store(int64(jitter))
}

// pump takes packets from one end to the other until the first is closed.
func (c *slowCable) pump(from, to *os.File) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		wait := c.wait()
		if wait <= 0 {
			_, _ = to.Write(buffer[:n]) // what can't be written is lost, as packets are
			continue
		}
		packet := append([]byte(nil), buffer[:n]...)
		c.flying.Add(1)
		time.AfterFunc(wait, func() { // ends by itself; close waits for it
			defer c.flying.Done()
			_, _ = to.Write(packet)
		})
	}
}

// wait is how long the next packet takes.
func (c *slowCable) wait() time.Duration {
	delay, jitter := c.delay.Load(), c.jitter.Load()
	if jitter > 0 {
		delay += rand.Int64N(2*jitter+1) - jitter
	}
	return time.Duration(delay)
}

// close removes the two devices, and waits until nothing goes through any more.
func (c *slowCable) close() error {
	err := c.closeEnds()
	c.pumps.Wait()
	c.flying.Wait()
	return err
}

func (c *slowCable) closeEnds() error {
	var errs []error
	for _, end := range c.ends {
		if end != nil {
			errs = append(errs, end.Close())
		}
	}
	return errors.Join(errs...)
}

// newTap makes a network device whose packets are read from and written to a file, in the namespace of the calling thread. It goes
// with its file.
func newTap(name string) (*os.File, error) {
	fd, err := syscall.Open("/dev/net/tun", syscall.O_RDWR|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("netlab: open /dev/net/tun: %w", err)
	}
	request := struct { // struct ifreq of the kernel's
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}{flags: syscall.IFF_TAP | syscall.IFF_NO_PI}
	copy(request.name[:syscall.IFNAMSIZ-1], name)
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TUNSETIFF, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("netlab: make the device %s: %w", name, errno)
	}
	return os.NewFile(uintptr(fd), name), nil
}
