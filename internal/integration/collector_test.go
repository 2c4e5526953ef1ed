package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry"

	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/loopback"
)

// patience is how long a test waits for what must happen at some time.
const patience = 20 * time.Second

// A collector is an OpenTelemetry Collector on loopback that keeps what it is sent. Its pipelines are synchronous: when
// an OTLP exporter's call has returned, the data are here.
type collector struct {
	endpoint string // of OTLP over gRPC
	traces   consumertest.TracesSink
	metrics  consumertest.MetricsSink
}

// startCollector starts a collector that the end of the test stops.
func startCollector(t *testing.T) *collector {
	t.Helper()
	var err error
	for range 5 { // somebody else may take the free port first
		c := &collector{}
		if err = c.start(t); err == nil {
			return c
		}
	}
	require.NoError(t, err)
	return nil
}

func (c *collector) start(t *testing.T) error {
	port, err := loopback.FreePort()
	if err != nil {
		return err
	}
	c.endpoint = fmt.Sprintf("127.0.0.1:%d", port)
	col, err := otelcol.NewCollector(otelcol.CollectorSettings{
		BuildInfo:               component.NewDefaultBuildInfo(),
		Factories:               c.factories,
		DisableGracefulShutdown: true,
		SkipSettingGRPCLogger:   true,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{
			URIs:              []string{"yaml:" + c.config()},
			ProviderFactories: []confmap.ProviderFactory{yamlprovider.NewFactory()},
		}},
	})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- col.Run(context.Background()) }() // ended by Shutdown
	pgtest.Eventually(t, patience, func() bool {
		return col.GetState() == otelcol.StateRunning || len(ended) > 0
	}, "the collector doesn't start")
	if len(ended) > 0 {
		return <-ended
	}
	t.Cleanup(func() {
		col.Shutdown()
		require.NoError(t, <-ended)
	})
	return nil
}

func (c *collector) config() string {
	return fmt.Sprintf(`
receivers: {otlp: {protocols: {grpc: {endpoint: %q}}}}
exporters: {memory: {}}
service:
  pipelines:
    traces: {receivers: [otlp], exporters: [memory]}
    metrics: {receivers: [otlp], exporters: [memory]}
`, c.endpoint)
}

// factories are all that this collector is made of.
func (c *collector) factories() (f otelcol.Factories, err error) {
	none := func() component.Config { return &struct{}{} }
	if f.Receivers, err = otelcol.MakeFactoryMap[receiver.Factory](otlpreceiver.NewFactory()); err != nil {
		return f, err
	}
	f.Telemetry = telemetry.NewFactory(none) // the collector's own: none
	f.Exporters, err = otelcol.MakeFactoryMap(exporter.NewFactory(component.MustNewType("memory"), none,
		exporter.WithTraces(c.keepTraces, component.StabilityLevelStable),
		exporter.WithMetrics(c.keepMetrics, component.StabilityLevelStable)))
	return f, err
}

func (c *collector) keepTraces(context.Context, exporter.Settings, component.Config) (exporter.Traces, error) {
	return struct {
		component.StartFunc
		component.ShutdownFunc
		*consumertest.TracesSink
	}{TracesSink: &c.traces}, nil
}

func (c *collector) keepMetrics(context.Context, exporter.Settings, component.Config) (exporter.Metrics, error) {
	return struct {
		component.StartFunc
		component.ShutdownFunc
		*consumertest.MetricsSink
	}{MetricsSink: &c.metrics}, nil
}
