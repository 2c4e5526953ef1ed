package conventions

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A Registry is what registry.yaml says, in the form of the conventions' own model.
type Registry struct{ Groups []Group }

// A Group is a metric, a span, an event, or a set of attributes.
type Group struct {
	ID         string `yaml:"id"`
	Type       string `yaml:"type"` // attribute_group, metric, span or event
	Name       string `yaml:"name"` // of an event
	Metric     string `yaml:"metric_name"`
	Instrument string `yaml:"instrument"`
	Unit       string `yaml:"unit"`
	Kind       string `yaml:"span_kind"`
	Brief      string `yaml:"brief"`
	Stability  string `yaml:"stability"`
	Display    string `yaml:"display_name"`
	Extends    string `yaml:"extends"` // the group whose attributes it has as well

	Attributes []Attribute `yaml:"attributes"`
}

// An Attribute is defined (ID) or referred to (Ref).
type Attribute struct {
	ID, Ref   string
	Type      yaml.Node // a word, or a set of members
	Brief     string
	Stability string
	Examples  []any
	Level     any `yaml:"requirement_level"` // a word, or a map from a word to a condition
}

// ParseRegistry reads registry.yaml. It refuses keys that it doesn't know, and what has no brief or stability.
func ParseRegistry(text string) (*Registry, error) {
	r, d := &Registry{}, yaml.NewDecoder(strings.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(r); err != nil {
		return nil, err
	}
	for _, g := range r.Groups {
		if g.Brief == "" || g.Type != "attribute_group" && g.Stability == "" {
			return nil, fmt.Errorf("%s has no brief or no stability", g.ID)
		}
		for _, a := range g.Attributes {
			if a.ID != "" && (a.Brief == "" || a.Stability == "" || a.Type.IsZero()) {
				return nil, fmt.Errorf("%s has no brief, no stability or no type", a.ID)
			}
		}
	}
	return r, nil
}

// Metrics returns the metrics by name.
func (r *Registry) Metrics() map[string]Group {
	all := map[string]Group{}
	for _, g := range r.Groups {
		if g.Type == "metric" {
			all[g.Metric] = g
		}
	}
	return all
}

// Defined returns the attributes that are defined, by name.
func (r *Registry) Defined() map[string]Attribute {
	all := map[string]Attribute{}
	for _, g := range r.Groups {
		for _, a := range g.Attributes {
			if a.ID != "" {
				all[a.ID] = a
			}
		}
	}
	return all
}

// Levels returns the attributes of a group, and of the one that it extends: those that it must have as Required.
func (r *Registry) Levels(g Group) map[string]Level {
	all := map[string]Level{}
	if at := slices.IndexFunc(r.Groups, func(of Group) bool { return of.ID == g.Extends }); at >= 0 {
		all = r.Levels(r.Groups[at])
	}
	for _, a := range g.Attributes {
		all[a.Ref] = Optional
		if a.Level == string(Required) {
			all[a.Ref] = Required
		}
	}
	return all
}

// Kind is the type of an attribute's values: boolean, int, double or string; that of a set of members is string.
func (a Attribute) Kind() string {
	if a.Type.Kind == yaml.ScalarNode {
		return a.Type.Value
	}
	return "string"
}

// Members returns the values of an attribute that has a fixed set of them.
func (a Attribute) Members() (values []string, err error) {
	var set struct {
		Members []struct{ ID, Value, Stability, Brief string }
	}
	if err := a.Type.Decode(&set); err != nil {
		return nil, err
	}
	for _, m := range set.Members {
		values = append(values, m.Value)
	}
	return values, nil
}
