package instruments

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/pgprod/pgprod/internal/sqlsummary"
)

// An Operation is one statement under way. The zero value is none: its methods do nothing.
type Operation struct {
	target *Target
	stmt   *statement
	span   trace.Span // nil: not traced
	start  time.Time
}

// enabled reports whether anybody listens.
func (t *Target) enabled(ctx context.Context) (tracer trace.Tracer, metrics bool) {
	return t.in.tracer(ctx), t.in.duration.Enabled(ctx)
}

// tracer returns nil where no span is wanted: nobody records any, the context has no span and roots are off, or it has
// one that this provider decided not to record. Another decision for its child, which costs as much as a span, would
// only give the child a parent that isn't there. A span of another provider's is somebody else's decision. One that was
// sampled and has ended records nothing any more, but is there.
func (i *Instruments) tracer(ctx context.Context) trace.Tracer {
	tracer := i.tracers.tracer()
	if tracer == nil {
		return nil
	}
	parent := trace.SpanFromContext(ctx)
	switch sc := parent.SpanContext(); {
	case !sc.IsValid():
		if !i.orphans {
			return nil
		}
	case !sc.IsRemote() && !sc.IsSampled() && !parent.IsRecording() && i.tracers.made(parent):
		return nil
	}
	return tracer
}

// Returning reports whether the statement has a RETURNING clause, as far as anybody listens.
func (op *Operation) Returning() bool { return op.target != nil && op.stmt.returning }

// Pending reports whether the operation has begun and not ended.
func (op *Operation) Pending() bool { return op.target != nil }

// Again goes on with an operation for another attempt at its statement, now on a server that may be another one. The
// context that it returns has the span.
func (op *Operation) Again(ctx context.Context, t *Target, sql string) context.Context {
	if op.target != t {
		op.target, op.stmt = t, t.texts.Get(sql).Value
		if op.span != nil {
			op.span.SetAttributes(t.common...)
			if t.port != 0 { // that of the other can't be taken off
				op.span.SetAttributes(semconv.ServerPort(t.port))
			}
		}
	}
	if op.span != nil {
		ctx = trace.ContextWithSpan(ctx, op.span)
	}
	return ctx
}

// Begin begins the operation that a statement's text stands for. The context that it returns has the span.
func (t *Target) Begin(ctx context.Context, sql string) (context.Context, Operation) {
	tracer, metrics := t.enabled(ctx)
	if tracer == nil && !metrics {
		return ctx, Operation{}
	}
	return t.begin(ctx, tracer, t.texts.Get(sql).Value)
}

// BeginBatch begins a batch of statements. Its summary is BATCH, with that of the statements if they are alike.
func (t *Target) BeginBatch(ctx context.Context, texts []string) (context.Context, Operation) {
	tracer, metrics := t.enabled(ctx)
	if tracer == nil && !metrics {
		return ctx, Operation{}
	}
	if len(texts) == 1 {
		return t.begin(ctx, tracer, t.texts.Get(texts[0]).Value)
	}
	var more []attribute.KeyValue
	if len(texts) > 1 {
		more = append(more, semconv.DBOperationBatchSize(len(texts)))
	}
	return t.begin(ctx, tracer, t.statement(t.batch(texts), more))
}

// batch is the summary of several texts: of each part, what they have in common. Texts that differ are joined, as the
// conventions say.
func (t *Target) batch(texts []string) (s sqlsummary.Summary) {
	var joined strings.Builder
	for n, text := range texts {
		one := t.texts.Get(text).Summary
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
		s.Summary = common(s.Summary, one.Summary)
		s.Operation = common(s.Operation, one.Operation)
		s.Collection = common(s.Collection, one.Collection)
	}
	if joined.Len() > 0 {
		s.Text = joined.String()
	}
	s.Summary, s.Operation = prefixed("BATCH", s.Summary), prefixed("BATCH", s.Operation)
	return s
}

// join adds a text to those of a batch, until there is more than a span takes.
func join(b *strings.Builder, text string) {
	if b.Len() > maxText {
		return
	}
	if b.Len() > 0 {
		b.WriteString("; ")
	}
	b.WriteString(text)
}

func common(a, b string) string {
	if a != b {
		return ""
	}
	return a
}

// maxSummary is the longest db.query.summary.
const maxSummary = 255

// prefixed puts a word before a summary, which it shortens by whole words and names if need be.
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

