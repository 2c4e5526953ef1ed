package settings

import (
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// dsnParts is what the DSN says, and what pgx made of it.
type dsnParts struct {
	scanned
	variable string          // that the DSN was in, if any
	conn     *pgx.ConnConfig // nil: pgx refused the DSN, which is reported

	values  Values            // our keys
	params  map[string]string // run-time parameters in the DSN
	ambient map[string]string // run-time parameters that pgx took from PG* variables or a service file

	service map[string]string // the section of libpq's service file that pgx read, if any
	nowhere bool              // nothing at all was given, not even a host

	registered bool // it is a name that pgx/stdlib gave a configuration
}

// name names a key of the DSN in errors.
func (d *dsnParts) name(key string) string {
	if d.variable != "" {
		return "DSN key " + key + " in " + d.variable
	}
	return "DSN key " + key
}

// self names the DSN as a whole.
func (d *dsnParts) self() string {
	if d.variable != "" {
		return "variable " + d.variable
	}
	return "DSN"
}

func (d *dsnParts) hasPassword() bool {
	password, _ := d.get("password")
	return password != ""
}

// whereabouts are libpq's variables that tell which database is meant.
var whereabouts = []string{"PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE"}

// findDSN returns the DSN and the variable it was in: an empty DSN comes from the environment, and at last from libpq's
// variables, which pgx reads.
func (l *loader) findDSN(dsn string) (text, variable string) {
	if strings.TrimSpace(dsn) != "" {
		return dsn, ""
	}
	names := []string{l.prefix + "DSN"}
	byDefault := l.prefix == *defaults.EnvPrefix
	if byDefault {
		names = append(names, "DATABASE_URL")
	}
	for _, name := range names {
		if text := l.vars[name]; strings.TrimSpace(text) != "" {
			return text, name
		}
	}
	if !byDefault && l.vars["PGHOST"] == "" && l.vars["PGSERVICE"] == "" {
		// Rather than the host that libpq would make up: the prefix tells that a database was meant.
		l.problems.add("variable "+names[0], "must hold the DSN, since the DSN is empty and PGHOST and PGSERVICE are not set")
	}
	l.dsn.nowhere = !slices.ContainsFunc(whereabouts, func(name string) bool { return l.vars[name] != "" })
	return "", ""
}

// readDSN has pgx parse the DSN and takes our keys out of its run-time parameters.
func (l *loader) readDSN(text, variable string) {
	d := &l.dsn
	text = strings.TrimLeft(text, spaces)
	if scan(text).url {
		text = strings.TrimRight(text, spaces) // a variable that was filled from a file often ends in a newline
	}
	if wrong := foreignURL(text); wrong != "" {
		d.variable = variable
		l.problems.add(d.self(), wrong)
		return
	}
	d.registered = strings.HasPrefix(text, "registeredConnConfig") && !strings.Contains(text, "=")
	original := scan(text)
	timeout, _ := original.get("connect_timeout")
	d.scanned, d.variable = scan(original.forPgx()), variable
	l.readService()

	conn, err := pgx.ParseConfig(d.text)
	params := make(map[string]string)
	switch {
	case err == nil:
		d.conn, params = conn, conn.RuntimeParams
	case l.explain(err):
		for _, p := range d.pairs {
			params[p.key] = p.value
		}
	}
	l.checkHosts()
	texts := l.sortParams(params)
	texts["connect_timeout"] = timeout
	d.values = parse(texts, l.namer(SourceDSN), &l.problems)
}

// checkHosts refuses what can only be the end of a password that isn't escaped: as part of a host or a database it would
// be in names of pools, in metrics, in logs, and in questions to DNS.
func (l *loader) checkHosts() {
	const escape = "in a URL's user, password or database write %40 for @ and %2F for /"
	if l.dsn.stray {
		l.problems.add(l.dsn.self(), "has an @ where none can be: "+escape)
		return
	}
	if l.dsn.conn == nil {
		return
	}
	for _, e := range endpoints(l.dsn.conn) {
		if strings.LastIndexByte(e.host, '@') > 0 && e.host[0] != '/' { // in front it means an abstract socket; directories may
			l.problems.add(l.whereGiven("host"), "has an @, as no host has: "+escape)
			return
		}
	}
}

// sortParams parts run-time parameters into ours, which it returns, those in the DSN and those from elsewhere. What
// looks like a misspelt key of ours is reported: the server would only refuse it later, and less clearly.
func (l *loader) sortParams(params map[string]string) (texts map[string]string) {
	d := &l.dsn
	texts, d.params, d.ambient = make(map[string]string), make(map[string]string), make(map[string]string)
	for _, key := range sortedKeys(params) {
		if rowOf(key) != nil {
			texts[key] = params[key]
			continue
		}
		if hint := misspelt(key); hint != "" {
			if isSettingName(key) {
				l.problems.add(d.name(key), hint)
			} else { // it may be anything, so it isn't shown
				l.problems.add(d.self(), "has a key that "+hint)
			}
			continue
		}
		if _, inDSN := d.get(key); inDSN {
			d.params[key] = params[key]
		} else {
			d.ambient[key] = params[key]
		}
	}
	return texts
}
