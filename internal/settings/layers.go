package settings

import "reflect"

// field returns the field of a row: a pointer, or the map of server_settings. It can be set.
func (v *Values) field(r *row) reflect.Value { return reflect.ValueOf(v).Elem().FieldByName(r.field) }

// isSet reports whether a field has a value. An empty text counts as none, wherever it was given.
func isSet(field reflect.Value) bool {
	if field.IsNil() {
		return false
	}
	target := reflect.Indirect(field)
	return target.Kind() != reflect.String || target.Len() > 0
}

// Apply sets each field of v that is set in over to a copy of over's value. Server settings are merged by name, over's win.
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

// A layer is what one source says.
type layer struct {
	source Source
	values Values
}

// stack merges layers, the weakest first, and returns for each row, by its key, which source its value is from. Empty texts
// in the layers are removed on the way.
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
				field.SetZero() // an empty text must not win over a weaker layer
			}
		}
		all.Apply(l.values)
	}
	return all, sources
}
