package instruments

import (
	"errors"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/pgprod/pgprod/internal/hosts"
)

// A HostState is what is known of one of a pool's hosts.
type HostState struct {
	Name        string // host:port as configured
	State       hosts.State
	Role        hosts.Role
	Latency     time.Duration // of its last answer; 0: not known
	Connections int64         // the pool's to it
}

// The states and roles of hosts.
var (
	hostStates = []hosts.State{hosts.Up, hosts.Down, hosts.Unknown}
	hostRoles  = []hosts.Role{hosts.Primary, hosts.ReadOnly, hosts.Standby, hosts.Deposed}
)

// observedHosts are the instruments of hosts. A pool with a single host has none of their series, since its own say the same.
type observedHosts struct {
	state, role metric.Int64ObservableGauge
	latency     metric.Float64ObservableGauge
	connections metric.Int64ObservableUpDownCounter
}

// makeInstruments makes them.
func (o *observedHosts) makeInstruments(m metric.Meter) error {
	var e1, e2, e3, e4 error
	o.state, e1 = m.Int64ObservableGauge(hostState, metric.WithUnit("{state}"),
		metric.WithDescription("1 for the state that a host is in, 0 for the others."))
	o.role, e2 = m.Int64ObservableGauge(hostRole, metric.WithUnit("{role}"),
		metric.WithDescription("1 for the role that a host has last said it has, 0 for the others."))
	o.latency, e3 = m.Float64ObservableGauge(hostLatency, metric.WithUnit("s"),
		metric.WithDescription("How long the last answer of a host that is up has taken."))
	o.connections, e4 = m.Int64ObservableUpDownCounter(hostConnections, metric.WithUnit("{connection}"),
		metric.WithDescription("Connections of the pool to a host."))
	return errors.Join(e1, e2, e3, e4)
}

// reportHosts tells a collection what is known of each host.
func (o *observed) reportHosts(to metric.Observer, all []HostState) {
	for _, h := range all {
		name := hostNameKey.String(h.Name)
		for _, state := range hostStates {
			to.ObserveInt64(o.hosts.state, oneIf(state == h.State), o.with(name, hostStateKey.String(state.String())))
		}
		for _, role := range hostRoles {
			to.ObserveInt64(o.hosts.role, oneIf(role == h.Role), o.with(name, hostRoleKey.String(role.String())))
		}
		if h.Latency > 0 && h.State == hosts.Up {
			to.ObserveFloat64(o.hosts.latency, h.Latency.Seconds(), o.with(name))
		}
		to.ObserveInt64(o.hosts.connections, h.Connections, o.with(name))
	}
}