// BeginCopy begins a COPY into a table.
func (t *Target) BeginCopy(ctx context.Context, table string) (context.Context, Operation) {
	return t.Begin(ctx, "COPY "+table+" FROM STDIN BINARY") // through the cache, which bounds the summaries
}

// BeginConnect begins the making of a connection.
func (t *Target) BeginConnect(ctx context.Context) (context.Context, Operation) {
	tracer, metrics := t.enabled(ctx)
	if tracer == nil && !metrics {
		return ctx, Operation{}
	}
	return t.begin(ctx, tracer, t.connecting())
}

func (t *Target) connecting() *statement {
	return t.statement(sqlsummary.Summary{Summary: "CONNECT", Operation: "CONNECT"}, nil)
}

// Reached says which server a connection was made to, where BeginConnect's target left it open.
func (op *Operation) Reached(t *Target) {
	if op.target == nil || op.target == t {
		return
	}
	op.target, op.stmt = t, t.connecting()
	if op.span != nil {
		op.span.SetAttributes(t.common...)
	}
}

func (t *Target) begin(ctx context.Context, tracer trace.Tracer, s *statement) (context.Context, Operation) {
	op := Operation{target: t, stmt: s}
	if tracer != nil {
		ctx, op.span = tracer.Start(ctx, s.name, s.start...)
		if timed, ok := op.span.(interface{ StartTime() time.Time }); ok { // the SDK's: one duration for span and metric
			op.start = timed.StartTime()
			return ctx, op
		}
	}
	op.start = time.Now()
	return ctx, op
}

// Prepared is the operation of having the server prepare a text. That it had to is known only afterwards; start is when
// it was asked.
func (t *Target) Prepared(ctx context.Context, sql string, start time.Time) (context.Context, Operation) {
	tracer, metrics := t.enabled(ctx)
	if tracer == nil && !metrics {
		return ctx, Operation{}
	}
	s := t.texts.Get(sql).Summary
	s.Summary, s.Operation = prefixed("PREPARE", s.Summary), "PREPARE"
	op := Operation{target: t, stmt: t.statement(s, nil), start: start}
	if tracer != nil {
		ctx, op.span = tracer.Start(ctx, op.stmt.name, append(op.stmt.start, trace.WithTimestamp(start))...)
	}
	return ctx, op
}

const waitName = "pgprod.wait"

// Waited shows in the root span of a statement that it has waited for a connection: an event, at the time when the wait
// began. A caller that has a span has one of the wait already, see WaitedSpan; its context is the one without op's span.
func (op *Operation) Waited(caller context.Context, from time.Time, waited time.Duration) {
	if op.span == nil || trace.SpanContextFromContext(caller).IsValid() {
		return
	}
	op.span.AddEvent(waitName, trace.WithTimestamp(from),
		trace.WithAttributes(op.target.in.poolName, attribute.Float64("pgprod.wait.duration", waited.Seconds())))
}

// WaitedSpan shows in the caller's trace that it has just waited for a connection: a span of its own, before that of
// the statement. Where there is no trace yet, only a wait in vain has one: there will be no statement to show it.
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

// waitFailure tells why a wait ended without a connection. The error may have the last failure to connect in it, which
// has a span of its own.
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

// End ends the operation: rows is how many the server returned, negative if that has no meaning here. ctx is what Begin
// returned, so that the metric of the duration can point to the span. The others don't: an exemplar costs as much again.
// sql is the text that the server had to do with, see Describe.
func (op *Operation) End(ctx context.Context, rows int64, err error, sql string) {
	if op.target == nil {
		return
	}
	in, opts := op.target.in, op.stmt.ok
	if err != nil {
		opts = op.stmt.failure(err)
	}
	in.duration.Record(ctx, op.end(err, sql).Seconds(), opts...)
	if rows >= 0 && err == nil {
		in.rows.Record(context.Background(), rows, opts...)
	}
	*op = Operation{}
}

// end ends the span and returns the duration: the span's own if it has one.
func (op *Operation) end(err error, sql string) time.Duration {
	if op.span == nil {
		return time.Since(op.start)
	}
	if err != nil {
		op.fail(err, sql)
	}
	op.span.End()
	if timed, ok := op.span.(interface{ EndTime() time.Time }); ok { // the SDK's
		return timed.EndTime().Sub(op.start)
	}
	return time.Since(op.start)
}

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
