package instruments

import (
	"regexp"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/pgprod/pgprod/internal/docs"
)

func TestTheVersionIsThatOfTheModuleInTheProgram(t *testing.T) {
	module := func(version string) *debug.Module { return &debug.Module{Path: Scope, Version: version} }
	replaced := module("v0.0.0")
	replaced.Replace = &debug.Module{Path: "../pgprod"}
	forked := module("v1.2.3")
	forked.Replace = &debug.Module{Path: "example.com/fork", Version: "v1.2.4"}
	for _, c := range []struct {
		info *debug.BuildInfo
		want string
	}{
		{nil, lastRelease},
		{&debug.BuildInfo{}, lastRelease},
		{&debug.BuildInfo{Main: *module("(devel)")}, lastRelease},
		{&debug.BuildInfo{Main: *module("v0.3.0")}, "0.3.0"},
		{&debug.BuildInfo{Deps: []*debug.Module{{Path: "other", Version: "v9.9.9"}, module("v1.2.3")}}, "1.2.3"},
		{&debug.BuildInfo{Deps: []*debug.Module{replaced}}, lastRelease},
		{&debug.BuildInfo{Deps: []*debug.Module{forked}}, "1.2.4"},
	} {
		assert.Equal(t, c.want, versionIn(func() (*debug.BuildInfo, bool) { return c.info, c.info != nil }))
	}
}

func TestTheFallbackIsTheNewestReleaseOfTheChangelog(t *testing.T) {
	changelog, err := docs.Read("CHANGELOG.md")
	require.NoError(t, err)
	newest := regexp.MustCompile(`(?m)^## \[(\d[^]]*)\]`).FindStringSubmatch(changelog)
	require.NotNil(t, newest)
	assert.Equal(t, newest[1], lastRelease)
}

func TestTheScopeOfSpansAndMetricsHasAVersionAndTheSchema(t *testing.T) {
	reader, spans := sdkmetric.NewManualReader(), tracetest.NewSpanRecorder()
	in, err := New(Options{PoolName: "p", MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)),
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))}, func() PoolState { return PoolState{} })
	require.NoError(t, err)
	_, op := in.Target(nil).Begin(t.Context(), "select 1")
	op.End(t.Context(), 1, nil, "")
	var rm metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &rm))
	assert.NotEmpty(t, Version)
	assert.Equal(t, Version, rm.ScopeMetrics[0].Scope.Version)
	assert.Equal(t, SchemaURL, rm.ScopeMetrics[0].Scope.SchemaURL)
	assert.Equal(t, Version, spans.Ended()[0].InstrumentationScope().Version)
	assert.Equal(t, SchemaURL, spans.Ended()[0].InstrumentationScope().SchemaURL)
}
