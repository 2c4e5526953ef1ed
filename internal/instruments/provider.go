package instruments

import (
	"reflect"
	"sync/atomic"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"
)

// A tracerSource finds the tracer: that of the provider which the application gave, else that of the global provider. The
// application may set the global provider at any time, before or after it opens a pool.
//
// Until it does a span must not allocate. otel's own stand-in for a provider allocates three times for each span, so it is
// recognised, and no span is begun at all. A tracerSource is safe for concurrent use once setProvider has returned.
type tracerSource struct {
	given       trace.TracerProvider   // the provider that the application gave; nil: the global one counts
	givenTracer trace.Tracer           // the given provider's; nil: it records nothing
	global      atomic.Pointer[global] // the global provider at the last call of tracer, with its tracer
}

// global is a global provider with its tracer.
type global struct {
	provider trace.TracerProvider
	tracer   trace.Tracer // nil: the provider records nothing
}

// setProvider sets the provider that the application gave. nil means none, and so does the stand-in that otel returns as the
// global provider before one is set: it stands for whichever is set later.
func (s *tracerSource) setProvider(given trace.TracerProvider) {
	if given == nil || packageOf(given) == globalPackage {
		return
	}
	s.given = given
	if !recordsNothing(given) {
		s.givenTracer = tracerOf(given)
	}
}

// isOurs reports whether a span is of the provider from which the tracer is.
func (s *tracerSource) isOurs(span trace.Span) bool {
	ours := s.given
	if ours == nil {
		ours = otel.GetTracerProvider()
	}
	return reflect.TypeOf(ours).Comparable() && span.TracerProvider() == ours
}

// tracer returns the tracer, or nil if its provider records nothing.
func (s *tracerSource) tracer() trace.Tracer {
	if s.given != nil {
		return s.givenTracer
	}
	now := otel.GetTracerProvider()
	if last := s.global.Load(); last != nil && last.provider == now {
		return last.tracer
	}
	return s.setGlobal(now)
}

// setGlobal keeps a global provider that is new, and returns its tracer. A provider whose type can't be compared isn't kept,
// since comparing it would panic: its tracer is made anew each time.
func (s *tracerSource) setGlobal(now trace.TracerProvider) trace.Tracer {
	found := &global{provider: now}
	if !recordsNothing(now) {
		found.tracer = tracerOf(now)
	}
	if reflect.TypeOf(now).Comparable() {
		s.global.Store(found)
	}
	return found.tracer
}

// The packages of otel's stand-ins for a provider: before one is set, and for one that records nothing.
const (
	globalPackage = "go.opentelemetry.io/otel/internal/global"
	noopPackage   = "go.opentelemetry.io/otel/trace/noop"
)

// recordsNothing reports whether a provider is one of otel's stand-ins. Their types aren't exported, so they are recognised
// by the package that declares them.
func recordsNothing(p trace.TracerProvider) bool {
	from := packageOf(p)
	return from == globalPackage || from == noopPackage
}

// packageOf is the path of the package that declares a provider's type.
func packageOf(p trace.TracerProvider) string {
	t := reflect.TypeOf(p)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.PkgPath()
}
