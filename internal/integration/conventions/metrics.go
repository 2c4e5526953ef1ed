package conventions

import (
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// A series is one of a metric's, as the rules see it.
type series struct {
	attrs  attribute.Set
	bounds []float64 // of a histogram
}

// checkMetrics applies the rules for metrics.
func (c *Checker) checkMetrics(found Findings, scopes []metricdata.ScopeMetrics) {
	duration := false
	for _, in := range scopes {
		for _, m := range in.Metrics {
			c.checkScope(found, "metrics", in.Scope.Version)
			c.checkMetric(found, m)
			duration = duration || m.Name == "db.client.operation.duration"
		}
	}
	if !duration {
		found.add("metrics", "db.client.operation.duration is missing, which is required")
	}
}

// checkMetric applies the rules for one metric.
func (c *Checker) checkMetric(found Findings, m metricdata.Metrics) {
	name, known := c.Names.Metrics[m.Name]
	want, listed := metrics[m.Name]
	switch {
	case name.Deprecated != "":
		found.add(m.Name, "is deprecated: %s", name.Deprecated)
		return
	case !known && c.Names.reserved(m.Name):
		found.add(m.Name, "is none of the conventions' metrics, but in a namespace of theirs")
		return
	}
	kind, all := seriesOf(m)
	if !listed {
		for _, s := range all {
			c.checkNames(found, m.Name, attributesOf(s.attrs.ToSlice()), nil)
		}
		return
	}
	if kind != want.instrument {
		found.add(m.Name, "is a %s, not a %s", kind, want.instrument)
	}
	if m.Unit != want.unit {
		found.add(m.Name, "has the unit %q, not %q", m.Unit, want.unit)
	}
	if m.Description != name.Brief {
		found.add(m.Name, "has another description than the conventions")
	}
	for _, s := range all {
		c.checkSeries(found, m.Name, s, want)
	}
}

// checkSeries applies the rules for one series of a metric that the conventions have.
func (c *Checker) checkSeries(found Findings, where string, s series, want conventional) {
	all := attributesOf(s.attrs.ToSlice())
	c.checkNames(found, where, all, want.attributes)
	checkLevels(found, where, all, want.attributes)
	c.checkServer(found, where, all)
	if want.buckets != nil && s.bounds != nil && !slices.Equal(s.bounds, want.buckets) {
		found.add(where, "has other buckets than are advised")
	}
	const state = "db.client.connection.state"
	if all.has(state) && !c.Names.HasValue(state, all.text(state)) {
		found.add(where, "%s has the value %s", state, all.text(state))
	}
	if kind, code := all.text("error.type"), all.text("db.response.status_code"); sqlState.MatchString(kind) && code == "" {
		found.add(where, "db.response.status_code is missing, which is required if the server reported the error")
	}
}

// seriesOf returns the instrument of a metric, and its series.
func seriesOf(m metricdata.Metrics) (instrument string, all []series) {
	switch data := m.Data.(type) {
	case metricdata.Histogram[float64]:
		return "histogram", histogramSeries(data)
	case metricdata.Histogram[int64]:
		return "histogram", histogramSeries(data)
	case metricdata.Sum[int64]:
		return sumSeries(data)
	case metricdata.Sum[float64]:
		return sumSeries(data)
	case metricdata.Gauge[int64]:
		return "gauge", pointSeries(data.DataPoints)
	case metricdata.Gauge[float64]:
		return "gauge", pointSeries(data.DataPoints)
	}
	return "unknown instrument", nil
}

func histogramSeries[N int64 | float64](data metricdata.Histogram[N]) (all []series) {
	for _, p := range data.DataPoints {
		all = append(all, series{p.Attributes, p.Bounds})
	}
	return all
}

func sumSeries[N int64 | float64](data metricdata.Sum[N]) (instrument string, all []series) {
	if data.IsMonotonic {
		return "counter", pointSeries(data.DataPoints)
	}
	return "updowncounter", pointSeries(data.DataPoints)
}

func pointSeries[N int64 | float64](points []metricdata.DataPoint[N]) (all []series) {
	for _, p := range points {
		all = append(all, series{attrs: p.Attributes})
	}
	return all
}
