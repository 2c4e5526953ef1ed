package link

import (
	"context"
	"runtime/pprof"
	"runtime/trace"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// profiled is what an execution trace and a CPU profile get to know of a statement. There is one only for a statement that
// begins while package runtime/trace collects a trace.
//
// A statement is a task, from its begin to the end of its rows, which may come in another goroutine. In the goroutine that
// sends it, until that has the first row, it is a region of the task, and the goroutine has the statement's summary as a
// label, besides the labels of the caller's context. Both end where they began, within protect: database/sql reads and
// closes rows in whichever goroutine it likes, and what a caller of Raw does may end in any order.
type profiled struct {
	task   *trace.Task     // nil: it has ended
	region *trace.Region   // nil: there is none, or it has ended
	caller context.Context // the context whose labels the goroutine gets back; nil: they were not changed
}

// profile is called when a statement begins, while a trace is collected. The labels are left alone in a COMMIT or a
// ROLLBACK, whose context is that of the transaction and may be another than its caller's.
func (c *Conn) profile(ctx context.Context) {
	summary, p := c.stmt.Summary(), &profiled{}
	if c.attempt.undecided {
		p.caller = ctx
	}
	ctx, p.task = trace.NewTask(ctx, summary)
	if c.attempt.protected {
		p.region = trace.StartRegion(ctx, summary)
	}
	if p.caller != nil {
		pprof.SetGoroutineLabels(pprof.WithLabels(ctx, pprof.Labels(string(semconv.DBQuerySummaryKey), summary)))
	}
	c.stmt.profiled = p
}

// leave is called in the goroutine in which the statement began, when that returns to its caller or unwinds.
func (p *profiled) leave() {
	if p == nil || p.region == nil {
		return
	}
	if p.caller != nil {
		pprof.SetGoroutineLabels(p.caller)
	}
	p.region.End()
	p.region = nil
}

// end is called when the statement is over. Then leave was called, or has to be: a call may be of several statements, one
// after the other.
func (p *profiled) end() {
	if p == nil || p.task == nil {
		return
	}
	p.leave()
	p.task.End()
	p.task = nil
}
