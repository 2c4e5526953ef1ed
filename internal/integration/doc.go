// Package integration tests what arrives: an OpenTelemetry Collector runs in the test process, and the driver's spans and
// metrics reach it through the OTLP exporters; another test reads them as Prometheus does. TestEveryOutcomeIsKnown compares
// what pgprod and other clients tell of the same faults. It is a module of its own, so that nobody who uses the driver downloads
// a collector, or another client.
//
// The collector is v0.162.0: from v0.163.0 on it needs internal/statusutil as a module, which not every module proxy has.
package integration
