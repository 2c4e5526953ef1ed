package main

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A timer sleeps more exactly than time.Sleep. While a Go program has nothing else to do it waits in epoll_wait, which
// counts in milliseconds, so that half of one becomes more than a whole; the kernel's own timer ends that wait in time.
type timer struct {
	fd   int
	file *os.File // fd's, by which Go waits for it as for a socket
}

func newTimer() (*timer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	return &timer{fd: fd, file: os.NewFile(uintptr(fd), "timerfd")}, nil
}

func (t *timer) sleep(d time.Duration) error {
	if d <= 0 {
		return nil // to set 0 would stop the timer
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	if err := unix.TimerfdSettime(t.fd, 0, &spec, nil); err != nil {
		return os.NewSyscallError("timerfd_settime", err)
	}
	var expirations [8]byte
	_, err := t.file.Read(expirations[:])
	return err
}

func (t *timer) close() { _ = t.file.Close() }
