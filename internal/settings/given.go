package settings

import (
	"reflect"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Given is what a program gives in code besides Values.
type Given struct {
	Conn  *pgx.ConnConfig // stands in place of the DSN, which may have our own keys besides; nil: there is none. It isn't changed
	Dials bool            // a function of its own makes network connections, which may be encrypted without TLS of pgx's
}

// connOption is what errors call Given.Conn.
const connOption = "option WithConnConfig"

// readGiven reads the configuration that is given in code, and the DSN beside it, which isn't looked for in variables.
func (l *loader) readGiven(dsn string) {
	d := &l.dsn
	d.params = make(map[string]string)
	if want := unfit(l.given.Conn); want != "" {
		l.problems.add(connOption, want)
		return
	}
	d.conn = l.given.Conn.Copy()
	l.checkHosts()
	texts := l.sortGiven(d.conn.RuntimeParams)
	if d.conn.ConnectTimeout > 0 {
		texts["connect_timeout"] = d.conn.ConnectTimeout.String()
	}
	l.readBeside(dsn, texts)
	d.values = parse(texts, l.namer(SourceDSN), &l.problems)
}

// readBeside adds the keys of the DSN beside a configuration to texts.
func (l *loader) readBeside(dsn string, texts map[string]string) {
	const rule = "the DSN may have only keys of pgprod's own, as key=value pairs, and not say where to connect"
	d := &l.dsn
	if strings.TrimSpace(dsn) == "" {
		return
	}
	d.scanned = scan(strings.TrimLeft(dsn, spaces))
	if d.url || len(d.pairs) == 0 || strings.Trim(d.text[d.pairs[len(d.pairs)-1].end:], spaces) != "" {
		l.problems.add("DSN and "+connOption, rule)
		return
	}
	for _, p := range d.pairs {
		switch {
		case rowOf(p.key) != nil:
			texts[p.key] = p.value
		case !isSettingName(p.key): // it may be anything, a part of a password too
			l.problems.add("DSN and "+connOption, rule)
		default:
			l.problems.add(d.name(p.key)+" and "+connOption, rule)
		}
	}
}

// sortGiven divides the run-time parameters of a configuration into our own keys, which it returns, and the server's. Ours are
// there if the DSN that pgx has parsed had them.
func (l *loader) sortGiven(params map[string]string) (texts map[string]string) {
	texts = make(map[string]string)
	for _, key := range sortedKeys(params) {
		if rowOf(key) != nil {
			texts[key] = params[key]
		} else if hint := misspelt(key); hint != "" && isSettingName(key) {
			l.problems.add(connOption+": run-time parameter "+key, hint)
		} else {
			l.dsn.params[key] = params[key]
		}
	}
	return texts
}

// unfit says what is wrong with a configuration of pgx's; "": nothing.
func unfit(conn *pgx.ConnConfig) string {
	switch {
	case !parsed(reflect.ValueOf(conn)) || !parsed(reflect.ValueOf(&conn.Config)):
		return "must be the result of pgx.ParseConfig, changed or not"
	case replacesWatcher(conn):
		return "BuildContextWatcherHandler must be as pgx.ParseConfig has set it: command_timeout and the caller's context end " +
			"statements by a handler of pgprod's own"
	}
	return ""
}

// parsed reports whether pgx's ParseConfig has made a configuration. Without its mark pgx panics.
func parsed(config reflect.Value) bool {
	mark := config.Elem().FieldByName("createdByParseConfig")
	return !mark.IsValid() || mark.Bool()
}

// replacesWatcher reports whether a configuration has another BuildContextWatcherHandler than pgx's, which is recognised by its
// code.
func replacesWatcher(conn *pgx.ConnConfig) bool {
	plain, err := pgx.ParseConfig("host=localhost sslmode=disable connect_timeout=1")
	if err != nil || conn.BuildContextWatcherHandler == nil {
		return false // a variable of libpq's is wrong, so that nothing can be compared
	}
	return reflect.ValueOf(conn.BuildContextWatcherHandler).Pointer() != reflect.ValueOf(plain.BuildContextWatcherHandler).Pointer()
}
