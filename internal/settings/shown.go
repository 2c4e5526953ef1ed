package settings

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Shown is a setting as it may be shown to people: secrets are masked.
type Shown struct {
	Key, Value string
	Source     Source
}

// mask is shown in place of a secret.
const mask = "••••"

// Shown lists the settings in force, in the order of the table, and at the end whether there is a password. Passwords and
// server settings that may hold a secret are masked.
func (c *Config) Shown() []Shown {
	all := make([]Shown, 0, len(table)+1)
	for i := range table {
		r := &table[i]
		all = append(all, Shown{Key: r.key, Value: c.shown(r), Source: c.Sources[r.key]})
	}
	password := Shown{Key: "password", Value: "none", Source: SourceDefault}
	switch {
	case c.loginFrom != "":
		password.Value, password.Source = mask, SourceOption
	case c.PasswordFile != "":
		password.Value, password.Source = mask, c.Sources["password_file"]
	case c.PasswordInDSN:
		password.Value, password.Source = mask, SourceDSN
	case c.Conn.Password != "":
		password.Value, password.Source = mask, SourceEnvironment
	}
	return append(all, password)
}

// shown is the value of a setting as text.
func (c *Config) shown(r *row) string {
	switch r.key {
	case "pool_name":
		return c.PoolName
	case "server_settings":
		return c.serverSettings()
	}
	value := reflect.Indirect(c.values.field(r))
	switch {
	case !value.IsValid():
		return ""
	case value.Kind() == reflect.Bool:
		return map[bool]string{true: "on", false: "off"}[value.Bool()]
	case value.Kind() == reflect.Int:
		return strconv.FormatInt(value.Int(), 10)
	case value.Type() == reflect.TypeFor[Duration]():
		return tidy(time.Duration(value.Int()).String())
	default:
		return value.String()
	}
}

// serverSettings are the server settings of each connection, in the startup message or set later, as name=value, … options
// is left out, since it may hold anything. For the same reason the values of the application's own parameters, which have a
// dot in their names, are masked, and so are those whose names sound like a password.
func (c *Config) serverSettings() string {
	all := maps.Clone(c.Conn.RuntimeParams)
	for _, s := range c.Set {
		all[s.Name] = s.Value
	}
	delete(all, "options")
	var b strings.Builder
	for _, name := range sortedKeys(all) {
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		value := all[name]
		if mayBeSecret(name) {
			value = mask
		}
		b.WriteString(name + "=" + value)
	}
	return b.String()
}

// mayBeSecret reports whether the value of a server setting may be a secret, by its name.
func mayBeSecret(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc([]string{".", "pass", "pwd", "secret"}, func(part string) bool { return strings.Contains(name, part) })
}

// tidy writes 30m0s as 30m and 1h0m0s as 1h.
func tidy(duration string) string {
	for _, zero := range []string{"0s", "0m"} {
		if before, found := strings.CutSuffix(duration, zero); found && strings.HasSuffix(before, map[string]string{"0s": "m", "0m": "h"}[zero]) {
			duration = before
		}
	}
	return duration
}
