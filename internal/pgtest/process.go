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

// process is a postmaster that was started, and that may have ended.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	err  error         // how it ended; set before done is closed
}

// startProcess starts cmd in a network (nil: that of this process), and a goroutine that waits for its end.
func startProcess(cmd *exec.Cmd, network Network) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go p.run(started, network) // ends with the process: with Stop, or on Linux with this process
	if err := <-started; err != nil {
		return nil, fmt.Errorf("pgtest: start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// run starts the process and waits for its end. It keeps its OS thread for all that time: the kernel sends the parent-death
// signal when the thread that has forked ends, and not only when its process ends, and Go ends idle threads.
func (p *process) run(started chan<- error, network Network) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := p.cmd.Start
	if network != nil {
		start = func() error { return network.Do(p.cmd.Start) }
	}
	err := start()
	started <- err
	if err != nil {
		return
	}
	p.err = p.cmd.Wait()
	close(p.done)
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// signal sends sig. It is no error if the process has ended. The signal never goes to another process with the same number.
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

// command returns a command for a program of PostgreSQL. It runs as the account, in dir (the account may not be able to
// enter the current directory), in a process group of its own, and without PG* variables, which could change what it does.
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

// runTool runs a program of PostgreSQL and waits for its end. ctx is the context that cmd was made with.
func runTool(ctx context.Context, cmd *exec.Cmd) error {
	runtime.LockOSThread() // as in process.run
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	return toolError(ctx, cmd, err, out)
}

// toolError returns the error of a program that was run: which one it was, why it failed, and what it wrote. If ctx has
// ended it, that is the reason; os/exec's error has only the signal.
func toolError(ctx context.Context, cmd *exec.Cmd, err error, out []byte) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("pgtest: %s: %w: %s", filepath.Base(cmd.Path), err, strings.TrimSpace(string(out)))
}
