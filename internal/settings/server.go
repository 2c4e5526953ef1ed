package settings

import (
	"cmp"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// serverDefaults is the default of server_settings.
const serverDefaults = "jit=off,random_page_cost=1.1,effective_cache_size=1GB,idle_in_transaction_session_timeout=300000"

// programName is the default of application_name: the name of the program's file, in the characters and the length (63
// bytes) that the server allows.
func programName() string {
	if len(os.Args) == 0 {
		return ""
	}
	printable := func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}
	name := strings.Map(printable, filepath.Base(os.Args[0]))
	return name[:min(len(name), 63)]
}

// serverParams are the run-time parameters of the server, by name. Of several sources the later one wins: our defaults, what
// pgx took from PG* variables and the service file, server_settings in our variables, server_settings in the DSN, parameters
// in the DSN, and the options in code.
//
// To the server, a setting in libpq's options is weaker than a parameter of its own. So that our defaults don't win over
// options, a default that options set as well is left out.
func (l *loader) serverParams() map[string]string {
	byDefault := merged(defaults.ServerSettings, map[string]string{"application_name": programName()})
	given := l.givenParams()
	options, _ := lookup(given, "options")
	for _, name := range optionNames(options) {
		drop(byDefault, name)
	}
	return merged(byDefault, given)
}

// givenParams are those that somebody has given.
func (l *loader) givenParams() map[string]string {
	return merged(l.dsn.ambient, l.env.ServerSettings, l.dsn.values.ServerSettings, l.dsn.params, l.code.ServerSettings)
}

// merged returns a new map with the entries of all layers. Later ones win.
func merged(layers ...map[string]string) map[string]string {
	all := make(map[string]string)
	for _, m := range layers {
		for _, name := range sortedKeys(m) {
			put(all, name, m[name])
		}
	}
	return all
}

// put sets a server setting, in place of one whose name differs in case only: to the server jit and JIT are the same.
func put(m map[string]string, name, value string) {
	drop(m, name)
	m[name] = value
}

// drop removes a server setting, whatever the case of its name.
func drop(m map[string]string, name string) {
	maps.DeleteFunc(m, func(have, _ string) bool { return strings.EqualFold(have, name) })
}

// lookup finds a server setting, whatever the case of its name.
func lookup(m map[string]string, name string) (string, bool) {
	for have, value := range m {
		if strings.EqualFold(have, name) {
			return value, true
		}
	}
	return "", false
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// checkEncoding refuses a client_encoding other than UTF8. pgx takes all texts from the server for UTF-8, so that with
// another encoding they would be wrong without an error.
func (l *loader) checkEncoding() {
	encoding, _ := lookup(l.serverParams(), "client_encoding")
	plain := strings.NewReplacer("-", "", "_", "", "'", "").Replace(strings.ToLower(encoding))
	if !slices.Contains([]string{"", "utf8", "unicode"}, plain) {
		l.problems.add("server setting client_encoding", "must be UTF8, as Go's texts are")
	}
}

// backstop sets the server's statement_timeout to command plus a second, so that a statement ends even if this program dies
// or hangs meanwhile. It does nothing if command is 0, or if the user has set statement_timeout, be it in libpq's options.
func backstop(params map[string]string, command time.Duration) {
	options, _ := lookup(params, "options")
	isTimeout := func(name string) bool { return strings.EqualFold(name, "statement_timeout") }
	if _, given := lookup(params, "statement_timeout"); given || command <= 0 || slices.ContainsFunc(optionNames(options), isTimeout) {
		return
	}
	// The server takes milliseconds as an int32.
	ms := min(int64(math.MaxInt32), int64(command/time.Millisecond)+1000)
	params["statement_timeout"] = strconv.FormatInt(ms, 10)
}

// onlyDefaults returns those of the run-time parameters that nobody has given a value.
func (l *loader) onlyDefaults(params map[string]string) (names []string) {
	given := l.givenParams()
	for _, name := range sortedKeys(params) {
		if _, asked := lookup(given, name); !asked && params[name] != "" && name != "application_name" {
			names = append(names, name)
		}
	}
	return names
}

// startupOnly are parameters that can't be set later, or that poolers accept in the startup message.
var startupOnly = []string{"application_name", "client_encoding", "options", "replication"}

// split divides the run-time parameters into those for the startup message and, in mode set, those to be set on the new
// connection, which are sorted by name. Those with an empty value are left out.
func split(params map[string]string, mode string) (startup map[string]string, later []Setting) {
	startup = make(map[string]string, len(params))
	for name, value := range params {
		switch {
		case value == "":
		case mode == ModeSet && !slices.Contains(startupOnly, strings.ToLower(name)):
			later = append(later, Setting{name, value})
		default:
			startup[name] = value
		}
	}
	slices.SortFunc(later, func(a, b Setting) int { return cmp.Compare(a.Name, b.Name) })
	return startup, later
}

// areServerSettings reports whether the names and values of a map are allowed. It matters for maps in code: the parser
// doesn't let others through.
func areServerSettings(v reflect.Value) bool {
	for it := v.MapRange(); it.Next(); {
		if !isSettingName(it.Key().String()) || strings.ContainsRune(it.Value().String(), 0) {
			return false
		}
	}
	return true
}

// isSettingName reports whether a name can be that of a server setting.
func isSettingName(name string) bool {
	return name != "" && strings.Trim(name, wordChars+".$") == "" && strings.IndexByte("0123456789.$", name[0]) < 0
}

// ServerSetting returns what a new connection sets for a parameter of the server, whatever the case of its name, and whether
// it sets it. What is in libpq's options doesn't count.
func (c *Config) ServerSetting(name string) (value string, given bool) {
	for _, s := range c.Set {
		if strings.EqualFold(s.Name, name) {
			return s.Value, true
		}
	}
	return lookup(c.Conn.RuntimeParams, name)
}

// WithoutServerSettings returns a copy without some of the settings for the server, whatever the case of their names. What is in
// libpq's options stays.
func (c *Config) WithoutServerSettings(names ...string) *Config {
	rest := *c
	rest.Conn = c.Conn.Copy()
	rest.Set = slices.Clone(c.Set)
	for _, name := range names {
		drop(rest.Conn.RuntimeParams, name)
		rest.Set = slices.DeleteFunc(rest.Set, func(s Setting) bool { return strings.EqualFold(s.Name, name) })
	}
	return &rest
}
