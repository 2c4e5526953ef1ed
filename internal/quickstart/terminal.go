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

// terminal is where the program writes to. If it is a screen, there may be a picture in the last lines, which is replaced in
// place. It is safe for concurrent use.
type terminal struct {
	*os.File
	redraws bool   // it is a screen, on which a picture can be replaced
	width   int    // in columns
	gone    func() // called when nobody reads any more

	mu    sync.Mutex // guards lines, and the screen
	lines int        // of the picture; 0: there is none
}

// newTerminal returns a terminal that writes to f. gone is called when nobody reads from f any more.
func newTerminal(f *os.File, gone func()) *terminal {
	return &terminal{
		File: f, redraws: isTerminal(f) && os.Getenv("TERM") != "dumb", width: screenWidth(os.Getenv("COLUMNS")), gone: gone,
	}
}

// isTerminal reports whether f is a device and not a file or a pipe.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// screenWidth returns the width that COLUMNS says, within 60 and 200; 80 without it.
func screenWidth(columns string) int {
	n, err := strconv.Atoi(columns)
	if err != nil || n <= 0 {
		return 80
	}
	return min(max(n, 60), 200)
}

// printf writes to the file. Errors are ignored, as there is nowhere to report them, except that nobody reads any more.
func (t *terminal) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(t.File, format, args...); errors.Is(err, syscall.EPIPE) {
		t.gone()
	}
}

// redraw replaces the picture by text. Lines that are wider than the screen are cut off and not wrapped, so that the number
// of lines is known.
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

// above returns a writer for what is written while there is a picture, such as a log: it removes the picture, writes to w,
// and the picture comes again below.
func (t *terminal) above(w io.Writer) io.Writer { return abovePicture{t, w} }

type abovePicture struct {
	terminal *terminal
	w        io.Writer
}

var _ io.Writer = abovePicture{}

// Write implements io.Writer. The picture comes again with the next redraw.
func (a abovePicture) Write(line []byte) (int, error) {
	a.terminal.mu.Lock()
	defer a.terminal.mu.Unlock()
	a.terminal.eraseLocked()
	return a.w.Write(line)
}
