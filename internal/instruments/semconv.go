package instruments

import (
	"cmp"
	"runtime/debug"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// Scope is the name of the instrumentation scope of all spans and metrics.
const Scope = "github.com/pgprod/pgprod"

// SchemaURL says which version of the conventions spans and metrics follow.
const SchemaURL = "https://opentelemetry.io/schemas/1.45.0"

// connectionLimit is db.client.connection.limit, which the conventions have since 1.45 in place of db.client.connection.max.
// The newest Go package of the conventions is that of 1.43.
var connectionLimit = struct{ name, unit, description string }{
	"db.client.connection.limit", "{connection}", "The maximum number of open connections allowed.",
}

// The names of what pgprod reports beyond the conventions. registry.yaml describes them.
const (
	connectionFailures  = "pgprod.connection.failures"
	connectionOverflows = "pgprod.connection.overflows"
	connectionsClosed   = "pgprod.connection.closed"
	connectionLeaks     = "pgprod.connection.leaks"
	commitsUnknown      = "pgprod.commit.unknown"
	transactionRetries  = "pgprod.transaction.retries"
	serverLimit         = "pgprod.server.connection.limit"
	healthState         = "pgprod.health.state"
	hostState           = "pgprod.host.state"
	hostRole            = "pgprod.host.role"
	hostLatency         = "pgprod.host.latency"
	hostConnections     = "pgprod.host.connection.count"

	hostNameKey           = attribute.Key("pgprod.host.name")
	hostStateKey          = attribute.Key("pgprod.host.state")
	hostRoleKey           = attribute.Key("pgprod.host.role")
	reasonKey             = attribute.Key("pgprod.reason")
	stateKey              = attribute.Key("pgprod.state")
	waitDurationKey       = attribute.Key("pgprod.wait.duration")
	serverDurationKey     = attribute.Key("pgprod.server.duration")
	readDurationKey       = attribute.Key("pgprod.read.duration")
	beginsTransactionKey  = attribute.Key("pgprod.begins_transaction")
	transactionAttemptKey = attribute.Key("pgprod.transaction.attempt")
	retryReasonKey        = attribute.Key("pgprod.transaction.retry_reason")
	slowCauseKey          = attribute.Key("pgprod.slow.cause")
	slowWaitEventKey      = attribute.Key("pgprod.slow.wait_event")
	slowBlockerPIDKey     = attribute.Key("pgprod.slow.blocker_pid")
	queryIDKey            = attribute.Key("pgprod.query_id")
)

// lastRelease is the version of the scope if the program doesn't say which one it is built with: in pgprod's own tests, and
// if go.mod replaces the module by a directory.
const lastRelease = "0.1.0"

// Version is the version of the instrumentation scope.
var Version = versionIn(debug.ReadBuildInfo)

// versionIn returns the version of this module in a program.
func versionIn(read func() (*debug.BuildInfo, bool)) string {
	info, ok := read()
	if !ok {
		return lastRelease
	}
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		if m.Path != Scope {
			continue
		}
		if m.Replace != nil {
			m = m.Replace
		}
		version := strings.TrimPrefix(m.Version, "v")
		if version == "(devel)" {
			version = ""
		}
		return cmp.Or(version, lastRelease)
	}
	return lastRelease
}

// meterOf returns pgprod's meter of a provider.
func meterOf(p metric.MeterProvider) metric.Meter {
	return p.Meter(Scope, metric.WithInstrumentationVersion(Version), metric.WithSchemaURL(SchemaURL))
}

// tracerOf returns pgprod's tracer of a provider.
func tracerOf(p trace.TracerProvider) trace.Tracer {
	return p.Tracer(Scope, trace.WithInstrumentationVersion(Version), trace.WithSchemaURL(SchemaURL))
}
