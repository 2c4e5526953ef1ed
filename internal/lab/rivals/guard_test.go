//go:build lab

package rivals

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// guardVariable makes this test's program a guard.
const guardVariable = "PGPROD_LAB_GUARD"

// killWord on a guard's input is the order to kill.
const killWord = "k"

// gentleTime is how long what is guarded has to end by SIGQUIT, before SIGKILL.
const gentleTime = 5 * time.Second

// guard starts a program, and ends it and all that it has started: with SIGKILL if the input says so, with SIGQUIT first (upon
// which postmasters remove their shared memory) if the input ends, as it does when the test dies. It is a process of its own,
// and the subreaper of what it guards: whoever loses its parent becomes its child, so that nobody gets out of its sight, by
// setsid or otherwise. It exits when there is nobody left.
func guard(args []string) {
	const prSetChildSubreaper = 36
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0); errno != 0 {
		fail(errno)
	}
	// Caught, not ignored: what is ignored is inherited by a program that is started.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	if err := os.Unsetenv(guardVariable); err != nil {
		fail(err)
	}
	go obey() // ends with the process
	path, err := exec.LookPath(args[0])
	if err != nil {
		fail(err)
	}
	files := []*os.File{nil, os.Stdout, os.Stderr}
	if _, err := os.StartProcess(path, args, &os.ProcAttr{Files: files, Sys: &syscall.SysProcAttr{Setsid: true}}); err != nil {
		fail(err)
	}
	for {
		if _, err := syscall.Wait4(-1, nil, 0, nil); errors.Is(err, syscall.ECHILD) {
			os.Exit(0)
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "guard:", err)
	os.Exit(1)
}

// obey waits for an order, or the end of the input, and carries it out for the rest of the process's life. SIGQUIT goes to the
// guard's own children only, whom all others become who lose their parent: so that each cleans up what it has started.
func obey() {
	word, _ := io.ReadAll(io.LimitReader(os.Stdin, 1)) // an error is the end of the input, too
	gentle := string(word) != killWord
	for began := time.Now(); gentle && time.Since(began) < gentleTime; time.Sleep(100 * time.Millisecond) {
		signalAll(processes()[os.Getpid()], syscall.SIGQUIT)
	}
	for ; ; time.Sleep(2 * time.Millisecond) {
		signalAll(descendants(os.Getpid()), syscall.SIGKILL)
	}
}

func signalAll(pids []int, sig syscall.Signal) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, sig) // it may have ended
	}
}

// processes are those that exist, by their parents.
func processes() map[int][]int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the only error is a bad pattern
	for _, path := range stats {
		if pid, parent, ok := readStat(path); ok {
			children[parent] = append(children[parent], pid)
		}
	}
	return children
}

// descendants are the processes below one.
func descendants(of int) (found []int) {
	children := processes()
	for next := children[of]; len(next) > 0; {
		var below []int
		for _, pid := range next {
			below = append(below, children[pid]...)
		}
		found, next = append(found, next...), below
	}
	return found
}

// readStat reads "pid (name) state parent …", where the name may hold spaces and parentheses.
func readStat(path string) (pid, parent int, ok bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, false // it has ended
	}
	end := strings.LastIndexByte(string(text), ')')
	if _, err := fmt.Sscan(string(text), &pid); err != nil || end < 0 {
		return 0, 0, false
	}
	var state string
	_, err = fmt.Sscan(string(text[end+1:]), &state, &parent)
	return pid, parent, err == nil && state != "Z"
}
