package conventions

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/diary"
	"github.com/pgprod/pgprod/internal/docs"
	"github.com/pgprod/pgprod/internal/hosts"
	"github.com/pgprod/pgprod/internal/link"
)

const own = "pgprod."

// registry returns that of the manual.
func registry(t *testing.T) *Registry {
	t.Helper()
	text, err := docs.Read("internal/docs/registry.yaml")
	require.NoError(t, err)
	r, err := ParseRegistry(text)
	require.NoError(t, err)
	return r
}

// An audit compares pgprod's own names, as a program reports them, with the registry.
type audit struct {
	*testing.T
	registry *Registry
	defined  map[string]Attribute
	seen     map[string]bool // the own metrics, spans, events and attributes that were reported
}

// attributes notes the own attributes, and compares their types.
func (a *audit) attributes(all []attribute.KeyValue) {
	for _, one := range all {
		name := string(one.Key)
		if !strings.HasPrefix(name, own) {
			continue
		}
		a.seen[name] = true
		defined, ok := a.defined[name]
		if !assert.True(a, ok, "%s is not in the registry", name) {
			continue
		}
		kinds := map[string]attribute.Type{"boolean": attribute.BOOL, "int": attribute.INT64, "double": attribute.FLOAT64, "string": attribute.STRING}
		assert.Equal(a, kinds[defined.Kind()], one.Value.Type(), name)
	}
}

// levels compares the attributes of what is the library's own with those that it may have, and must have.
func (a *audit) levels(where string, all []attribute.KeyValue, levels map[string]Level) {
	have := map[string]bool{}
	for _, one := range all {
		have[string(one.Key)] = true
		assert.Contains(a, levels, string(one.Key), where)
	}
	for name, level := range levels {
		assert.True(a, level == Optional || have[name], "%s: no %s", where, name)
	}
}

// group is a group of the registry; empty: there is none.
func (a *audit) group(id string) (g Group) {
	if at := slices.IndexFunc(a.registry.Groups, func(g Group) bool { return g.ID == id }); at >= 0 {
		g = a.registry.Groups[at]
	}
	return g
}

func (a *audit) span(s sdktrace.ReadOnlySpan) {
	a.attributes(s.Attributes())
	if strings.HasPrefix(s.Name(), own) {
		a.seen["span."+s.Name()] = true
		g := a.group("span." + s.Name())
		a.levels(s.Name(), s.Attributes(), a.registry.Levels(g))
		assert.Equal(a, g.Kind, s.SpanKind().String(), s.Name())
	} else {
		g := a.group("span.pgprod.statement")
		for _, one := range s.Attributes() {
			if name := string(one.Key); strings.HasPrefix(name, own) {
				a.seen[g.ID] = true
				assert.Contains(a, a.registry.Levels(g), name)
				assert.Equal(a, g.Kind, s.SpanKind().String(), s.Name())
			}
		}
	}
	for _, e := range s.Events() {
		a.attributes(e.Attributes)
		a.seen["event."+e.Name] = true
		a.levels(e.Name, e.Attributes, a.registry.Levels(a.group("event."+e.Name)))
	}
}

func (a *audit) metric(m metricdata.Metrics) {
	if !strings.HasPrefix(m.Name, own) {
		return
	}
	a.seen["metric."+m.Name] = true
	g, ok := a.registry.Metrics()[m.Name]
	if !assert.True(a, ok, "%s is not in the registry", m.Name) {
		return
	}
	kind, all := seriesOf(m)
	assert.Equal(a, []string{g.Instrument, g.Unit, g.Brief}, []string{kind, m.Unit, m.Description}, m.Name)
	assert.NotEmpty(a, all, m.Name)
	for _, s := range all {
		a.attributes(s.attrs.ToSlice())
		a.levels(m.Name, s.attrs.ToSlice(), a.registry.Levels(g))
	}
}

func TestTheRegistryHasWhatPgprodReportsAndNothingElse(t *testing.T) {
	dsn := newDatabase(t)
	to, r := run(t, clients[0], dsn), registry(t)
	several(t, dsn, to)
	a := &audit{T: t, registry: r, defined: r.Defined(), seen: map[string]bool{}}
	for _, s := range to.spans() {
		a.span(s)
	}
	scopes, err := to.metrics(t.Context())
	require.NoError(t, err)
	for _, in := range scopes {
		for _, m := range in.Metrics {
			a.metric(m)
		}
	}
	want := map[string]bool{}
	for name := range r.Defined() {
		want[name] = true
	}
	for _, g := range r.Groups {
		if g.Type != "attribute_group" {
			want[g.ID] = true
		}
	}
	assert.Equal(t, want, a.seen)
}

func TestTheRegistryRefersToAttributesThatExist(t *testing.T) {
	names, r := names(t), registry(t)
	for _, g := range r.Groups {
		for name := range r.Levels(g) {
			_, conventional := names.attribute(name)
			_, defined := r.Defined()[name]
			assert.True(t, name == "" || conventional != defined, "%s of %s", name, g.ID)
		}
		assert.True(t, g.Type != "metric" || g.ID == "metric."+g.Metric, g.ID)
		assert.True(t, g.Type != "event" || g.ID == "event."+g.Name, g.ID)
	}
}

func TestTheRegistryHasEachNameInTheSource(t *testing.T) {
	source, err := docs.Read("internal/instruments/semconv.go")
	require.NoError(t, err)
	var want, got []string
	for _, m := range regexp.MustCompile(`"(pgprod\.[a-z_.]+)"`).FindAllStringSubmatch(source, -1) {
		want = append(want, m[1])
	}
	r := registry(t)
	got = slices.AppendSeq(got, maps.Keys(r.Defined()))
	got = slices.AppendSeq(got, maps.Keys(r.Metrics()))
	assert.ElementsMatch(t, want, got)
}

func TestTheRegistryHasEachValue(t *testing.T) {
	reasons := slices.Collect(diary.Reasons())
	for _, reason := range link.Unknowns() {
		reasons = append(reasons, string(reason))
	}
	for name, want := range map[string][]string{
		"pgprod.reason": reasons,
		"pgprod.state":  {activity.Healthy, activity.Degraded, activity.Unhealthy},

		"pgprod.host.state": {hosts.Up.String(), hosts.Down.String(), hosts.Unknown.String()},
		"pgprod.host.role":  {hosts.Primary.String(), hosts.ReadOnly.String(), hosts.Standby.String(), hosts.Deposed.String()},
	} {
		got, err := registry(t).Defined()[name].Members()
		require.NoError(t, err)
		assert.ElementsMatch(t, want, got, name)
	}
}
