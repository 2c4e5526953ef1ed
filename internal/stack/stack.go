// Package stack keeps the stacks of those who borrow connections, to say later who it was, and decides whose are taken: a
// stack costs half a microsecond.
package stack

import (
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// depth is how much of a stack is kept. About a dozen of the frames are database/sql's and ours.
	depth = 32
	// every and burst bound what stacks cost: below four thousand checkouts a second every borrower's is taken, beyond that
	// four thousand a second, and at any time this many at once.
	every = 250 * time.Microsecond
	burst = 128
	// alarm is for how long all stacks are taken after one was missed; the diary says so.
	alarm = 10 * time.Minute
)

// A Budget decides whose stack is taken. It is safe for concurrent use.
type Budget struct {
	due     atomic.Int64 // by package clock: when all that were taken would be due, one every so often
	unbound atomic.Int64 // by package clock: until then all are taken
}

// Allows reports whether to take a stack now, by package clock.
func (b *Budget) Allows(now int64) bool {
	due := b.due.Load()
	if due-now >= int64(burst*every) {
		return now < b.unbound.Load()
	}
	return b.due.CompareAndSwap(due, max(due, now)+int64(every)) || now < b.unbound.Load()
}

// Missed is called when a stack is needed that was not taken: for a while all are.
func (b *Budget) Missed(now int64) { b.unbound.Store(now + int64(alarm)) }

// A Trace is a stack. The zero value is one that was not taken.
type Trace struct {
	depth int
	pcs   [depth]uintptr
}

// Take keeps the stack of the caller's caller.
func (t *Trace) Take() { t.depth = runtime.Callers(3, t.pcs[:]) }

// Clear forgets it.
func (t *Trace) Clear() { t.depth = 0 }

// Frames are the application's part of the stack, as "function file:line", the innermost first.
func (t *Trace) Frames() (all []string) {
	t.walk(func(f runtime.Frame) bool {
		if !isPlumbing(f.Function) {
			all = append(all, f.Function+" "+filepath.Base(f.File)+":"+strconv.Itoa(f.Line))
		}
		return true
	})
	return all
}

// Has reports whether the name of a function in the stack ends with suffix.
func (t *Trace) Has(suffix string) (found bool) {
	t.walk(func(f runtime.Frame) bool {
		found = strings.HasSuffix(f.Function, suffix)
		return !found
	})
	return found
}

// walk calls visit with each frame, the innermost first, until it returns false.
func (t *Trace) walk(visit func(runtime.Frame) bool) {
	if t.depth == 0 {
		return
	}
	frames := runtime.CallersFrames(t.pcs[:t.depth])
	for {
		f, more := frames.Next()
		if !visit(f) || !more {
			return
		}
	}
}

// plumbing are the packages on the way from the application to the pool, and what is below the application.
var plumbing = []string{
	"database/sql.", "runtime.", "github.com/pgprod/pgprod.",
	"github.com/pgprod/pgprod/internal/pool.", "github.com/pgprod/pgprod/internal/intx.", "github.com/pgprod/pgprod/internal/link.",
}

func isPlumbing(function string) bool {
	for _, prefix := range plumbing {
		if strings.HasPrefix(function, prefix) {
			return true
		}
	}
	return false
}
