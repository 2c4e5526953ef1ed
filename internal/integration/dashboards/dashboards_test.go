package dashboards

import (
	"encoding/json"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/dashboards"
)

// rules are those of alerts.yaml, as Prometheus reads them: it checks the expressions and the templates. records are the
// ones that others are made of.
func rules(t *testing.T) (alerts, records []rulefmt.Rule) {
	t.Helper()
	groups, errs := rulefmt.Parse(dashboards.Alerts, false, model.LegacyValidation, parser.NewParser(parser.Options{}), slog.Default())
	require.Empty(t, errs)
	require.Len(t, groups.Groups, 1)
	for _, r := range groups.Groups[0].Rules {
		if r.Record != "" {
			records = append(records, r)
		} else {
			alerts = append(alerts, r)
		}
	}
	return alerts, records
}

// query is an expression of the dashboard and the labels that its legend names.
type query struct{ panel, expr, legend string }

// unset puts values for the dashboard's variables.
var unset = strings.NewReplacer("$__rate_interval", "5m", "$job", ".*", "$instance", ".*", "$pool", ".*", "$database", ".*")

// queries are those of the panels and the variables.
func queries(t *testing.T) (all []query) {
	t.Helper()
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
		Templating struct {
			List []struct{ Name, Type, Definition string }
		}
	}
	require.NoError(t, json.Unmarshal(dashboards.Grafana, &d))
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			all = append(all, query{p.Title, unset.Replace(q.Expr), q.LegendFormat})
		}
	}
	ofVariable := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)
	for _, v := range d.Templating.List {
		if v.Type == "query" {
			found := ofVariable.FindStringSubmatch(v.Definition)
			require.Len(t, found, 3, "%s: %s", v.Name, v.Definition)
			all = append(all, query{"$" + v.Name, unset.Replace(found[1]), "{{" + found[2] + "}}"})
		}
	}
	require.NotEmpty(t, all)
	return all
}

// assertKnown checks that each selector of an expression selects something, and that what it groups and matches by are
// labels of what it is about.
func (h *history) assertKnown(t *testing.T, expr, of string) {
	t.Helper()
	tree, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	require.NoError(t, err, of)
	parser.Inspect(tree, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			assert.NotEmpty(t, h.matching(n.LabelMatchers), "%s: nothing is %s", of, n)
			h.assertLabels(t, n, namesIn(n.LabelMatchers), of)
		case *parser.AggregateExpr:
			h.assertLabels(t, n, n.Grouping, of)
		case *parser.BinaryExpr:
			if n.VectorMatching != nil && n.VectorMatching.On {
				h.assertLabels(t, n, n.VectorMatching.MatchingLabels, of)
			} else if n.VectorMatching != nil {
				h.assertIgnored(t, n, n.VectorMatching.MatchingLabels, of)
			}
		}
		return nil
	})
}

func namesIn(matchers []*labels.Matcher) (names []string) {
	for _, m := range matchers {
		names = append(names, m.Name)
	}
	return names
}

// assertLabels checks that each of the metrics in an expression has these labels, whatever its selectors say of them.
func (h *history) assertLabels(t *testing.T, expr parser.Node, names []string, of string) {
	t.Helper()
	for metric, emitted := range h.labelsOf(expr) {
		for _, name := range names {
			assert.True(t, emitted[name], "%s: %s has no label %s", of, metric, name)
		}
	}
}

// assertIgnored checks that one of the metrics in an expression has each of these labels: the others need not.
func (h *history) assertIgnored(t *testing.T, expr parser.Node, names []string, of string) {
	t.Helper()
	union := map[string]bool{}
	for _, emitted := range h.labelsOf(expr) {
		maps.Copy(union, emitted)
	}
	for _, name := range names {
		assert.True(t, union[name], "%s: nothing has the label %s in %s", of, name, expr)
	}
}

// labelsOf are the names of the labels of each metric in an expression.
func (h *history) labelsOf(expr parser.Node) map[string]map[string]bool {
	all := map[string]map[string]bool{}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			emitted := map[string]bool{}
			for _, s := range h.matching([]*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, model.MetricNameLabel, selector.Name)}) {
				s.labels.Range(func(l labels.Label) { emitted[l.Name] = true })
			}
			all[selector.Name] = emitted
		}
		return nil
	})
	return all
}

func TestTheDashboardAndTheAlertsOnProgramsThatFareWellAndBadly(t *testing.T) {
	in := run(t)
	alerts, records := rules(t)
	for _, form := range forms {
		h := in[form]
		h.record(t, records)
		t.Run(form+": each panel shows something, and its legend names labels that the lines have", h.testPanels)
		t.Run(form+": each alert fires where it should and nowhere else", h.testAlerts)
		t.Run(form+": sums and counts are those of the classic form", func(t *testing.T) { h.testSame(t, in[classic]) })
		t.Run(form+": each metric that the pool has is on the dashboard", h.testComplete)
	}
	t.Run("each alert uses only metrics and labels that there are", func(t *testing.T) {
		for _, r := range slices.Concat(alerts, records) {
			in[both].assertKnown(t, r.Expr, r.Alert+r.Record)
		}
	})
	t.Run("each panel and variable uses only metrics and labels that there are", func(t *testing.T) {
		for _, q := range queries(t) {
			in[both].assertKnown(t, q.expr, q.panel)
		}
	})
}

