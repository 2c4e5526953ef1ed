package main

import (
	"context"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// BenchmarkBare is the least that a reported statement can cost: one span and one histogram record, with as many
// attributes as a statement's, made beforehand. What pgprod's telemetry adds is held against it.
func BenchmarkBare(b *testing.B) {
	attrs := []attribute.KeyValue{
		attribute.String("db.system.name", "postgresql"), attribute.String("db.namespace", "shop"),
		attribute.String("server.address", "/tmp"), attribute.String("db.query.summary", "SELECT"),
		attribute.String("db.operation.name", "SELECT"), attribute.String("db.query.text", "select $1::int"),
	}
	start := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attrs...)}
	record := []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(attrs[:5]...))}
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

// BenchmarkHarness is what the workers themselves cost: it is contained in every figure.
func BenchmarkHarness(b *testing.B) {
	g := newGang(1)
	defer g.close()
	var latency histogram
	nothing := func(context.Context, int, int) error { return nil }
	for b.Loop() {
		_, err := g.run(block{op: nothing, requests: [][]context.Context{{b.Context()}}, first: []int{0}}, time.Millisecond, &latency)
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(max(latency.total, 1)), "ns/call")
}
