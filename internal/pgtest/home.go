package pgtest

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	homePrefix = "pgtest-"
	lockName   = "owner.lock"
	// maxSocketDir leaves room for "/.s.PGSQL.65535.lock" in the 104 (macOS) or 108 bytes of a socket's address.
	maxSocketDir = 80
)

// home is the directory of one server: data, log, certificates, socket. This process holds a lock on it as long as it lives,
// so that a later Start can tell which homes were left by processes that have died, and remove them.
type home struct {
	path   string
	socket string   // the directory of the socket: path, or one in /tmp if path is too long for a socket
	lock   *os.File // nil: not locked yet
}

// newHome makes an empty home that the account owns.
func newHome(a account) (*home, error) {
	base, err := a.tempBase()
	if err != nil {
		return nil, err
	}
	sweep(base)
	path, err := os.MkdirTemp(base, homePrefix)
	if err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	h := &home{path: path, socket: path}
	if err := h.prepare(a); err != nil {
		_ = h.remove()
		return nil, fmt.Errorf("pgtest: prepare %s: %w", path, err)
	}
	return h, nil
}

// prepare locks the home, makes a directory for the socket if need be, and makes the account the owner.
func (h *home) prepare(a account) (err error) {
	if h.lock, err = os.OpenFile(filepath.Join(h.path, lockName), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	if err := syscall.Flock(int(h.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return err
	}
	if len(h.path) > maxSocketDir {
		if h.socket, err = os.MkdirTemp("/tmp", homePrefix); err != nil {
			return err
		}
		if err := a.own(h.socket); err != nil {
			return err
		}
	}
	return a.own(h.path)
}

func (h *home) data() string { return filepath.Join(h.path, "data") }
func (h *home) log() string  { return filepath.Join(h.path, "server.log") }

// remove removes the home and releases the lock. The server must have ended. It may be called more than once.
func (h *home) remove() error {
	if h.socket != h.path && h.socket != "" {
		if err := os.RemoveAll(h.socket); err != nil {
			return fmt.Errorf("pgtest: %w", err)
		}
	}
	if err := os.RemoveAll(h.path); err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	if h.lock != nil {
		_ = h.lock.Close() // releases the lock; an error means that it was closed before
	}
	return nil
}

// sweep removes the homes of processes that have died without Stop. (Their servers have ended with them.) What can't be
// removed, such as another user's home, stays.
func sweep(base string) {
	locks, _ := filepath.Glob(filepath.Join(base, homePrefix+"*", lockName)) // the only error is a bad pattern
	for _, path := range locks {
		sweepOne(path)
	}
}

// sweepOne removes the home with a lock file, if nobody holds the lock.
func sweepOne(lockPath string) {
	// A home that was made just now may not be locked yet.
	info, err := os.Stat(lockPath)
	if err != nil || time.Since(info.ModTime()) < time.Minute {
		return
	}
	lock, err := os.OpenFile(lockPath, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer func() { _ = lock.Close() }()
	if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		_ = os.RemoveAll(filepath.Dir(lockPath))
	}
}
