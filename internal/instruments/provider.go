package instruments

import (
	"reflect"
	"sync/atomic"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// A provider finds the tracer. The application may set the global provider at any time, before or after it opens a
// pool, and until it does a span must allocate nothing: the global tracer without an SDK makes three allocations of each.
type provider struct {
	given bool                 // the application gave a provider, so the global one is not looked at
	from  trace.TracerProvider // that one
	fixed trace.Tracer         // that provider's; nil: it records nothing
	seen  atomic.Pointer[global]
}

// global is a global provider that was found.
type global struct {
	provider trace.TracerProvider
	tracer   trace.Tracer // nil: it records nothing
}

// use makes p the provider. The global stand-in, which otel gives before a provider is set, counts as none given.
func (p *provider) use(given trace.TracerProvider) {
	if given == nil || packageOf(given) == globalPackage {
		return
	}
	p.given, p.from = true, given
	if !recordsNothing(given) {
		p.fixed = tracerOf(given)
	}
}

func tracerOf(p trace.TracerProvider) trace.Tracer {
	return p.Tracer(Scope, trace.WithSchemaURL(semconv.SchemaURL))
}

// made reports whether a span is this provider's.
func (p *provider) made(span trace.Span) bool {
	from := p.from
	if !p.given {
		from = otel.GetTracerProvider()
	}
	return reflect.TypeOf(from).Comparable() && span.TracerProvider() == from
}

// tracer returns nil where no span is recorded.
func (p *provider) tracer() trace.Tracer {
	if p.given {
		return p.fixed
	}
	now := otel.GetTracerProvider()
	if seen := p.seen.Load(); seen != nil && seen.provider == now {
		return seen.tracer
	}
	return p.look(now)
}

func (p *provider) look(now trace.TracerProvider) trace.Tracer {
	found := &global{provider: now}
	if !recordsNothing(now) {
		found.tracer = tracerOf(now)
	}
	if reflect.TypeOf(now).Comparable() {
		p.seen.Store(found)
	}
	return found.tracer
}

const (
	globalPackage = "go.opentelemetry.io/otel/internal/global"
	noopPackage   = "go.opentelemetry.io/otel/trace/noop"
)

// recordsNothing tells otel's own stand-ins by where their types come from, which it keeps to itself.
func recordsNothing(p trace.TracerProvider) bool {
	from := packageOf(p)
	return from == globalPackage || from == noopPackage
}

func packageOf(p trace.TracerProvider) string {
	t := reflect.TypeOf(p)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.PkgPath()
}