// placeholder is a label in a legend, or in an alert's text.
var placeholder = regexp.MustCompile(`{{ *(?:\$labels\.)?([a-z_]+) *}}`)

func (h *history) testPanels(t *testing.T) {
	for _, q := range queries(t) {
		lines := h.query(t, q.expr)
		assert.NotEmpty(t, lines, "%s shows nothing: %s", q.panel, q.expr)
		for _, label := range placeholder.FindAllStringSubmatch(q.legend, -1) {
			for _, line := range lines {
				assert.NotEmpty(t, line.Metric.Get(label[1]), "%s: %s has no %s", q.panel, line.Metric, label[1])
			}
		}
	}
}

// instanceOf is the program that a series is about. That of a server is about the only program behind its proxy, or none.
func (h *history) instanceOf(s promql.Series) string {
	if instance := s.Metric.Get("instance"); instance != "" {
		return instance
	}
	found := map[string]bool{}
	for _, one := range h.all {
		if one.labels.Get("server_port") == s.Metric.Get("server_port") {
			found[one.labels.Get("instance")] = true
		}
	}
	if len(found) != 1 {
		return "all"
	}
	return slices.Collect(maps.Keys(found))[0]
}

// testSame compares what panels make of histograms' counts and sums. Only quantiles may differ, as their buckets do.
func (h *history) testSame(t *testing.T, other *history) {
	compared := 0
	for _, q := range queries(t) {
		if !strings.Contains(q.expr, "histogram_") || strings.Contains(q.expr, "histogram_quantile") {
			continue
		}
		compared++
		want := lasts(other.query(t, q.expr))
		require.NotEmpty(t, want, q.panel)
		assert.InDeltaMapValues(t, want, lasts(h.query(t, q.expr)), 1e-6, q.panel)
	}
	assert.GreaterOrEqual(t, compared, 5)
}

// lasts are the last values of lines, by their labels.
func lasts(lines promql.Matrix) map[string]float64 {
	values := map[string]float64{}
	for _, line := range lines {
		values[line.Metric.String()] = line.Floats[len(line.Floats)-1].F
	}
	return values
}

func (h *history) testAlerts(t *testing.T) {
	fired, still := map[string][]string{}, map[string][]string{} // by instance
	alerts, _ := rules(t)
	for _, r := range alerts {
		once := map[string]bool{}
		for _, s := range h.query(t, r.Expr) {
			if !fires(s, time.Duration(r.For)) {
				continue
			}
			instance := h.instanceOf(s)
			assert.False(t, once[instance], "%s fires twice for %s", r.Alert, instance)
			once[instance] = true
			fired[instance] = append(fired[instance], r.Alert)
			if s.Floats[len(s.Floats)-1].T == h.last.UnixMilli() {
				still[instance] = append(still[instance], r.Alert)
			}
			for _, text := range r.Annotations {
				for _, label := range placeholder.FindAllStringSubmatch(text, -1) {
					assert.NotEmpty(t, s.Metric.Get(label[1]), "%s: %s has no %s", r.Alert, s.Metric, label[1])
				}
			}
			if pool := s.Metric.Get("db_client_connection_pool_name"); pool != "" {
				assert.Equal(t, s.Metric.Get("instance"), pool, "%s fires for the wrong pool", r.Alert)
			}
		}
	}
	caused := map[string]bool{}
	assert.Empty(t, fired["all"], "the server that most programs share")
	for _, s := range stories {
		slices.Sort(fired[s.name])
		assert.Equal(t, s.alerts, fired[s.name], "a program that is %s", s.name)
		for _, name := range s.over {
			assert.NotContains(t, still[s.name], name, "a program that was %s", s.name)
		}
		for _, name := range s.alerts {
			caused[name] = true
		}
	}
	for _, r := range alerts {
		assert.True(t, caused[r.Alert], "%s: no story causes it", r.Alert)
	}
}

// testComplete looks for the base names: a histogram is on the dashboard by one of its series.
func (h *history) testComplete(t *testing.T) {
	suffix := regexp.MustCompile(`_(bucket|count|sum)$`)
	names := map[string]bool{}
	for _, s := range h.all {
		name := s.labels.Get(model.MetricNameLabel)
		if name != "db_client_connection_count" {
			name = suffix.ReplaceAllString(name, "")
		}
		names[name] = true
	}
	maps.DeleteFunc(names, func(name string, _ bool) bool { return strings.Contains(name, ":") }) // of recording rules
	delete(names, "target_info")
	delete(names, "db_client_connection_idle_min") // pool_min, a setting
	assert.Len(t, names, 22)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		assert.Contains(t, string(dashboards.Grafana), name)
	}
}
