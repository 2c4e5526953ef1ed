package settings

import (
	"errors"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/caarlos0/env/v11"
)

// parse reads the texts of settings, which are given by DSN key. All texts are read here: those of a DSN, of the
// environment, of a profile and the defaults. A value that isn't understood or not allowed is added to ps under the name
// that where returns for its row, and isn't set in the result.
func parse(texts map[string]string, where func(*row) string, ps *problems) Values {
	environment := make(map[string]string, len(texts)) // not nil, for which package env would take the process's environment
	for key, text := range texts {
		environment[rowOf(key).env()] = text
	}
	var v Values
	err := env.ParseWithOptions(&v, env.Options{Environment: environment, FuncMap: parsers})
	for _, err := range failures(err) {
		var failed env.ParseError
		if !errors.As(err, &failed) {
			panic("pgprod: BUG: the table can't be parsed into: " + err.Error())
		}
		// The cause isn't shown: it quotes the text, which may be anything.
		r := rowOfField(failed.Name)
		ps.add(where(r), r.want)
		v.field(r).SetZero()
	}
	v.check(where, ps)
	return v
}

// failures are the errors of which an error of package env consists, one for each field.
func failures(err error) []error {
	var all env.AggregateError
	if errors.As(err, &all) {
		return all.Errors
	}
	return nil
}

// parsers are package env's parsers for types that it reads otherwise than we do.
var parsers = map[reflect.Type]env.ParserFunc{
	reflect.TypeFor[bool](): func(text string) (any, error) {
		b, ok := parseBool(text)
		return b, unless(ok)
	},
	reflect.TypeFor[int](): func(text string) (any, error) {
		return strconv.Atoi(strings.TrimSpace(text))
	},
	reflect.TypeFor[map[string]string](): func(text string) (any, error) {
		m, ok := parseServerSettings(text)
		return m, unless(ok)
	},
}

// errText stands for any error of a parser. It isn't shown.
var errText = errors.New("not understood")

// unless returns nil if ok is true.
func unless(ok bool) error {
	if ok {
		return nil
	}
	return errText
}

// parseBool reads a boolean in one of the usual ways to write it, and reports whether it could.
func parseBool(text string) (value, ok bool) {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "true", "on", "yes", "1":
		return true, true
	case "false", "off", "no", "0":
		return false, true
	}
	return false, false
}

// nextName matches the beginning of a server setting. A comma separates two settings only if a name and = follow it:
// search_path=a,b,jit=off has two.
var nextName = regexp.MustCompile(`(?:^|,)\s*([A-Za-z_][A-Za-z0-9_.$]*)\s*=`)

// parseServerSettings reads name=value,… and reports whether it could.
func parseServerSettings(text string) (map[string]string, bool) {
	text = strings.Trim(text, ", \t\r\n")
	found := nextName.FindAllStringSubmatchIndex(text, -1)
	if text != "" && (len(found) == 0 || found[0][0] != 0) {
		return nil, false
	}
	m := make(map[string]string, len(found))
	for i, at := range found {
		end := len(text)
		if i+1 < len(found) {
			end = found[i+1][0]
		}
		put(m, text[at[2]:at[3]], strings.TrimSpace(text[at[1]:end]))
	}
	return m, true
}

// check adds each value that isn't allowed to ps, and unsets its field.
func (v *Values) check(where func(*row) string, ps *problems) {
	for i := range table {
		r := &table[i]
		field := v.field(r)
		if r.ok == nil || !isSet(field) || r.ok(reflect.Indirect(field)) {
			continue
		}
		ps.add(where(r), r.want)
		field.SetZero()
	}
}
