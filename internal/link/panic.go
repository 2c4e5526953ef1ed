package link

import (
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// A panicError is a panic in the middle of a statement, turned into an error. Its text contains the stack of the panic.
type panicError struct {
	value any
	stack []byte
}

// newPanicError makes an error of a panic. It is called in the deferred function that has recovered from the panic, where
// the stack still contains it. A malformed reply of the server makes pgx index past the end of a slice or use a nil pointer:
// such a panic is reported as the server's mistake, without a stack.
func newPanicError(value any) error {
	if err, ok := value.(runtime.Error); ok && panickedInPgx() {
		return fmt.Errorf("pgprod: the server's reply makes no sense: %w", err)
	}
	return &panicError{value: value, stack: debug.Stack()}
}

func (e *panicError) Error() string {
	return fmt.Sprintf("pgprod: a panic in the midst of a statement: %v\n\n%s", e.value, e.stack)
}

// Unwrap returns the panic's value if that is an error, nil otherwise.
func (e *panicError) Unwrap() error {
	err, _ := e.value.(error)
	return err
}

// A dialPanic is a panic in a function of the application's that a dial calls, turned into an error. Dials are repeated, so its
// text has only the place of the panic, in one line.
type dialPanic struct {
	value any
	at    string // file:line
}

// newDialPanic makes an error of a panic. It is called as newPanicError is.
func newDialPanic(value any) error {
	f := panicFrame()
	return &dialPanic{value, filepath.Base(filepath.Dir(f.File)) + "/" + filepath.Base(f.File) + ":" + strconv.Itoa(f.Line)}
}

func (e *dialPanic) Error() string { return fmt.Sprintf("a panic at %s: %v", e.at, e.value) }

// Unwrap returns the panic's value if that is an error, nil otherwise.
func (e *dialPanic) Unwrap() error {
	err, _ := e.value.(error)
	return err
}

// panickedInPgx reports whether the panic that is being recovered from began in a function of pgx's, and not in one of the
// application's that pgx or database/sql has called.
func panickedInPgx() bool { return strings.HasPrefix(panicFrame().Function, "github.com/jackc/pgx/") }

// panicFrame returns where the panic that is being recovered from began: the first frame below those of the runtime's panic.
func panicFrame() runtime.Frame {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs[:])])
	panicked := false
	for {
		f, more := frames.Next()
		switch {
		case strings.HasPrefix(f.Function, "runtime."):
			panicked = panicked || strings.Contains(f.Function, "anic")
		case panicked:
			return f
		}
		if !more {
			return runtime.Frame{}
		}
	}
}
