package instruments

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace/noop"
)

// The tests of this file are about what provider.go relies on and OpenTelemetry doesn't promise. No test of this package sets
// the global provider.

func TestOTelStillKeepsItsGlobalStandInInThisPackage(t *testing.T) {
	t.Parallel()
	assert.Equal(t, globalPackage, packageOf(otel.GetTracerProvider()))
	assert.True(t, recordsNothing(otel.GetTracerProvider()))
}

func TestOTelStillKeepsItsNoopProviderInThisPackage(t *testing.T) {
	t.Parallel()
	assert.Equal(t, noopPackage, packageOf(noop.NewTracerProvider()))
	assert.True(t, recordsNothing(&noop.TracerProvider{}))
}

// TestOTelStillAllocatesForASpanOfItsStandIn is why the stand-ins are looked for: should it fail, provider.go can go.
func TestOTelStillAllocatesForASpanOfItsStandIn(t *testing.T) {
	tracer := otel.GetTracerProvider().Tracer(Scope)
	assert.NotZero(t, testing.AllocsPerRun(100, func() {
		_, span := tracer.Start(t.Context(), "name")
		span.End()
	}))
}
