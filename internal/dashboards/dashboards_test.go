package dashboards_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/dashboards"
)

// dataSource is how everything on the dashboard refers to its data source: by a variable, never by a uid.
type dataSource struct{ Type, UID string }

var chosen = dataSource{Type: "prometheus", UID: "${datasource}"}

type dashboard struct {
	ID, UID       *string
	Title         string
	SchemaVersion int
	Templating    struct {
		List []struct {
			Name, Label, Type string
			DataSource        dataSource
		}
	}
	Panels []panel
}

type panel struct {
	ID                       int
	Type, Title, Description string
	DataSource               dataSource
	GridPos                  struct{ H, W, X, Y int }
	FieldConfig              struct {
		Defaults struct{ Unit string }
	}
	Targets []struct {
		RefID, Expr, LegendFormat string
		Exemplar                  bool
		DataSource                dataSource
	}
}

func grafana(t *testing.T) (d dashboard) {
	t.Helper()
	require.NoError(t, json.Unmarshal(dashboards.Grafana, &d))
	return d
}

// settings are the keys of all settings.
func settings() (keys []string) {
	for field := range reflect.TypeFor[pgprod.Options]().Fields() {
		key, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		keys = append(keys, key)
	}
	return keys
}

func assertNamesASetting(t *testing.T, text, of string) {
	t.Helper()
	assert.True(t, slices.ContainsFunc(settings(), func(key string) bool { return strings.Contains(text, key) }),
		"%s: the description names no setting", of)
}

func TestEachPanelHasATitleAUnitADescriptionThatNamesASettingAndQueries(t *testing.T) {
	titles, ids := map[string]bool{}, map[int]bool{}
	for _, p := range grafana(t).Panels {
		assert.NotEmpty(t, p.Title)
		assert.False(t, titles[p.Title], "two panels %s", p.Title)
		assert.False(t, ids[p.ID] || p.ID == 0, "%s: id %d", p.Title, p.ID)
		titles[p.Title], ids[p.ID] = true, true
		if p.Type == "row" {
			continue
		}
		assert.NotEmpty(t, p.FieldConfig.Defaults.Unit, p.Title)
		assertNamesASetting(t, p.Description, p.Title)
		assert.Equal(t, chosen, p.DataSource, p.Title)
		assert.NotEmpty(t, p.Targets, p.Title)
		refs := map[string]bool{}
		for _, q := range p.Targets {
			assert.NotEmpty(t, strings.TrimSpace(q.Expr), p.Title)
			assert.NotEmpty(t, q.LegendFormat, p.Title)
			assert.Equal(t, chosen, q.DataSource, p.Title)
			assert.False(t, refs[q.RefID] || q.RefID == "", "%s: refId %q", p.Title, q.RefID)
			refs[q.RefID] = true
		}
	}
}

func TestPanelsOfDurationsLeadToTraces(t *testing.T) {
	some := false
	for _, p := range grafana(t).Panels {
		for _, q := range p.Targets {
			durations := p.Type == "timeseries" && p.FieldConfig.Defaults.Unit == "s" &&
				p.Title != "Use time, p99" && // it is recorded at the connection's return, which belongs to no span
				p.Title != "Latency by host" // a gauge
			some = some || durations
			assert.Equal(t, durations, q.Exemplar, "%s: exemplars", p.Title)
		}
	}
	assert.True(t, some)
}

func TestNoPanelLiesOnAnotherOrOutsideTheGrid(t *testing.T) {
	panels := grafana(t).Panels
	for i, p := range panels {
		a := p.GridPos
		assert.True(t, a.W > 0 && a.H > 0 && a.X >= 0 && a.X+a.W <= 24, "%s: %+v", p.Title, a)
		for _, other := range panels[:i] {
			b := other.GridPos
			apart := a.X+a.W <= b.X || b.X+b.W <= a.X || a.Y+a.H <= b.Y || b.Y+b.H <= a.Y
			assert.True(t, apart, "%s lies on %s", p.Title, other.Title)
		}
	}
}

func TestTheDashboardKeepsItsAddressAndGetsItsDataSourceAtTheImport(t *testing.T) {
	d := grafana(t)
	assert.Nil(t, d.ID, "it is Grafana's")
	assert.Equal(t, "pgprod-postgresql", *d.UID, "links to it, and its next version, find it by that")
	assert.NotEmpty(t, d.Title)
	assert.GreaterOrEqual(t, d.SchemaVersion, 39, "Grafana 11")
	var names []string
	for _, v := range d.Templating.List {
		names = append(names, v.Name)
		if v.Type == "query" {
			assert.Equal(t, chosen, v.DataSource, v.Name)
		}
	}
	assert.Equal(t, []string{"datasource", "job", "instance", "pool", "database"}, names)
	assert.Equal(t, bytes.Count(dashboards.Grafana, []byte(`"uid":`)),
		bytes.Count(dashboards.Grafana, []byte(`"uid": "${datasource}"`))+1, "a data source is named by its uid")
}

func TestTheDashboardAnswersTheQuestionsInThisOrder(t *testing.T) {
	var rows []string
	for _, p := range grafana(t).Panels {
		if p.Type == "row" {
			rows = append(rows, p.Title)
		}
	}
	assert.Equal(t, []string{"Is it us or the database?", "Fleet", "Hosts", "Pool", "Statements"}, rows)
}

func TestEachAlertSaysWhatItMeansHowBadItIsAndWhichSettingHelps(t *testing.T) {
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Record, Alert, Expr string
				For                 string
				Labels, Annotations map[string]string
			}
		}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(dashboards.Alerts))
	decoder.KnownFields(true)
	require.NoError(t, decoder.Decode(&file))
	require.Len(t, file.Groups, 1)
	seen := map[string]bool{}
	for _, r := range file.Groups[0].Rules {
		if r.Record != "" {
			continue
		}
		assert.True(t, strings.HasPrefix(r.Alert, "Pgprod"), r.Alert)
		assert.False(t, seen[r.Alert], "two alerts %s", r.Alert)
		seen[r.Alert] = true
		assert.NotEmpty(t, strings.TrimSpace(r.Expr), r.Alert)
		assert.Contains(t, []string{"critical", "warning", "info"}, r.Labels["severity"], r.Alert)
		assert.Regexp(t, `{{ \$labels\.(instance|server_address) }}`, r.Annotations["summary"], r.Alert)
		assert.Regexp(t, `\b(db_client|pgprod)_\w+`, r.Annotations["description"], "%s: the description names no metric", r.Alert)
		assertNamesASetting(t, r.Annotations["description"], r.Alert)
	}
	assert.NotEmpty(t, seen)
}
