package pgtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"
)

// Crash kills the server and all its processes with SIGKILL, as a power failure would: clients get no message, their
// connections are just closed. It returns when all processes are gone, so that Resume finds none that still uses the shared
// memory.
func (s *Server) Crash() error {
	return s.exclusively(context.Background(), func(context.Context) error { return s.crash() })
}

// crash is Crash for a caller that holds s.control. It does nothing if the server doesn't run.
func (s *Server) crash() error {
	proc := s.current()
	if proc == nil || proc.ended() {
		return nil
	}
	// A stopped postmaster can't start another child while we look for them.
	family, err := s.halt(proc)
	if err != nil {
		return err
	}
	if err := proc.signal(syscall.SIGKILL); err != nil {
		return err
	}
	err = signalAll(family, syscall.SIGKILL)
	<-proc.done
	return errors.Join(err, awaitGone(family))
}

// Freeze stops the server and all its processes with SIGSTOP: connections stay open, the kernel accepts new ones, and none
// gets an answer. Thaw undoes it.
func (s *Server) Freeze() error {
	return s.exclusively(context.Background(), func(context.Context) error {
		proc := s.current()
		if proc.ended() {
			return errors.New("pgtest: the server is not running")
		}
		family, err := s.halt(proc)
		if err != nil {
			return err
		}
		return signalAll(family, syscall.SIGSTOP)
	})
}

// Thaw lets a frozen server run on.
func (s *Server) Thaw() error {
	return s.exclusively(context.Background(), func(context.Context) error { return s.thaw() })
}

// thaw is Thaw for a caller that holds s.control. It does nothing if the server doesn't run.
func (s *Server) thaw() error {
	proc := s.current()
	if proc == nil || proc.ended() {
		return nil
	}
	family, err := childrenOf(proc.pid())
	if err != nil {
		return err
	}
	return errors.Join(signalAll(family, syscall.SIGCONT), proc.signal(syscall.SIGCONT))
}

// FreezeBackend stops one backend, by its process number, with SIGSTOP.
func (s *Server) FreezeBackend(pid uint32) error { return s.signalBackend(pid, syscall.SIGSTOP) }

// ThawBackend lets a frozen backend run on.
func (s *Server) ThawBackend(pid uint32) error { return s.signalBackend(pid, syscall.SIGCONT) }

// KillBackend kills one backend with SIGKILL. The server takes this for memory corruption: it ends all other backends,
// recovers, and accepts connections again.
func (s *Server) KillBackend(pid uint32) error { return s.signalBackend(pid, syscall.SIGKILL) }

// signalBackend sends a signal to a process that is a child of the postmaster.
func (s *Server) signalBackend(pid uint32, sig syscall.Signal) error {
	return s.exclusively(context.Background(), func(context.Context) error {
		family, err := childrenOf(s.current().pid())
		if err != nil {
			return err
		}
		for _, child := range family {
			if child == int(pid) {
				return signalAll([]int{child}, sig)
			}
		}
		return fmt.Errorf("pgtest: the server has no process %d", pid)
	})
}

// halt stops the postmaster with SIGSTOP, and returns its children. From then on it can't start others.
func (s *Server) halt(proc *process) (family []int, err error) {
	if err := proc.signal(syscall.SIGSTOP); err != nil {
		return nil, err
	}
	err = pollBriefly(func() (bool, error) {
		state, err := stateOf(proc.pid())
		return state == stateStopped || state == stateGone, err
	})
	if err != nil {
		return nil, fmt.Errorf("pgtest: stop the postmaster: %w", err)
	}
	return childrenOf(proc.pid())
}

// awaitGone waits until the killed processes are gone. It reads the process table for all of them at once: there may be
// hundreds, and on a busy machine reading it takes long.
func awaitGone(pids []int) error {
	var left []int
	err := pollBriefly(func() (bool, error) {
		table, err := processTable()
		if err != nil {
			return false, err
		}
		left = left[:0]
		for _, entry := range table {
			if slices.Contains(pids, entry.pid) && entry.state() != stateGone {
				left = append(left, entry.pid)
			}
		}
		return len(left) == 0, nil
	})
	if err != nil {
		return fmt.Errorf("pgtest: wait for the end of processes %v: %w", left, err)
	}
	return nil
}

// pollBriefly is poll, for ten seconds at most. It is for what the kernel does almost at once.
func pollBriefly(done func() (bool, error)) error {
	const briefly = 10 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), briefly)
	defer cancel()
	return poll(ctx, done)
}

// signalAll sends sig to processes that may have ended.
func signalAll(pids []int, sig syscall.Signal) error {
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("pgtest: send %v to process %d: %w", sig, pid, err)
		}
	}
	return nil
}
