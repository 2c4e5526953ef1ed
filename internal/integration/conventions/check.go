package conventions

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/attribute"
)

// A Checker knows the conventions, and what the program that is checked was configured with.
type Checker struct {
	Names   *Names
	Address string   // server.address by the conventions
	Port    int      // server.port by the conventions; 0: there must be none
	Secrets []string // literals of statements, and values of parameters, which must not be reported
	Mixed   string   // a statement with a parameter and one literal: by the conventions it is reported as it is
}

// Findings are what is against the conventions, each with how often it occurs.
type Findings map[string]int

// add adds a finding about a span or a metric. Findings with the same words are counted together.
func (f Findings) add(where, format string, args ...any) {
	f[where+": "+fmt.Sprintf(format, args...)]++
}

// String returns a line for each finding.
func (f Findings) String() string {
	var b strings.Builder
	for _, text := range slices.Sorted(maps.Keys(f)) {
		fmt.Fprintf(&b, "%5d × %s\n", f[text], text)
	}
	return b.String()
}

// Check returns the findings in a record.
func (c *Checker) Check(ctx context.Context, r *Record) (Findings, error) {
	found := Findings{}
	for _, s := range r.spans() {
		c.checkSpan(found, r, s)
	}
	scopes, err := r.metrics(ctx)
	if err != nil {
		return nil, err
	}
	c.checkMetrics(found, scopes)
	return found, nil
}

// attributes are by name.
type attributes map[string]attribute.Value

func attributesOf(all []attribute.KeyValue) attributes {
	m := attributes{}
	for _, a := range all {
		m[string(a.Key)] = a.Value
	}
	return m
}

// text is the value of an attribute as a text; "": there is none.
func (a attributes) text(name string) string {
	if v, ok := a[name]; ok {
		return v.String()
	}
	return ""
}

// has reports whether there is an attribute.
func (a attributes) has(name string) bool { _, ok := a[name]; return ok }

// checkNames looks for attributes that are deprecated, or that aren't the conventions' and yet are called as if they were.
// allowed are those that the conventions have for what is looked at; nil: any.
func (c *Checker) checkNames(found Findings, where string, all attributes, allowed map[string]Level) {
	for name, value := range all {
		known, ok := c.Names.attribute(name)
		switch {
		case known.Deprecated != "":
			found.add(where, "%s is deprecated: %s", name, known.Deprecated)
			continue
		case !ok && c.Names.reserved(name):
			found.add(where, "%s is none of the conventions' attributes, but in a namespace of theirs", name)
			continue
		case !ok:
			continue // the library's own
		}
		if _, listed := allowed[name]; allowed != nil && !listed && !strings.HasPrefix(name, "db.query.parameter.") {
			found.add(where, "%s doesn't belong here", name)
		}
		if want, other := types[name]; other && value.Type() != want || !other && listedAsText(name) && value.Type() != attribute.STRING {
			found.add(where, "%s is a %v", name, value.Type())
		}
	}
}

// listedAsText reports whether an attribute is in a table and has texts as values.
func listedAsText(name string) bool {
	_, onSpan := spanAttributes[name]
	_, onPool := ofPool[name]
	return onSpan || onPool
}

// checkLevels looks for attributes that are missing.
func checkLevels(found Findings, where string, all attributes, levels map[string]Level) {
	for name, level := range levels {
		if level != Optional && !all.has(name) {
			found.add(where, "%s is missing, which is %s", name, level)
		}
	}
}

// checkServer compares the attributes of the server with how it was configured.
func (c *Checker) checkServer(found Findings, where string, all attributes) {
	if system := all.text("db.system.name"); system != "" && system != "postgresql" {
		found.add(where, "db.system.name is %s, not postgresql", system)
	}
	if address := all.text("server.address"); address != "" && address != c.Address {
		found.add(where, "server.address isn't as it was configured")
	}
	port, given := all["server.port"]
	switch {
	case given && c.Port == 0:
		found.add(where, "server.port is given, but it is the default, or the address is a list")
	case !given && c.Port != 0 && all.has("server.address"):
		found.add(where, "server.port is missing, which is required if it isn't the default")
	case given && port.AsInt64() != int64(c.Port):
		found.add(where, "server.port isn't as it was configured")
	}
}
