package settings

import (
	"errors"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/caarlos0/env/v11"
)

// parse reads texts by DSN key. It is the only reader of texts: a DSN, an environment, a profile and the defaults all
// come through here. Keys that are not understood are reported under the name that where gives them, and left out.
func parse(texts map[string]string, where func(*row) string, ps *problems) Values {
	environment := make(map[string]string, len(texts)) // never nil: env would take the process's
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
		// The cause quotes the text, so it isn't shown.
		r := rowOfField(failed.Name)
		ps.add(where(r), r.want)
		v.field(r).SetZero()
	}
	v.check(where, ps)
	return v
}

func failures(err error) []error {
	var all env.AggregateError
	if errors.As(err, &all) {
		return all.Errors
	}
	return nil
}

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

var errText = errors.New("not understood")

func unless(ok bool) error {
	if ok {
		return nil
	}
	return errText
}

func parseBool(text string) (value, ok bool) {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "true", "on", "yes", "1":
		return true, true
	case "false", "off", "no", "0":
		return false, true
	}
	return false, false
}

// nextName finds where a server setting begins, so that search_path=a,b,jit=off has two.
var nextName = regexp.MustCompile(`(?:^|,)\s*([A-Za-z_][A-Za-z0-9_.$]*)\s*=`)

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

// check reports every value that is not allowed, and takes it out.
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
