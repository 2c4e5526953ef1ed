package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// A pseudoTerminal is a terminal of so many columns and rows: what is written to keys is typed, and what a program writes is
// collected.
type pseudoTerminal struct {
	keys, end *os.File // the user's end, and the program's

	mu   sync.Mutex // guards seen
	seen strings.Builder
}

func openPseudoTerminal(t *testing.T, columns, rows uint16) *pseudoTerminal {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	require.NoError(t, err)
	control := func(request uintptr, argument unsafe.Pointer) {
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, keys.Fd(), request, uintptr(argument))
		require.Zero(t, errno)
	}
	var unlocked, number int32
	control(syscall.TIOCSPTLCK, unsafe.Pointer(&unlocked))
	control(syscall.TIOCGPTN, unsafe.Pointer(&number))
	control(syscall.TIOCSWINSZ, unsafe.Pointer(&[4]uint16{rows, columns}))
	end, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	p := &pseudoTerminal{keys: keys, end: end}
	go p.collect() // ends when the program has ended and the test has closed its end
	t.Cleanup(func() { _ = end.Close(); _ = keys.Close() })
	return p
}

func (p *pseudoTerminal) collect() {
	buffer := make([]byte, 4096)
	for {
		n, err := p.keys.Read(buffer)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.seen.Write(buffer[:n])
		p.mu.Unlock()
	}
}

func (p *pseudoTerminal) shown() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen.String()
}

// settings are what stty would show and change.
func (p *pseudoTerminal) settings(t *testing.T) (s syscall.Termios) {
	t.Helper()
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, p.end.Fd(), syscall.TCGETS, uintptr(unsafe.Pointer(&s)))
	require.Zero(t, errno)
	return s
}

func TestTopFitsATerminalAndCtrlCLeavesThatAsItWas(t *testing.T) {
	const columns, rows = 72, 20
	address := examplePage(t, func(*activity.Snapshot) {})
	screen := openPseudoTerminal(t, columns, rows)
	before := screen.settings(t)
	p := exec.Command(os.Args[0])
	p.Env = append(os.Environ(), childVariable+"=-top "+address, "TERM=xterm")
	p.Stdin, p.Stdout, p.Stderr = screen.end, screen.end, screen.end
	p.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, p.Start())
	t.Cleanup(func() { _ = p.Process.Kill() })
	pgtest.Eventually(t, 30*time.Second, func() bool { return strings.Count(screen.shown(), "\x1b[H") >= 2 }, "it refreshes")
	_, err := screen.keys.WriteString("\x03") // ctrl-C
	require.NoError(t, err)
	require.NoError(t, p.Wait())
	leave := "\x1b[?7h\x1b[?25h\x1b[?1049l"
	pgtest.Eventually(t, 30*time.Second, func() bool { return strings.HasSuffix(screen.shown(), leave) }, "it leaves")

	shown := screen.shown()
	assert.True(t, strings.HasPrefix(shown, "\x1b[?1049h\x1b[?25l\x1b[?7l"), "another screen, no cursor, no wrapping")
	assert.Equal(t, before, screen.settings(t))
	frame, _, _ := strings.Cut(strings.SplitN(shown, "\x1b[H", 3)[1], "\x1b[J")
	assert.Contains(t, frame, "shop-primary")
	frame = strings.NewReplacer("\x1b[K", "", "\x1b[1m", "", "\x1b[0m", "", "\r", "").Replace(frame)
	assert.NotContains(t, frame, "\x1b")
	requireWidth(t, frame, columns)
	assert.Less(t, strings.Count(frame, "\n"), rows, "the last line stays empty, or the screen would scroll")
}
