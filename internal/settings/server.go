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

// serverDefaults are the settings of the production guide.
const serverDefaults = "jit=off,random_page_cost=1.1,effective_cache_size=1GB,idle_in_transaction_session_timeout=300000"

// programName is what application_name says unless told otherwise: the program's file, within the server's limits.
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

// serverParams settles the run-time parameters: those that pgx took from its own environment lie over our defaults,
// those in the DSN over server_settings in the DSN, and the options in code over everything. To the server what is in
// libpq's options is weaker than any parameter beside it, so the defaults give way to it.
func (l *loader) serverParams() map[string]string {
	byDefault := merged(defaults.ServerSettings, map[string]string{"application_name": programName()})
	given := merged(l.dsn.ambient, l.env.ServerSettings, l.dsn.values.ServerSettings, l.dsn.params, l.code.ServerSettings)
	options, _ := lookup(given, "options")
	for _, name := range optionNames(options) {
		drop(byDefault, name)
	}
	return merged(byDefault, given)
}

// merged returns the union of maps, later ones winning.
func merged(layers ...map[string]string) map[string]string {
	all := make(map[string]string)
	for _, m := range layers {
		for _, name := range sortedKeys(m) {
			put(all, name, m[name])
		}
	}
	return all
}

// put sets a server setting; to the server jit and JIT are the same name.
func put(m map[string]string, name, value string) {
	drop(m, name)
	m[name] = value
}

func drop(m map[string]string, name string) {
	maps.DeleteFunc(m, func(have, _ string) bool { return strings.EqualFold(have, name) })
}

func lookup(m map[string]string, name string) (string, bool) {
	for have, value := range m {
		if strings.EqualFold(have, name) {
			return value, true
		}
	}
	return "", false
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// checkEncoding refuses what would change texts without a word: pgx takes what it gets from the server for UTF-8.
func (l *loader) checkEncoding() {
	encoding, _ := lookup(l.serverParams(), "client_encoding")
	plain := strings.NewReplacer("-", "", "_", "", "'", "").Replace(strings.ToLower(encoding))
	if !slices.Contains([]string{"", "utf8", "unicode"}, plain) {
		l.problems.add("server setting client_encoding", "must be UTF8, as Go's texts are")
	}
}

// backstop adds a statement_timeout a second above our own, for when this program dies or hangs with a statement on the
// server. What the user said of statement_timeout, in libpq's options too, stands.
func backstop(params map[string]string, command time.Duration) {
	options, _ := lookup(params, "options")
	isTimeout := func(name string) bool { return strings.EqualFold(name, "statement_timeout") }
	if _, given := lookup(params, "statement_timeout"); given || command <= 0 || slices.ContainsFunc(optionNames(options), isTimeout) {
		return
	}
	// The server's unit is the millisecond, and its limit that of an int32.
	ms := min(int64(math.MaxInt32), int64(command/time.Millisecond)+1000)
	params["statement_timeout"] = strconv.FormatInt(ms, 10)
}

// startupOnly are parameters that can't be set later, or that every pooler knows.
var startupOnly = []string{"application_name", "client_encoding", "options", "replication"}

// split parts the run-time parameters into those of the startup message and those to be set afterwards. Empty ones are
// dropped.
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

// areServerSettings checks what a map in code may hold; texts can't get past the parser.
func areServerSettings(v reflect.Value) bool {
	for it := v.MapRange(); it.Next(); {
		if !isSettingName(it.Key().String()) || strings.ContainsRune(it.Value().String(), 0) {
			return false
		}
	}
	return true
}

func isSettingName(name string) bool {
	return name != "" && strings.Trim(name, wordChars+".$") == "" && strings.IndexByte("0123456789.$", name[0]) < 0
}
