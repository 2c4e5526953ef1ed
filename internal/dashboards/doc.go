// Package dashboards has a Grafana dashboard and Prometheus alerts for the metrics of pgprod. Both work as they are, for any
// number of programs, instances and pools.
//
//   - grafana.json: in Grafana (11 or later) choose Dashboards → New → Import, and upload it. Nothing has to be filled in:
//     the data source, job, instance, pool and database are variables at the top of the dashboard. Where dashboards are
//     provisioned, put the file into the provider's folder.
//   - alerts.yaml: write rule_files: [alerts.yaml] in prometheus.yml, run promtool check rules alerts.yaml, and reload. For
//     the Prometheus operator, its groups are the spec of a PrometheusRule.
//
// The metrics must come to Prometheus through OpenTelemetry's Prometheus exporter, or by OTLP with Prometheus's default
// names. The tests in this package check the form of both files; those in internal/integration/dashboards evaluate each
// expression with Prometheus's own engine, on the metrics that a pool emits.
package dashboards

import _ "embed"

// Grafana is the dashboard, grafana.json.
//
//go:embed grafana.json
var Grafana []byte

// Alerts are the alerting rules for Prometheus, alerts.yaml.
//
//go:embed alerts.yaml
var Alerts []byte
