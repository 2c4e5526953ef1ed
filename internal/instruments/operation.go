package instruments

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/sqlsummary"
)

// An Operation is a statement under way, or a dial. Its Begin methods begin a span; End ends it, and records the duration
// and the rows. The zero value is no operation: its methods do nothing. It isn't safe for concurrent use.
type Operation struct {
	target *Target    // nil: no operation, or one that has ended
	stmt   *statement // name and attributes
	span   trace.Span // nil: not traced
	start  time.Time
}

// enabled returns the tracer, nil if no span is wanted, and whether somebody collects the durations. If neither, the caller
// has nothing to do.
func (t *Target) enabled(ctx context.Context) (tracer trace.Tracer, metrics bool) {
	return t.in.tracer(ctx), t.in.duration.Enabled(ctx)
}

// tracer returns the tracer for a statement with this context, or nil if it gets no span:
//
//   - nobody records spans;
//   - the context has no span, and statements without a parent get none (WithRootSpans);
//   - the context has a span that our own provider has decided not to record. Asking its sampler again for the child costs
//     as much as a span, and if it decided otherwise the child's parent would be missing. If the parent is of another
//     provider, or remote, the decision isn't ours. A parent that was sampled but has ended doesn't record any more, and is
//     no reason.
func (i *Instruments) tracer(ctx context.Context) trace.Tracer {
	tracer := i.tracers.tracer()
	if tracer == nil {
		return nil
	}
	parent := trace.SpanFromContext(ctx)
	switch sc := parent.SpanContext(); {
	case !sc.IsValid():
		if !i.roots {
			return nil
		}
	case !sc.IsRemote() && !sc.IsSampled() && !parent.IsRecording() && i.tracers.isOurs(parent):
		return nil
	}
	return tracer
}

// MaySample reports whether a statement with this context probably gets a span that is sampled: as its parent is, if it has
// one, which is how samplers are set up as a rule.
func (t *Target) MaySample(ctx context.Context) bool {
	if t.in.tracer(ctx) == nil {
		return false
	}
	parent := trace.SpanContextFromContext(ctx)
	return !parent.IsValid() || parent.IsSampled()
}

// Returning reports whether the statement has a RETURNING clause. If it is neither traced nor measured the result is false.
func (op *Operation) Returning() bool { return op.target != nil && op.stmt.returning }

// UnderWay reports whether the operation has begun and not ended.
func (op *Operation) UnderWay() bool { return op.target != nil }

// Again is called when the statement is tried again, on the connection of t. The operation goes on: both attempts are one
// span, which shows the node that was contacted last. It returns ctx with the span.
func (op *Operation) Again(ctx context.Context, t *Target) context.Context {
	op.Reached(t)
	if op.span != nil {
		ctx = trace.ContextWithSpan(ctx, op.span)
	}
	return ctx
}

// BeginsTransaction notes in the span that BEGIN travels with the statement. If it is not the transaction's first attempt,
// why is what the one before has failed with, as error.type has it.
func (op *Operation) BeginsTransaction(attempt int, why string) {
	if op.span == nil {
		return
	}
	op.span.SetAttributes(beginsTransactionKey.Bool(true))
	if attempt > 1 {
		op.span.SetAttributes(transactionAttemptKey.Int(attempt), retryReasonKey.String(why))
	}
}

// TraceParent returns the trace context of the operation's span as in W3C's traceparent header, which has 55 bytes, or "" if
// the span isn't sampled.
func (op *Operation) TraceParent() string {
	if op.span == nil {
		return ""
	}
	sc := op.span.SpanContext()
	if !sc.IsSampled() || !sc.IsValid() {
		return ""
	}
	return "00-" + sc.TraceID().String() + "-" + sc.SpanID().String() + "-" + sc.TraceFlags().String()
}

// SampledTrace returns the trace id of the operation's span, the zero value if the span isn't sampled.
func (op *Operation) SampledTrace() (id trace.TraceID) {
	if op.span == nil {
		return id
	}
	if sc := op.span.SpanContext(); sc.IsSampled() {
		id = sc.TraceID()
	}
	return id
}

// WasSlow notes in the span what the statement was last found to wait for. cause is nil if it wasn't slow, or that isn't
// known.
func (op *Operation) WasSlow(cause *activity.Cause) {
	if cause == nil || op.span == nil || !op.span.IsRecording() {
		return
	}
	op.span.SetAttributes(slowCauseKey.String(cause.String()))
	if cause.State == activity.Waiting {
		op.span.SetAttributes(slowWaitEventKey.String(cause.Wait.String()))
	}
	if root := cause.Root(); root != nil && root.PID != 0 {
		op.span.SetAttributes(slowBlockerPIDKey.Int64(int64(root.PID)))
	}
	if cause.QueryID != 0 {
		op.span.SetAttributes(queryIDKey.String(strconv.FormatInt(cause.QueryID, 10)))
	}
}

