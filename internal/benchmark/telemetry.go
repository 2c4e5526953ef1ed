package main

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// The levels of telemetry.
const (
	none       = "none"       // the peer as it is without
	noSDK      = "no SDK"     // instrumented, and nothing listens
	never      = "never"      // an SDK that records metrics and samples no span
	percent    = "1 %"        // one request in a hundred is sampled
	everything = "everything" // all are
)

var levels = []string{noSDK, never, percent, everything}

// telemetry is what a peer is given to report to; nil providers are OpenTelemetry's global ones, which do nothing.
type telemetry struct {
	level  string
	tracer trace.TracerProvider
	meter  metric.MeterProvider
}

// drop is where sampled spans end: the cost of exporting them is the same for all.
type drop struct{}

func (drop) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (drop) OnEnd(sdktrace.ReadOnlySpan)                     {}
func (drop) Shutdown(context.Context) error                  { return nil }
func (drop) ForceFlush(context.Context) error                { return nil }

func newTelemetry(level string) telemetry {
	roots := map[string]sdktrace.Sampler{
		never: sdktrace.NeverSample(), percent: sdktrace.TraceIDRatioBased(0.01), everything: sdktrace.AlwaysSample(),
	}
	root, ok := roots[level]
	if !ok {
		return telemetry{level: level}
	}
	return telemetry{
		level: level,
		// As OTEL_TRACES_SAMPLER's parentbased_…: a request is sampled as a whole.
		tracer: sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.ParentBased(root)), sdktrace.WithSpanProcessor(drop{})),
		meter:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())),
	}
}

// requestsKept is how many requests' spans a worker takes turns with, so that none is made while time is taken.
const requestsKept = 100

// requests makes the contexts of a worker's requests: each has a span, as a web server's has.
func (t telemetry) requests(ctx context.Context) []context.Context {
	tracer := trace.TracerProvider(otel.GetTracerProvider())
	if t.tracer != nil {
		tracer = t.tracer
	}
	all := make([]context.Context, requestsKept)
	for i := range all {
		all[i], _ = tracer.Tracer("benchmark").Start(trace.ContextWithRemoteSpanContext(ctx, t.caller(i)), "request")
	}
	return all
}

// caller is the remote parent of request i, whose sampling decides the request's: by a draw it would not be exactly one
// in a hundred.
func (t telemetry) caller(i int) trace.SpanContext {
	cfg := trace.SpanContextConfig{TraceID: trace.TraceID{1, byte(i)}, SpanID: trace.SpanID{1, byte(i)}}
	if t.level == everything || t.level == percent && i == 0 {
		cfg.TraceFlags = trace.FlagsSampled
	}
	return trace.NewSpanContext(cfg)
}
