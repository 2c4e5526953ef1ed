package pgtest

import (
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// processState is the state of another process, as far as we need to know it.
type processState string

const (
	stateRunning processState = "running"
	stateStopped processState = "stopped" // by SIGSTOP
	stateGone    processState = "gone"    // it has ended; a zombie too, which has no memory and no files any more
)

// childrenOf returns the processes whose parent is pid.
func childrenOf(pid int) ([]int, error) {
	table, err := processTable()
	if err != nil {
		return nil, err
	}
	var children []int
	for _, entry := range table {
		if entry.parent == pid {
			children = append(children, entry.pid)
		}
	}
	return children, nil
}

// stateOf returns the state of a process.
func stateOf(pid int) (processState, error) {
	table, err := processTable()
	if err != nil {
		return "", err
	}
	for _, entry := range table {
		if entry.pid == pid {
			return entry.state(), nil
		}
	}
	return stateGone, nil
}

// processEntry is one line of the process table.
type processEntry struct {
	pid, parent int
	letter      byte // the state, as ps writes it
}

func (e processEntry) state() processState {
	switch e.letter {
	case 'T':
		return stateStopped
	case 'Z', 'X':
		return stateGone
	}
	return stateRunning
}

// processTable returns all processes: from /proc, or where there is none from ps.
func processTable() ([]processEntry, error) {
	if exists("/proc/self/stat") {
		return readProc()
	}
	out, err := exec.Command("ps", "-axo", "pid=,ppid=,state=").Output()
	if err != nil {
		return nil, fmt.Errorf("pgtest: ps: %w", err)
	}
	var table []processEntry
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) == 3 {
			entry, err := parseEntry(fields[0], fields[1], fields[2])
			if err != nil {
				return nil, err
			}
			table = append(table, entry)
		}
	}
	return table, nil
}

func parseEntry(pid, parent, state string) (processEntry, error) {
	p, errPID := strconv.Atoi(pid)
	pp, errParent := strconv.Atoi(parent)
	if err := errors.Join(errPID, errParent); err != nil {
		return processEntry{}, fmt.Errorf("pgtest: read the process table: %w", err)
	}
	return processEntry{pid: p, parent: pp, letter: state[0]}, nil
}
