// Package conventions compares what a program reports to OpenTelemetry with the conventions for PostgreSQL clients: the names
// that the npm package of the conventions has, and what their pages say of kinds, units, buckets and requirement levels. It
// is used on pgprod and, by the same rules, on other libraries.
//
//	names.go     the names, from the npm package
//	tables.go    what the package doesn't have, from the conventions' model
//	record.go    what a program has reported
//	spans.go     the rules for spans
//	metrics.go   the rules for metrics
//	registry.go  pgprod's own names, from internal/docs/registry.yaml
package conventions
