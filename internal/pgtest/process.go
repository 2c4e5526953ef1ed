package pgtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// process is a running postmaster.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has been reaped
	err  error         // how it ended; to be read after done
}

// startProcess starts cmd and watches it until it ends.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go p.run(started) // ends with the process, which Stop, or our own death, ends
	if err := <-started; err != nil {
		return nil, fmt.Errorf("pgtest: start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// run starts the process and reaps it. It keeps its OS thread for all that time: the parent-death signal is sent when
// the thread that forked ends, not when the process does, and Go ends idle threads.
func (p *process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	p.err = p.cmd.Wait()
	close(p.done)
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// signal sends sig; a process that has ended is no error, and its number is never mistaken for another's.
func (p *process) signal(sig syscall.Signal) error {
	err := p.cmd.Process.Signal(sig)
	if err != nil && !p.ended() {
		return fmt.Errorf("pgtest: send %v to the server: %w", sig, err)
	}
	return nil
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// command prepares a program of PostgreSQL to run as the account, in dir (which the account can enter, as it may not the
// current one), in a process group of its own and with no PG* variable that could change what it does.
func command(ctx context.Context, a account, dir, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Env = append(cleanEnviron(), "LC_ALL=C", "PGTZ=UTC")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: a.cred}
	dieWithParent(cmd.SysProcAttr)
	return cmd
}

// cleanEnviron is the environment without libpq's and the server's variables.
func cleanEnviron() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "PG") && !strings.HasPrefix(kv, "LC_") && !strings.HasPrefix(kv, "LANG") {
			env = append(env, kv)
		}
	}
	return env
}

// runTool runs a program of PostgreSQL, whose context is ctx, to its end.
func runTool(ctx context.Context, cmd *exec.Cmd) error {
	runtime.LockOSThread() // as in process.run
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	return toolError(ctx, cmd, err, out)
}

// toolError says which program failed, why, and what it said. Where ctx ended it, os/exec only tells of the signal.
func toolError(ctx context.Context, cmd *exec.Cmd, err error, out []byte) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("pgtest: %s: %w: %s", filepath.Base(cmd.Path), err, strings.TrimSpace(string(out)))
}
