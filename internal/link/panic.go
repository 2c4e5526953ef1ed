package link

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// panicError is a panic in the midst of a call of database/sql's, as its caller gets it.
type panicError struct {
	value any
	stack []byte
}

// newPanicError makes an error of a panic that is being recovered from. A reply that makes no sense leads pgx past the
// end of a slice or to a nil pointer: that is the server's fault and has no use for a stack.
func newPanicError(value any) error {
	if err, ok := value.(runtime.Error); ok && panickedInPgx() {
		return fmt.Errorf("pgprod: the server's reply makes no sense: %w", err)
	}
	return &panicError{value: value, stack: debug.Stack()}
}

func (e *panicError) Error() string {
	return fmt.Sprintf("pgprod: a panic in the midst of a statement: %v\n\n%s", e.value, e.stack)
}

// Unwrap returns the panic's value if it is an error.
func (e *panicError) Unwrap() error {
	err, _ := e.value.(error)
	return err
}

// panickedInPgx reports whether the panic that is being recovered from began in pgx, and not in a type of the
// application's that pgx or database/sql called.
func panickedInPgx() bool {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs[:])])
	panicked := false
	for {
		f, more := frames.Next()
		switch {
		case strings.HasPrefix(f.Function, "runtime."):
			panicked = panicked || strings.Contains(f.Function, "anic")
		case panicked:
			return strings.HasPrefix(f.Function, "github.com/jackc/pgx/")
		}
		if !more {
			return false
		}
	}
}
