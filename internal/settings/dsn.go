package settings

import (
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

	ambientTimeout *Duration // connect_timeout from there
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
	return "", ""
}

// readDSN has pgx parse the DSN and takes our keys out of its run-time parameters.
func (l *loader) readDSN(text, variable string) {
	d := &l.dsn
	text = strings.TrimLeft(text, spaces)
	if scan(text).url {
		text = strings.TrimRight(text, spaces) // a variable that was filled from a file often ends in a newline
	}
	original := scan(text)
	timeout, hasTimeout := original.get("connect_timeout")
	d.scanned, d.variable = scan(original.forPgx()), variable

	conn, err := pgx.ParseConfig(d.text)
	params := make(map[string]string)
	switch {
	case err == nil:
		d.conn, params = conn, conn.RuntimeParams
		if !hasTimeout && conn.ConnectTimeout > 0 {
			d.ambientTimeout = new(Duration(conn.ConnectTimeout))
		}
	case l.explain(err):
		for _, p := range d.pairs {
			params[p.key] = p.value
		}
	}
	texts := l.sortParams(params)
	texts["connect_timeout"] = timeout
	d.values = parse(texts, l.namer(SourceDSN), &l.problems)
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