// Begin begins the operation of a statement. It returns ctx with the span.
func (t *Target) Begin(ctx context.Context, sql string) (context.Context, Operation) {
	tracer, metrics := t.enabled(ctx)
	if tracer == nil && !metrics {
		return ctx, Operation{}
	}
	return t.begin(ctx, tracer, t.texts.Get(sql).Value)
}

// BeginBatch begins the operation of a batch of statements. Its summary is BATCH, followed by that of the statements if all
// have the same. A batch of one statement is as that statement; one of none has the size 0. It returns ctx with the span.
func (t *Target) BeginBatch(ctx context.Context, texts []string) (context.Context, Operation) {
	tracer, metrics := t.enabled(ctx)
	if tracer == nil && !metrics {
		return ctx, Operation{}
	}
	if len(texts) == 1 {
		return t.begin(ctx, tracer, t.texts.Get(texts[0]).Value)
	}
	return t.begin(ctx, tracer, t.statement(t.batch(texts), []attribute.KeyValue{semconv.DBOperationBatchSize(len(texts))}))
}

// BatchSummary returns the summary of a batch of statements, as BeginBatch has it.
func (c *catalogue) BatchSummary(texts []string) string {
	if len(texts) == 1 {
		return c.Summary(texts[0]).Summary
	}
	return c.batch(texts).Summary
}

// CopySummary returns the summary of pgx's CopyFrom into a table, as BeginCopy has it.
func (c *catalogue) CopySummary(table string) string { return c.Summary(copyText(table)).Summary }

// copyText returns the text by which telemetry knows pgx's CopyFrom into a table: it is treated as any statement, so that
// the number of summaries is bounded.
func copyText(table string) string { return "COPY " + table + " FROM STDIN BINARY" }

// batch is the summary of several texts. Each of its parts is what all texts have in common, else empty. The text is that of
// all, or they are joined if they differ, as the conventions say.
func (c *catalogue) batch(texts []string) (s sqlsummary.Summary) {
	var joined strings.Builder
	for n, text := range texts {
		one := c.texts.Get(text).Summary
		if n == 0 {
			s = one
		}
		if joined.Len() == 0 && one.Text != s.Text {
			for range n {
				join(&joined, s.Text)
			}
		}
		if joined.Len() > 0 || one.Text != s.Text {
			join(&joined, one.Text)
		}
		if one.Summary != s.Summary {
			s.Summary = ""
		}
	}
	if joined.Len() > 0 {
		s.Text = joined.String()
	}
	s.Summary = prefixed("BATCH", s.Summary)
	return s
}

// join adds a text to those of a batch, unless they are longer already than what a span gets.
func join(b *strings.Builder, text string) {
	if b.Len() > maxText {
		return
	}
	if b.Len() > 0 {
		b.WriteString("; ")
	}
	b.WriteString(text)
}

// maxSummary is the longest db.query.summary in bytes, by the conventions.
const maxSummary = 255

// prefixed is a summary with a word in front. If that is too long, words and names are left out at its end.
func prefixed(word, summary string) string {
	s := strings.TrimSpace(word + " " + summary)
	if len(s) <= maxSummary {
		return s
	}
	for at := maxSummary; at > len(word); at-- {
		if s[at] == ' ' && strings.Count(s[:at], `"`)%2 == 0 { // not inside of a name in quotes
			return s[:at]
		}
	}
	return word
}

// BeginCopy begins the operation of pgx's CopyFrom into a table. It returns ctx with the span.
func (t *Target) BeginCopy(ctx context.Context, table string) (context.Context, Operation) {
	return t.Begin(ctx, copyText(table))
}

// BeginConnect begins the operation of a dial, which has a span only. Reached tells where it has got to. It returns ctx with
// the span.
func (t *Target) BeginConnect(ctx context.Context) (context.Context, Operation) {
	tracer := t.in.tracer(ctx)
	if tracer == nil {
		return ctx, Operation{}
	}
	return t.begin(ctx, tracer, t.unmeasured(sqlsummary.Summary{Summary: "CONNECT"}))
}

// Reached is called with the Target of the connection that a dial has made, or on which a statement is tried.
func (op *Operation) Reached(t *Target) {
	if op.target == nil || op.target == t {
		return
	}
	op.target = t
	if op.span != nil {
		op.span.SetAttributes(t.peer.attributes()...)
	}
}

// begin begins the span, if there is a tracer, and takes the time.
func (t *Target) begin(ctx context.Context, tracer trace.Tracer, s *statement) (context.Context, Operation) {
	op := Operation{target: t, stmt: s}
	if tracer != nil {
		ctx, op.span = tracer.Start(ctx, s.name, s.startAt(t.peer)...)
		// The SDK's spans tell their times, which are used for the metric too, so that both have the same duration.
		if timed, ok := op.span.(interface{ StartTime() time.Time }); ok {
			op.start = timed.StartTime()
			return ctx, op
		}
	}
	op.start = time.Now()
	return ctx, op
}

