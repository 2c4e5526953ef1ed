package settings

import "reflect"

// field returns a row's field, a pointer or a map.
func (v *Values) field(r *row) reflect.Value { return reflect.ValueOf(v).Elem().FieldByName(r.field) }

// isSet tells whether a field says anything: an empty text doesn't, wherever it stands.
func isSet(field reflect.Value) bool {
	if field.IsNil() {
		return false
	}
	target := reflect.Indirect(field)
	return target.Kind() != reflect.String || target.Len() > 0
}

// Apply sets every field that over sets, to a copy; server settings are merged by name.
func (v *Values) Apply(over Values) {
	for i := range table {
		r := &table[i]
		to, from := v.field(r), over.field(r)
		switch {
		case from.IsNil():
		case r.field == "ServerSettings":
			v.ServerSettings = merged(v.ServerSettings, over.ServerSettings)
		default:
			to.Set(reflect.New(to.Type().Elem()))
			to.Elem().Set(from.Elem())
		}
	}
}

// layer is what one source says.
type layer struct {
	source Source
	values Values
}

// stack puts layers over each other, weakest first, and tells for every row which one decided.
func stack(layers ...layer) (Values, map[string]Source) {
	var all Values
	sources := make(map[string]Source, len(table))
	for i := range table {
		sources[table[i].key] = SourceDefault
	}
	for _, l := range layers {
		for i := range table {
			r := &table[i]
			if field := l.values.field(r); isSet(field) {
				sources[r.key] = l.source
			} else {
				field.SetZero() // an empty text must not cover the layer below
			}
		}
		all.Apply(l.values)
	}
	return all, sources
}
