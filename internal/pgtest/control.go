package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Mode is how a server shuts down, by the names of pg_ctl.
type Mode string

const (
	// Smart waits for all clients to leave.
	Smart Mode = "smart"
	// Fast ends all sessions and writes a checkpoint. The empty Mode means the same.
	Fast Mode = "fast"
	// Immediate ends the server at once, without a checkpoint; the next start recovers from the log.
	Immediate Mode = "immediate"
)

// signal is the signal that makes the postmaster shut down in this mode.
func (m Mode) signal() (syscall.Signal, error) {
	switch m {
	case Smart:
		return syscall.SIGTERM, nil
	case Fast, "":
		return syscall.SIGINT, nil
	case Immediate:
		return syscall.SIGQUIT, nil
	}
	return 0, fmt.Errorf("pgtest: shutdown mode %q is none of smart, fast, immediate", string(m))
}

var (
	// ErrStopped is the error of methods that control a server on which Stop was called.
	ErrStopped = errors.New("pgtest: the server was stopped")
	// ErrExternal is the error of methods that control a server if it is the one that DB_TEST_DSN names.
	ErrExternal = errors.New("pgtest: DB_TEST_DSN names a server that this process didn't start and can't control")
)

// exclusively calls op when no other operation starts, stops or signals the postmaster. Stop ends op's context.
func (s *Server) exclusively(ctx context.Context, op func(context.Context) error) error {
	if s.external != nil {
		return ErrExternal
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.life, func() { cancel(ErrStopped) })()
	select {
	case s.control <- struct{}{}:
		defer func() { <-s.control }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if s.life.Err() != nil {
		return ErrStopped
	}
	return op(ctx)
}

// Restart shuts the server down and starts it again, with the same port and data.
func (s *Server) Restart(ctx context.Context, mode Mode) error {
	return s.exclusively(ctx, func(ctx context.Context) error {
		if err := s.shutdown(ctx, mode); err != nil {
			return err
		}
		return s.launch(ctx)
	})
}

// Shutdown stops the server and keeps its port and data for Resume. It is harmless where the server is down. A frozen
// server doesn't shut down: Thaw it first.
func (s *Server) Shutdown(ctx context.Context, mode Mode) error {
	return s.exclusively(ctx, func(ctx context.Context) error { return s.shutdown(ctx, mode) })
}

// Resume starts a server that Shutdown or Crash stopped.
func (s *Server) Resume(ctx context.Context) error {
	return s.exclusively(ctx, func(ctx context.Context) error {
		if !s.current().ended() {
			return errors.New("pgtest: the server is running")
		}
		return s.launch(ctx)
	})
}

// Running reports whether the server's process exists.
func (s *Server) Running() bool {
	proc := s.current()
	return proc != nil && !proc.ended()
}

// shutdown is Shutdown for a caller that holds s.control.
func (s *Server) shutdown(ctx context.Context, mode Mode) error {
	sig, err := mode.signal()
	if err != nil {
		return err
	}
	proc := s.current()
	if err := proc.signal(sig); err != nil {
		return err
	}
	select {
	case <-proc.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("pgtest: shut the server down: %w; its log ends with:\n%s", context.Cause(ctx), s.logTail())
	}
}

// stopPatience is how long Stop waits for the server to end by itself before it kills it.
const stopPatience = 3 * time.Second

// Stop ends the server, frozen or not, and removes its files. It is fast: there is no checkpoint, as the data are removed
// anyway. It ends other operations on the server that are under way. If ctx has ended it kills the server, and removes the
// files nevertheless. Further calls return nil. For an external server it does nothing.
func (s *Server) Stop(ctx context.Context) error {
	if s.external != nil {
		return nil
	}
	s.end(ErrStopped)
	s.control <- struct{}{} // soon, since s.end has ended the context of the operation under way
	defer func() { <-s.control }()
	if s.isStopped() {
		return nil
	}
	if err := s.endProcess(ctx); err != nil {
		return err
	}
	s.releaseSharedMemory()
	if err := s.home.remove(); err != nil {
		return err
	}
	live.remove(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	return nil
}

func (s *Server) isStopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

// endProcess ends the postmaster, if it runs: by SIGQUIT, or after a while by SIGKILL.
func (s *Server) endProcess(ctx context.Context) error {
	proc := s.current()
	if proc == nil || proc.ended() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stopPatience)
	defer cancel()
	if err := s.thaw(); err != nil {
		return err
	}
	if err := proc.signal(syscall.SIGQUIT); err != nil {
		return err
	}
	select {
	case <-proc.done:
		return nil
	case <-ctx.Done():
		return s.crash()
	}
}

// releaseSharedMemory removes the System V segment that a killed server leaves behind, since no next start will do so. Its
// id is in postmaster.pid. A server that has shut down has removed both.
func (s *Server) releaseSharedMemory() {
	lines := s.pidFile()
	if len(lines) < 7 {
		return
	}
	if ids := strings.Fields(lines[6]); len(ids) == 2 {
		cmd := exec.Command("ipcrm", "-m", ids[1])
		cmd.Stderr = os.Stderr
		_ = cmd.Run() // at most a few bytes stay until the next boot
	}
}
