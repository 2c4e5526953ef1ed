package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// terminal is where the program writes. On a screen there may be a picture in the last lines, which changes in place.
type terminal struct {
	*os.File
	redraws bool // it is a screen
	width   int
	gone    func() // called when the reader has gone

	mu    sync.Mutex // guards lines, and the screen
	lines int        // of the picture; 0: there is none
}

func newTerminal(f *os.File, gone func()) *terminal {
	return &terminal{
		File: f, redraws: isTerminal(f) && os.Getenv("TERM") != "dumb", width: screenWidth(os.Getenv("COLUMNS")), gone: gone,
	}
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// screenWidth reads COLUMNS; without it a screen is 80 wide.
func screenWidth(columns string) int {
	n, err := strconv.Atoi(columns)
	if err != nil || n <= 0 {
		return 80
	}
	return min(max(n, 60), 200)
}

// printf writes. Nobody can be told of an error.
func (t *terminal) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(t.File, format, args...); errors.Is(err, syscall.EPIPE) {
		t.gone()
	}
}

// redraw replaces the picture by text. Lines that are wider than the screen are cut, so that their number is known.
func (t *terminal) redraw(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.eraseLocked()
	t.printf("\x1b[?7l%s\x1b[?7h", text)
	t.lines = strings.Count(text, "\n")
}

// erase removes the picture.
func (t *terminal) erase() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.eraseLocked()
}

func (t *terminal) eraseLocked() {
	if t.lines > 0 {
		t.printf("\x1b[%dA\r\x1b[J", t.lines)
		t.lines = 0
	}
}

// above is a writer whose lines stand above the picture, for what is written while there is one, such as a log.
func (t *terminal) above(w io.Writer) io.Writer { return abovePicture{t, w} }

type abovePicture struct {
	terminal *terminal
	w        io.Writer
}

var _ io.Writer = abovePicture{}

// Write implements io.Writer. The picture comes back when it changes next.
func (a abovePicture) Write(line []byte) (int, error) {
	a.terminal.mu.Lock()
	defer a.terminal.mu.Unlock()
	a.terminal.eraseLocked()
	return a.w.Write(line)
}
