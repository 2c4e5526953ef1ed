package settings

import (
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// dsnParts is what the DSN says, and what pgx made of it.
type dsnParts struct {
	scanned
	variable string          // the environment variable that held the DSN; "": none, it was Load's argument
	conn     *pgx.ConnConfig // what pgx made of the DSN; nil: pgx refused it, and problems has the reason

	values  Values            // our own keys in the DSN
	params  map[string]string // run-time parameters of the server in the DSN
	ambient map[string]string // run-time parameters of the server that pgx took from PG* variables or a service file

	service map[string]string // the section of libpq's service file that pgx read; nil: there is none, or it wasn't found
	nowhere bool              // neither a DSN nor any variable says which database is meant

	registered bool // the DSN is a name that stdlib.RegisterConnConfig gave to a configuration
}

// name is what errors call a key of the DSN.
func (d *dsnParts) name(key string) string {
	if d.variable != "" {
		return "DSN key " + key + " in " + d.variable
	}
	return "DSN key " + key
}

// self is what errors call the DSN as a whole.
func (d *dsnParts) self() string {
	if d.variable != "" {
		return "variable " + d.variable
	}
	return "DSN"
}

// hasPassword reports whether the DSN has a password that isn't empty.
func (d *dsnParts) hasPassword() bool {
	password, _ := d.get("password")
	return password != ""
}

// whereabouts are libpq's variables that say which database is meant.
var whereabouts = []string{"PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE"}

// findDSN returns the DSN and the variable that it was found in. An argument that isn't empty is the DSN. Else it is in a
// variable, DB_DSN or DATABASE_URL. Else the DSN is empty, and pgx takes libpq's variables.
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
		// Somebody chose a prefix, and so meant to name a database: an error is better than libpq's default host.
		l.problems.add("variable "+names[0], "must hold the DSN, since the DSN is empty and PGHOST and PGSERVICE are not set")
	}
	l.dsn.nowhere = !slices.ContainsFunc(whereabouts, func(name string) bool { return l.vars[name] != "" })
	return "", ""
}

// readDSN has pgx parse the DSN. pgx takes our keys for run-time parameters of the server, from which sortParams takes them.
func (l *loader) readDSN(text, variable string) {
	d := &l.dsn
	text = strings.TrimLeft(text, spaces)
	if scan(text).url {
		text = strings.TrimRight(text, spaces) // a variable that was filled from a file often ends in a newline
	}
	text = take(text)
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
	l.checkPlaceholder()
	texts := l.sortParams(params)
	texts["connect_timeout"] = timeout
	d.values = parse(texts, l.namer(SourceDSN), &l.problems)
}

// checkHosts refuses an @ in a host or a database: it is there if a password isn't escaped, of which the rest is then taken
// for the host. That rest would be in the pool's name, in metrics, in logs and in DNS queries.
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
		// A leading @ means an abstract socket, and the directory of a socket may have an @ anywhere.
		if strings.LastIndexByte(e.host, '@') > 0 && e.host[0] != '/' {
			l.problems.add(l.whereGiven("host"), "has an @, as no host has: "+escape)
			return
		}
	}
}

// sortParams divides pgx's run-time parameters into our own keys, which it returns, and the server's: params are those in
// the DSN, ambient those from elsewhere. It reports what looks like a misspelt key of ours; the server would refuse that
// too, but later and less clearly.
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
			} else { // it may be anything, a part of a password too, so the error doesn't show it
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
