// Package stack keeps the stacks of goroutines that borrow connections, so that it can be said later who has a connection
// for too long. Taking a stack costs half a microsecond, so a budget decides of which borrowers it is taken. It also says
// which line of a program has called, through whatever libraries.
package stack

import (
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// maxDepth is how many frames of a stack are kept. About a dozen of them are database/sql's and ours.
	maxDepth = 32
	// interval and burst limit what stacks cost. Up to one checkout per interval, four thousand a second, each stack is taken,
	// and of more checkouts four thousand a second. At once, up to burst stacks are taken.
	interval = 250 * time.Microsecond
	burst    = 128
	// unlimitedFor is for how long all stacks are taken after one was missing. The diary's text says ten minutes.
	unlimitedFor = 10 * time.Minute
)

// A Budget decides whether a borrower's stack is taken. The zero value is ready for use. It is safe for concurrent use.
type Budget struct {
	due            atomic.Int64 // by package clock: when the stacks taken so far would be paid for, at one per interval
	unlimitedUntil atomic.Int64 // by package clock: until then all stacks are taken
}

// Allows reports whether a stack may be taken at now, by package clock. If another goroutine asks at the same time, one of
// the two may be refused.
func (b *Budget) Allows(now int64) bool {
	due := b.due.Load()
	if due-now >= int64(burst*interval) {
		return now < b.unlimitedUntil.Load()
	}
	return b.due.CompareAndSwap(due, max(due, now)+int64(interval)) || now < b.unlimitedUntil.Load()
}

// Missed is called at now, by package clock, when a stack is needed that was not taken. For unlimitedFor all stacks are
// taken.
func (b *Budget) Missed(now int64) { b.unlimitedUntil.Store(now + int64(unlimitedFor)) }

// A Trace is a stack. The zero value is a stack that was not taken.
type Trace struct {
	depth int // how many entries of pcs are in use; 0: the stack was not taken
	pcs   [maxDepth]uintptr
}

// Take keeps the stack of the caller's caller.
func (t *Trace) Take() { t.depth = runtime.Callers(3, t.pcs[:]) }

// Clear forgets the stack.
func (t *Trace) Clear() { t.depth = 0 }

// Frames returns the application's part of the stack, each frame as "function file:line", the innermost first. It returns
// nil if the stack was not taken.
func (t *Trace) Frames() (all []string) {
	t.walk(func(f runtime.Frame) bool {
		if !isPlumbing(f.Function) {
			all = append(all, text(f))
		}
		return true
	})
	return all
}

// MayFollow reports whether a goroutine that is at t may have been at earlier before: the same lines have called the
// function of the application that was at a line further up then, or the line at which earlier ends has called all that is
// further in t. Two goroutines that execute the same code may look like that as well.
func (t *Trace) MayFollow(earlier *Trace) bool {
	then, now := earlier.Frames(), t.Frames()
	if len(then) == 0 || len(now) == 0 {
		return false
	}
	for len(then) > 0 && len(now) > 0 && then[len(then)-1] == now[len(now)-1] {
		then, now = then[:len(then)-1], now[:len(now)-1]
	}
	return len(now) > 0 && (len(then) == 0 || isFurther(now[len(now)-1], then[len(then)-1]))
}

// isFurther reports whether a frame is further down in the same function than another one.
func isFurther(frame, than string) bool {
	place, line := cutLine(frame)
	before, lineBefore := cutLine(than)
	return place == before && line > lineBefore
}

// cutLine cuts the number of the line off a frame.
func cutLine(frame string) (place string, line int) {
	at := strings.LastIndexByte(frame, ':')
	line, _ = strconv.Atoi(frame[at+1:])
	return frame[:max(at, 0)], line
}

// Has reports whether the name of a function in the stack ends with suffix.
func (t *Trace) Has(suffix string) (found bool) {
	t.walk(func(f runtime.Frame) bool {
		found = strings.HasSuffix(f.Function, suffix)
		return !found
	})
	return found
}

// text returns a frame as "function file:line".
func text(f runtime.Frame) string {
	return f.Function + " " + filepath.Base(f.File) + ":" + strconv.Itoa(f.Line)
}

// walk is the function walk for a Trace.
func (t *Trace) walk(visit func(runtime.Frame) bool) { walk(t.pcs[:t.depth], visit) }

// walk calls visit with each frame, the innermost first, until it returns false.
func walk(pcs []uintptr, visit func(runtime.Frame) bool) {
	if len(pcs) == 0 {
		return
	}
	frames := runtime.CallersFrames(pcs)
	for {
		f, more := frames.Next()
		if !visit(f) || !more {
			return
		}
	}
}

// Deep is a stack with room for more frames than a Trace has, for whoever calls through an ORM. The zero value is a stack
// that was not taken.
type Deep struct{ pcs []uintptr }

// maxDeep is how many frames of a deep stack are kept: an ORM may have dozens of its own.
const maxDeep = 128

// Take keeps the stack of the caller's caller.
func (d *Deep) Take() {
	var pcs [maxDeep]uintptr
	d.pcs = slices.Clone(pcs[:runtime.Callers(3, pcs[:])])
}

// Frames returns the program's own part of the stack, each frame as "function file:line", the innermost first: without the
// frames of the libraries that it calls the pool through. If there is nothing of its own it returns the libraries' frames.
func (d *Deep) Frames() []string {
	var own, others []string
	walk(d.pcs, func(f runtime.Frame) bool {
		switch {
		case isPlumbing(f.Function):
		case isLibrary(f):
			others = append(others, text(f))
		default:
			own = append(own, text(f))
		}
		return true
	})
	if len(own) == 0 {
		return others
	}
	return own
}

// Caller returns the first of Frames, "" if there is none.
func (d *Deep) Caller() string {
	if frames := d.Frames(); len(frames) > 0 {
		return frames[0]
	}
	return ""
}

// isLibrary reports whether a frame is of a module that the program depends on. The files of such modules are in a
// directory with a version in its name, also if paths are trimmed, or in the program's vendor directory.
func isLibrary(f runtime.Frame) bool {
	return strings.Contains(f.File, "@v") || strings.Contains(f.File, "/vendor/")
}

// plumbing are the prefixes of functions that are not the application's: those between the application and the pool, and the
// runtime's.
var plumbing = []string{
	"database/sql.", "runtime.", "github.com/pgprod/pgprod.",
	"github.com/pgprod/pgprod/internal/pool.", "github.com/pgprod/pgprod/internal/intx.", "github.com/pgprod/pgprod/internal/link.",
	"github.com/pgprod/pgprod/internal/repeats.",
}

// isPlumbing reports whether a function is not one of the application's.
func isPlumbing(function string) bool {
	for _, prefix := range plumbing {
		if strings.HasPrefix(function, prefix) {
			return true
		}
	}
	return false
}
