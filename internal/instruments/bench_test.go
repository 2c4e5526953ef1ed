package instruments

import (
	"testing"

	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// BenchmarkStatement is what telemetry adds to a statement that succeeds: its span, its duration and its rows. With two nodes
// the statements go to either by turns.
func BenchmarkStatement(b *testing.B) {
	for _, c := range []struct {
		name    string
		sampler sdktrace.Sampler
		nodes   []string
	}{
		{"no span", sdktrace.NeverSample(), []string{"10.0.0.1"}},
		{"span", sdktrace.AlwaysSample(), []string{"10.0.0.1"}},
		{"span, two nodes", sdktrace.AlwaysSample(), []string{"10.0.0.1", "10.0.0.2"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			in, err := New(Options{PoolName: "p", Server: oneHost("db", 6432, "shop"),
				TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSampler(c.sampler)),
				MeterProvider:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))}, func() PoolState { return PoolState{} })
			require.NoError(b, err)
			var targets []*Target
			for _, node := range c.nodes {
				targets = append(targets, at(in, node))
			}
			const sql = "select id, name from items where id = $1"
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				ctx, op := targets[n%len(targets)].Begin(b.Context(), sql)
				op.End(ctx, 1, nil, sql)
			}
		})
	}
}
