// Package dashboards tests the Grafana dashboard and the alerts of internal/dashboards by Prometheus's own parser and
// engine: pools on a real PostgreSQL run into each kind of trouble, Prometheus's parser reads what OpenTelemetry's exporter
// serves, and the expressions are evaluated on that.
//
//	programs_test.go    the programs, what is wrong with each, and which alerts they cause
//	forms_test.go       what a program reports, by scrapes and by OTLP, with each kind of histogram
//	history_test.go     what was reported, as Prometheus's engine sees it
//	dashboards_test.go  the tests
package dashboards

import (
	"os"
	"testing"

	"github.com/pgprod/pgprod/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
