package settings

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// A refusal is what we say in place of an error of pgx whose message begins with begins: the key that it is about, and what
// is allowed there.
type refusal struct{ begins, key, want string }

const wantDSN = "can't be read; a DSN is postgres://user@host:port/database?key=value&… or key=value pairs"

// syntaxErrors are about the DSN as a whole. pgx couldn't read it, so which keys it has isn't known.
var syntaxErrors = []refusal{
	{"failed to parse as URL (extra key/value separator", "",
		"is not a URL: a value in it has a =, write %3D"},
	{"failed to parse as URL (invalid percent-encoded token", "",
		"is not a URL: a % in it has no two hexadecimal digits, write %25 for the sign itself"},
	{"failed to parse as URL (unexpected spaces", "", "is not a URL: write %20 for a space"},
	{"failed to parse as URL", "", wantDSN},
	{"failed to parse as keyword/value (unterminated quoted string", "", "has a value whose closing quote is missing"},
	{"failed to parse as keyword/value", "", wantDSN},
}

// keyErrors are about one key of a DSN that could be read. The first one that matches counts.
var keyErrors = []refusal{
	{"invalid port", "port", "must be a number from 1 to 65535; in a URL's password write %3A for :, %2F for / and %40 for @"},
	{"could not match", "port", "must give one port, or one for every host"},
	{"unknown target_session_attrs value", "target_session_attrs",
		"must be any, read-write, read-only, primary, standby or prefer-standby"},
	{"failed to read service", "service", "must name a section of the service file, which must be readable"},
	{"invalid sslcertmode", "sslcertmode", "must be disable, allow or require"},
	{"invalid min_protocol_version", "min_protocol_version", "must be 3.0, 3.2 or latest"},
	{"invalid max_protocol_version", "max_protocol_version", "must be 3.0, 3.2 or latest"},
	{"min_protocol_version cannot be greater", "min_protocol_version", "must not be above max_protocol_version"},
	{"unknown channel_binding value", "channel_binding", "must be disable, prefer or require"},
	{"invalid require_auth", "require_auth",
		"must be a list of password, md5, gss, sspi, scram-sha-256, oauth and none, each or none of them after a !"},
	{"cannot parse statement_cache_capacity", "statement_cache_capacity", "must be a whole number"},
	{"cannot parse description_cache_capacity", "description_cache_capacity", "must be a whole number"},
	{"invalid default_query_exec_mode", "default_query_exec_mode",
		"must be cache_statement, cache_describe, describe_exec, exec or simple_protocol"},
	{"failed to configure TLS (sslmode is invalid", "sslmode",
		"must be disable, allow, prefer, require, verify-ca or verify-full"},
	{"failed to configure TLS (unable to load system certificate pool", "sslrootcert", "is system, which has no certificates"},
	{"failed to configure TLS (unable to read CA file", "sslrootcert", "can't be read"},
	{"failed to configure TLS (unable to add CA", "sslrootcert", "holds no PEM certificate"},
	{`failed to configure TLS (both "sslcert"`, "sslcert", "must be given together with sslkey"},
	{"failed to configure TLS (unable to read sslkey", "sslkey", "can't be read"},
	{"failed to configure TLS (failed to decode sslkey", "sslkey", "holds no PEM key"},
	{"failed to configure TLS (unable to find sslpassword", "sslpassword", "is missing, and sslkey is encrypted"},
	{"failed to configure TLS (unable to decrypt key", "sslpassword", "doesn't decrypt sslkey"},
	{"failed to configure TLS (unable to read cert", "sslcert", "can't be read"},
	{"failed to configure TLS (unable to load cert", "sslcert", "doesn't go with sslkey"},
	{"failed to configure TLS", "sslmode", "can't be satisfied: see sslrootcert, sslcert and sslkey"},
}

// explain adds an error of pgx to the problems, in our words. pgx's own error is never shown: it quotes the DSN, in which
// the password is masked by guessing, and has the whole DSN in a field. The result says whether the DSN's keys can be read.
func (l *loader) explain(err error) (readable bool) {
	if l.dsn.registered {
		l.problems.add(l.dsn.self(), "is a name of stdlib.RegisterConnConfig, whose configurations only the driver pgx knows: "+
			"give the DSN itself, and options to pgprod.Open")
		return false
	}
	var failed *pgconn.ParseConfigError
	if !errors.As(err, &failed) {
		l.problems.add(l.dsn.self(), wantDSN)
		return false
	}
	message := strings.TrimPrefix(err.Error(), pgconn.NewParseConfigError(failed.ConnString, "", nil).Error())
	for _, r := range syntaxErrors {
		if strings.HasPrefix(message, r.begins) {
			l.problems.add(l.dsn.self(), r.want)
			return false
		}
	}
	for _, r := range keyErrors {
		if strings.HasPrefix(message, r.begins) {
			want := r.want
			if mode, _ := l.dsn.get("sslmode"); r.key == "sslmode" && mode == "no-verify" {
				want += "; no-verify is node-postgres's, require serves here"
			}
			l.problems.wrap(l.whereGiven(r.key), want, l.fileError(err))
			return true
		}
	}
	l.problems.add(l.dsn.self(), "is refused by pgx")
	return true
}

// fileError returns the part of pgx's error that says why a file can't be read; nil if it is about something else. The path
// is in it only if it isn't from the DSN.
func (l *loader) fileError(err error) error {
	var failed *fs.PathError
	if !errors.As(err, &failed) {
		return nil
	}
	for _, p := range l.dsn.pairs {
		if p.value == failed.Path {
			return failed.Err
		}
	}
	return failed
}

// whereGiven is what errors call one of pgx's keys: a key of the DSN, or the PG* variable that has it. Where it is in
// neither (but in a service file) it is called a key of the DSN.
func (l *loader) whereGiven(key string) string {
	if _, ok := l.dsn.get(key); ok {
		return l.dsn.name(key)
	}
	variable := "PG" + strings.ToUpper(strings.ReplaceAll(key, "_", ""))
	if l.vars[variable] != "" {
		return "variable " + variable
	}
	return l.dsn.name(key)
}
