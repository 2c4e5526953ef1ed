package repeats

import (
	"bytes"
	"context"
	"runtime"
	"strconv"

	"go.opentelemetry.io/otel/trace"
)

// A parent is what statements have in common that run for the same purpose, such as the same request. Only what says
// something is set. The zero value is none.
type parent struct {
	trace     trace.TraceID
	span      trace.SpanID
	done      <-chan struct{} // of the context
	goroutine uint64
}

// parents is how many parents a statement may have.
const parents = 2

// parentsOf returns the parents of a statement with this context, in the goroutine of its caller.
//
// If the context has a span, one is that span, so that a row is found among whatever else goes on in the same trace. The
// other one is the trace, since in many programs each call of a function, or each statement of an ORM, has a span of its
// own.
//
// Without a span it is the context, by its channel, which a context shares with those that only add values to it. A context
// that never ends says nothing, and one with a deadline is made for a single call as a rule, by a function that limits what
// it does: there it is the goroutine.
func parentsOf(ctx context.Context) (of [parents]parent) {
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		of[0] = parent{trace: sc.TraceID(), span: sc.SpanID()}
		of[1] = parent{trace: sc.TraceID()}
		return of
	}
	if _, limited := ctx.Deadline(); !limited {
		of[0].done = ctx.Done()
	}
	if of[0].done == nil {
		of[0].goroutine = goroutine()
	}
	return of
}

// goroutine returns the number of the present goroutine, which no other one ever has. The runtime tells it only in the text
// of a stack: "goroutine 18 [running]:". It costs up to a microsecond for each frame of that.
func goroutine() uint64 {
	var buf [64]byte
	text := bytes.TrimPrefix(buf[:runtime.Stack(buf[:], false)], []byte("goroutine "))
	number, _, _ := bytes.Cut(text, []byte(" "))
	n, _ := strconv.ParseUint(string(number), 10, 64)
	return n
}
