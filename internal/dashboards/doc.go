// Package dashboards holds what whoever is on call imports: a Grafana dashboard and Prometheus alerts on the metrics of
// pgprod. Both work as they are, for any number of programs, instances and pools.
//
//   - grafana.json: in Grafana (11 or later) Dashboards → New → Import, and upload it. It asks for nothing: the data
//     source, and job, instance, pool and database are variables at its top. Where dashboards are provisioned, put the
//     file into the provider's folder.
//   - alerts.yaml: in prometheus.yml rule_files: [alerts.yaml], then promtool check rules alerts.yaml and a reload. For
//     the Prometheus operator its groups are the spec of a PrometheusRule.
//
// Metrics are to reach Prometheus by OpenTelemetry's Prometheus exporter, or by OTLP with its default names. The tests
// here look at the form; those in internal/integration/dashboards run each expression by Prometheus's own engine, on what
// a pool really emits.
package dashboards

import _ "embed"

// Grafana is the dashboard.
//
//go:embed grafana.json
var Grafana []byte

// Alerts are Prometheus's alerting rules.
//
//go:embed alerts.yaml
var Alerts []byte
