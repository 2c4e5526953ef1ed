package conventions

import (
	"context"
	"slices"
	"sync"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// A Record is what a program has reported through an SDK. It is safe for concurrent use.
type Record struct {
	Tracers *sdktrace.TracerProvider
	Meters  *sdkmetric.MeterProvider
	reader  *sdkmetric.ManualReader

	mu      sync.Mutex                       // guards what follows
	ended   []sdktrace.ReadOnlySpan          // in the order of their ends
	started map[trace.SpanID]map[string]bool // the names of the attributes that each span had at its creation
}

// NewRecord returns an empty record with the providers that fill it. Every span is sampled.
func NewRecord() *Record {
	r := &Record{reader: sdkmetric.NewManualReader(), started: map[trace.SpanID]map[string]bool{}}
	r.Tracers = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(processor{r}))
	r.Meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(r.reader))
	return r
}

// spans returns those that have ended, without those of the program itself.
func (r *Record) spans() (all []sdktrace.ReadOnlySpan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.ended {
		if s.InstrumentationScope().Name != Program {
			all = append(all, s)
		}
	}
	return all
}

// hadAtCreation reports whether a span had an attribute at its creation.
func (r *Record) hadAtCreation(s sdktrace.ReadOnlySpan, name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.started[s.SpanContext().SpanID()][name]
}

// metrics collects the metrics.
func (r *Record) metrics(ctx context.Context) ([]metricdata.ScopeMetrics, error) {
	var all metricdata.ResourceMetrics
	err := r.reader.Collect(ctx, &all)
	return slices.Clone(all.ScopeMetrics), err
}

// has reports whether there is a metric.
func (r *Record) has(name string) bool {
	scopes, err := r.metrics(context.Background())
	return err == nil && slices.ContainsFunc(scopes, func(in metricdata.ScopeMetrics) bool {
		return slices.ContainsFunc(in.Metrics, func(m metricdata.Metrics) bool { return m.Name == name })
	})
}

// Program is the scope of the spans that a program makes itself.
const Program = "program"

// processor fills a Record.
type processor struct{ *Record }

var _ sdktrace.SpanProcessor = processor{}

// OnStart implements sdktrace.SpanProcessor.
func (p processor) OnStart(_ context.Context, s sdktrace.ReadWriteSpan) {
	names := map[string]bool{}
	for _, a := range s.Attributes() {
		names[string(a.Key)] = true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.started[s.SpanContext().SpanID()] = names
}

// OnEnd implements sdktrace.SpanProcessor.
func (p processor) OnEnd(s sdktrace.ReadOnlySpan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = append(p.ended, s)
}

// Shutdown implements sdktrace.SpanProcessor.
func (processor) Shutdown(context.Context) error { return nil }

// ForceFlush implements sdktrace.SpanProcessor.
func (processor) ForceFlush(context.Context) error { return nil }
