package instruments

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/pgprod/pgprod/internal/hosts"
	"github.com/pgprod/pgprod/internal/pgtest/readings"
)

// seriesOfHosts are the series about hosts of a pool in this state, by name, host, and state or role.
func seriesOfHosts(t *testing.T, state PoolState) map[[3]string]float64 {
	t.Helper()
	reader := sdkmetric.NewManualReader()
	in, err := New(Options{MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)), PoolName: "pool"},
		func() PoolState { return state })
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, in.Close()) })
	found := map[[3]string]float64{}
	readings.Values(t, reader, func(name string, attrs attribute.Set, value float64) {
		host, ok := attrs.Value(hostNameKey)
		if !ok {
			return
		}
		state, _ := attrs.Value(hostStateKey)
		role, _ := attrs.Value(hostRoleKey)
		found[[3]string{name, host.AsString(), state.AsString() + role.AsString()}] = value
	})
	return found
}

func TestEachHostHasASeriesForEachStateAndRole(t *testing.T) {
	assert.Equal(t, map[[3]string]float64{
		{hostState, "a:5432", "up"}: 1, {hostState, "a:5432", "down"}: 0, {hostState, "a:5432", "unknown"}: 0,
		{hostRole, "a:5432", "primary"}: 1, {hostRole, "a:5432", "read-only"}: 0, {hostRole, "a:5432", "standby"}: 0,
		{hostRole, "a:5432", "deposed"}: 0, {hostRole, "b:5432", "deposed"}: 0,
		{hostLatency, "a:5432", ""}: 0.25, {hostConnections, "a:5432", ""}: 7,
		{hostState, "b:5432", "up"}: 0, {hostState, "b:5432", "down"}: 1, {hostState, "b:5432", "unknown"}: 0,
		{hostRole, "b:5432", "primary"}: 0, {hostRole, "b:5432", "read-only"}: 0, {hostRole, "b:5432", "standby"}: 0,
		{hostConnections, "b:5432", ""}: 0,
	}, seriesOfHosts(t, PoolState{Hosts: []HostState{
		{Name: "a:5432", State: hosts.Up, Role: hosts.Primary, Latency: 250 * time.Millisecond, Connections: 7},
		{Name: "b:5432", State: hosts.Down, Latency: time.Second},
	}}))
	assert.Empty(t, seriesOfHosts(t, PoolState{}))
}
