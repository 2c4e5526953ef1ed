package dashboards

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/dashboards"
)

// strictly reads a dashboard by the schemas that Grafana publishes of its dashboards, the panels' options and Prometheus's
// queries: it knows each field, and each value is one that the field may have.
func strictly(text []byte) error {
	//lint:ignore SA1019 It is the form that Grafana 11 reads, and later ones as well.
	var fields, values dashboard.Dashboard
	if err := fields.UnmarshalJSONStrict(text); err.Error() != "" { // a list, which isn't nil if it is empty
		return err
	}
	return errors.Join(json.Unmarshal(text, &values), values.Validate())
}

func TestTheDashboardIsWhatGrafanasOwnSchemasDescribe(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	assert.NoError(t, strictly(dashboards.Grafana))
	for what, spoil := range map[string]func(panel map[string]any){
		"a field that no panel has":        func(p map[string]any) { p["titel"] = "x" },
		"an option that timeseries hasn't": func(p map[string]any) { p["options"].(map[string]any)["legnd"] = true },
		"a style of lines that isn't one":  func(p map[string]any) { style(p)["drawStyle"] = 3 },
		"a query without an expression":    func(p map[string]any) { delete(query0(p), "expr") },
		"a query with an unknown field":    func(p map[string]any) { query0(p)["exemplars"] = true },
	} {
		assert.Error(t, strictly(spoilt(t, spoil)), what)
	}
}

func style(panel map[string]any) map[string]any {
	return panel["fieldConfig"].(map[string]any)["defaults"].(map[string]any)["custom"].(map[string]any)
}

func query0(panel map[string]any) map[string]any { return panel["targets"].([]any)[0].(map[string]any) }

// spoilt is the dashboard with its first panel of lines spoilt.
func spoilt(t *testing.T, spoil func(panel map[string]any)) []byte {
	t.Helper()
	var d map[string]any
	require.NoError(t, json.Unmarshal(dashboards.Grafana, &d))
	for _, p := range d["panels"].([]any) {
		if panel := p.(map[string]any); panel["type"] == "timeseries" {
			spoil(panel)
			break
		}
	}
	text, err := json.Marshal(d)
	require.NoError(t, err)
	return text
}
