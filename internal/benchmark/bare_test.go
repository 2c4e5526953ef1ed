package main

import (
	"context"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// ofStatement are the options of a statement's span and of its metrics, with the usual attributes.
func ofStatement() (start []trace.SpanStartOption, record []metric.RecordOption) {
	attrs := []attribute.KeyValue{
		attribute.String("db.system.name", "postgresql"), attribute.String("db.namespace", "shop"),
		attribute.String("server.address", "/tmp"), attribute.String("db.query.summary", "SELECT"),
		attribute.String("network.peer.address", "/tmp/.s.PGSQL.5432"), attribute.String("db.query.text", "select $1::int"),
	}
	start = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attrs...)}
	record = []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(attrs[:4]...))}
	return start, record
}

// BenchmarkBare is the least that a reported statement can cost: one span and one histogram record, with as many
// attributes as a statement's, made beforehand. What pgprod's telemetry adds is held against it.
func BenchmarkBare(b *testing.B) {
	start, record := ofStatement()
	for _, level := range []string{never, everything} {
		b.Run(level, func(b *testing.B) {
			t := newTelemetry(level)
			tracer := t.tracer.Tracer("benchmark")
			histogram, err := t.meter.Meter("benchmark").Float64Histogram("duration")
			if err != nil {
				b.Fatal(err)
			}
			request := t.requests(context.Background())[1]
			b.ReportAllocs()
			before := processTime()
			for b.Loop() {
				ctx, span := tracer.Start(request, "SELECT", start...)
				histogram.Record(ctx, 0.001, record...)
				span.End()
			}
			b.ReportMetric(float64(processTime()-before)/float64(max(b.N, 1)), "cpu-ns/op")
		})
	}
}

// BenchmarkReported is what the SDK takes for all that pgprod reports of a statement: the span, its duration, its rows, and
// the wait and the use of its connection. No driver that reports as much can add less.
func BenchmarkReported(b *testing.B) {
	start, statement := ofStatement()
	pool := []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(attribute.String("db.client.connection.pool.name", "shop")))}
	for _, level := range []string{never, everything} {
		b.Run(level, func(b *testing.B) {
			t := newTelemetry(level)
			tracer, meter := t.tracer.Tracer("benchmark"), t.meter.Meter("benchmark")
			histogram := func(name string) metric.Float64Histogram {
				h, err := meter.Float64Histogram(name)
				if err != nil {
					b.Fatal(err)
				}
				return h
			}
			duration, rows, wait, use := histogram("duration"), histogram("rows"), histogram("wait"), histogram("use")
			request, background := t.requests(context.Background())[1], context.Background()
			b.ReportAllocs()
			before := processTime()
			for b.Loop() {
				wait.Record(background, 0, pool...)
				if ctx := request; level == everything { // a child of a span that isn't sampled isn't made
					ctx, span := tracer.Start(ctx, "SELECT", start...)
					span.End()
					duration.Record(ctx, 0.001, statement...)
				} else {
					duration.Record(ctx, 0.001, statement...)
				}
				rows.Record(background, 1, statement...)
				use.Record(background, 0.001, pool...)
			}
			b.ReportMetric(float64(processTime()-before)/float64(max(b.N, 1)), "cpu-ns/op")
		})
	}
}

// BenchmarkHarness is what the workers themselves cost: it is contained in every figure.
func BenchmarkHarness(b *testing.B) {
	g := newGang(1)
	defer g.close()
	latency := newLatencies()
	nothing := func(context.Context, int, int) error { return nil }
	for b.Loop() {
		_, err := g.run(block{op: nothing, requests: [][]context.Context{{b.Context()}}, first: []int{0}}, time.Millisecond, latency)
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(max(latency.Count(), 1)), "ns/call")
}