// Prepared returns the operation of preparing a statement on the server, which began at start. It has a span only. Prepared
// is called afterwards: only then is known that pgx had to prepare the statement, and that it wasn't in its cache. It returns
// ctx with the span.
func (t *Target) Prepared(ctx context.Context, sql string, start time.Time) (context.Context, Operation) {
	tracer := t.in.tracer(ctx)
	if tracer == nil {
		return ctx, Operation{}
	}
	s := t.texts.Get(sql).Summary
	s.Summary = prefixed("PREPARE", s.Summary)
	op := Operation{target: t, stmt: t.unmeasured(s), start: start}
	ctx, op.span = tracer.Start(ctx, op.stmt.name, append(op.stmt.startAt(t.peer), trace.WithTimestamp(start))...)
	return ctx, op
}

// waitName is the name of the span of a wait for a connection, and of the event that stands for it in a root span.
const waitName = "pgprod.wait"

// AddWait adds the wait for a connection, which began at from, to the statement's span as an event. caller is the context
// that the statement had before Begin. If it has a span nothing is added: the wait has a span of its own there, see
// WaitedSpan.
func (op *Operation) AddWait(caller context.Context, from time.Time, waited time.Duration) {
	if op.span == nil || trace.SpanContextFromContext(caller).IsValid() {
		return
	}
	op.span.AddEvent(waitName, trace.WithTimestamp(from),
		trace.WithAttributes(op.target.in.poolName, waitDurationKey.Float64(waited.Seconds())))
}

// AddParts adds to the statement's span where its time went: the wait for the connection, which is before the span and 0 if
// the statement was not the first on it, the time that the server took, and that in which its answer was read.
func (op *Operation) AddParts(waited, server, read time.Duration) {
	if op.span == nil || !op.span.IsRecording() {
		return
	}
	op.span.SetAttributes(waitDurationKey.Float64(waited.Seconds()), serverDurationKey.Float64(server.Seconds()),
		readDurationKey.Float64(read.Seconds()))
}

// WaitedSpan adds a span to the caller's trace for its wait for a connection, which is just over and may have ended with
// err. If the caller has no trace, a span is made only if there is an error: otherwise the statement's span has the wait,
// see AddWait. It does nothing if waited is 0.
func (i *Instruments) WaitedSpan(ctx context.Context, waited time.Duration, err error) {
	if waited <= 0 || err == nil && !trace.SpanContextFromContext(ctx).IsValid() {
		return
	}
	tracer := i.tracer(ctx)
	if tracer == nil {
		return
	}
	_, span := tracer.Start(ctx, waitName, trace.WithTimestamp(time.Now().Add(-waited)), trace.WithAttributes(i.poolName))
	if err != nil {
		kind, why := waitFailure(err)
		span.SetAttributes(semconv.ErrorTypeKey.String(kind))
		span.SetStatus(codes.Error, why)
	}
	span.End()
}

// waitFailure is error.type, and a message, for a wait that ended without a connection. The error may wrap the last failure
// to connect, but that isn't why the wait ended, and has a span of its own.
func waitFailure(err error) (kind, why string) {
	var netErr net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return canceled, "the caller's context ended the wait"
	case errors.As(err, &netErr) && netErr.Timeout():
		return timeout, "no connection became free in time"
	}
	return ErrorType(err), Describe(err, "")
}

// End ends the operation, successfully if err is nil. rows is the number of rows that the server returned; if it is negative
// none is recorded. ctx is what Begin returned: the duration's exemplar points to its span. (The rows have no exemplar,
// which would cost as much again.) sql is the text that the caller sent, for Describe.
func (op *Operation) End(ctx context.Context, rows int64, err error, sql string) {
	if op.target == nil {
		return
	}
	took := op.end(err, sql)
	if op.stmt.series != nil {
		op.measure(ctx, took, rows, err)
	}
	*op = Operation{}
}

// measure records the duration and the rows.
func (op *Operation) measure(ctx context.Context, took time.Duration, rows int64, err error) {
	in, opts := op.target.in, op.stmt.ok
	if err != nil {
		opts = op.stmt.failure(err)
	}
	in.duration.Record(ctx, took.Seconds(), opts...)
	if rows >= 0 && err == nil {
		in.rows.Record(context.Background(), rows, opts...)
	}
}

// end ends the span and returns the duration, by the times of the span if it tells them.
func (op *Operation) end(err error, sql string) time.Duration {
	if op.span == nil {
		return time.Since(op.start)
	}
	if err != nil {
		op.fail(err, sql)
	}
	op.span.End()
	if timed, ok := op.span.(interface{ EndTime() time.Time }); ok {
		return timed.EndTime().Sub(op.start)
	}
	return time.Since(op.start)
}

// fail sets the status and the attributes of a span whose statement has failed.
func (op *Operation) fail(err error, sql string) {
	if !op.span.IsRecording() {
		return
	}
	op.span.SetStatus(codes.Error, Describe(err, sql))
	op.span.SetAttributes(semconv.ErrorTypeKey.String(ErrorType(err)))
	if code := statusCode(err); code != "" {
		op.span.SetAttributes(semconv.DBResponseStatusCode(code))
	}
}
