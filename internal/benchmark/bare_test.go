package benchmark

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// BenchmarkBare is the least that a reported statement can cost: one span and one histogram record, with as many
// attributes as a statement's, made beforehand. What pgprod adds in BenchmarkTelemetry is held against it.
func BenchmarkBare(b *testing.B) {
	attrs := []attribute.KeyValue{
		attribute.String("db.system.name", "postgresql"), attribute.String("db.namespace", "shop"),
		attribute.String("server.address", "/tmp"), attribute.String("db.query.summary", "SELECT"),
		attribute.String("db.operation.name", "SELECT"), attribute.String("db.query.text", "select $1::int"),
	}
	start := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attrs...)}
	record := []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(attrs[:5]...))}
	for _, t := range telemetries() {
		b.Run(t.name, func(b *testing.B) {
			tracer := t.tracer.Tracer("benchmark")
			histogram, err := t.meter.Meter("benchmark").Float64Histogram("duration")
			if err != nil {
				b.Fatal(err)
			}
			parent, span := tracer.Start(context.Background(), "request")
			defer span.End()
			b.ReportAllocs()
			before := cpu(b)
			for b.Loop() {
				ctx, span := tracer.Start(parent, "SELECT", start...)
				histogram.Record(ctx, 0.001, record...)
				span.End()
			}
			b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}
