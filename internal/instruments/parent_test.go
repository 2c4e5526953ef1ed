package instruments

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// asked is a sampler that counts how often it is asked.
type asked struct {
	sdktrace.Sampler
	times int
}

func (a *asked) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	a.times++
	return a.Sampler.ShouldSample(p)
}

func TestASpanThatWasNotSampledGetsNoChildFromTheSameProvider(t *testing.T) {
	never := &asked{Sampler: sdktrace.NeverSample()}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(never))
	elsewhere := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
	always := &asked{Sampler: sdktrace.AlwaysSample()}
	recording := sdktrace.NewTracerProvider(sdktrace.WithSampler(always))
	in := func(p trace.TracerProvider) context.Context {
		ctx, _ := p.Tracer("test").Start(context.Background(), "request")
		return ctx
	}
	ended := func(p trace.TracerProvider) context.Context {
		ctx := in(p)
		trace.SpanFromContext(ctx).End()
		return ctx
	}
	remote := trace.ContextWithRemoteSpanContext(context.Background(), trace.SpanContextFromContext(in(provider)))
	for _, c := range []struct {
		name     string
		provider trace.TracerProvider
		sampler  *asked
		ctx      context.Context
		asks     int
	}{
		{"no parent", provider, never, context.Background(), 1},
		{"a parent of its own that was not sampled", provider, never, in(provider), 0},
		{"a parent of its own that was sampled", recording, always, in(recording), 1},
		{"a parent of its own that was sampled and has ended", recording, always, ended(recording), 1},
		{"a parent of another provider", recording, always, in(elsewhere), 1},
		{"a parent of another process", provider, never, remote, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			i, err := New(Options{TracerProvider: c.provider, PoolName: t.Name()}, func() PoolState { return PoolState{} })
			require.NoError(t, err)
			before := c.sampler.times
			ctx, op := i.Target(nil).Begin(c.ctx, "select 1")
			op.End(ctx, 1, nil, "")
			assert.Equal(t, c.asks, c.sampler.times-before)
		})
	}
}
