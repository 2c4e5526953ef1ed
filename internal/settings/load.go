package settings

import (
	"fmt"
	"time"

	"github.com/caarlos0/env/v11"
)

// Load reads and validates all settings. environ has entries NAME=value, as os.Environ returns them; code has the options.
// loginFrom names the option whose function supplies the password, "" if there is none: a password file or a password in the
// DSN is then an error. All that is wrong is in the one error that Load returns, a line for each.
func Load(dsn string, environ []string, code Values, loginFrom string) (*Config, error) {
	return LoadGiven(Given{}, dsn, environ, code, loginFrom)
}

// LoadGiven is Load for a program that gives more in code than values.
func LoadGiven(given Given, dsn string, environ []string, code Values, loginFrom string) (*Config, error) {
	l := loader{given: given, vars: env.ToMap(environ), loginFrom: loginFrom}
	l.readCode(code)
	if given.Conn != nil {
		l.readGiven(dsn)
	} else {
		l.readDSN(l.findDSN(dsn))
	}
	l.readEnvironment()
	l.settle()
	l.checkMin()
	l.checkPassword()
	if l.dsn.conn != nil {
		l.requireTLS()
		l.checkEncoding()
	}
	if err := l.problems.err(); err != nil {
		return nil, err
	}
	return l.config(), nil
}

// A loader is the state of one call of Load, which calls its methods in the order above.
type loader struct {
	given     Given
	vars      map[string]string // the environment
	loginFrom string            // the option whose function supplies the password; "": there is none

	code   Values   // the options in code
	env    Values   // what environment variables say
	dsn    dsnParts // the DSN, and what it says
	prefix string   // what the names of environment variables begin with

	values   Values            // all layers merged
	sources  map[string]Source // which layer each value is from, by DSN key
	problems problems
}

// defaults is the weakest layer, profileValues, by the profile's name, the one above it. Their texts are in the table, and
// go through the parser like all others.
var defaults = func() Values {
	texts := make(map[string]string)
	for _, r := range table {
		texts[r.key] = r.initial
	}
	return mustParse(texts)
}()

var profileValues = func() map[string]Values {
	all := make(map[string]Values)
	for name, texts := range profiles {
		all[name] = mustParse(texts)
	}
	return all
}()

// mustParse is parse for texts of our own.
func mustParse(texts map[string]string) Values {
	var ps problems
	v := parse(texts, func(r *row) string { return r.key }, &ps)
	if err := ps.err(); err != nil {
		panic(err)
	}
	return v
}

// readCode copies and checks the options in code. They may set the prefix of the environment variables, which findDSN needs.
func (l *loader) readCode(code Values) {
	l.code.Apply(code) // a copy
	l.code.check(l.namer(SourceOption), &l.problems)
	l.prefix = *defaults.EnvPrefix
	l.choosePrefix(l.code.EnvPrefix)
}

// choosePrefix sets the prefix of the environment variables, if one is given.
func (l *loader) choosePrefix(prefix *string) {
	if prefix != nil && *prefix != "" {
		l.prefix = *prefix
	}
}

// readEnvironment reads the variables with the prefix from code, else the one from the DSN, else the default.
func (l *loader) readEnvironment() {
	if p := l.code.EnvPrefix; p == nil || *p == "" {
		l.choosePrefix(l.dsn.values.EnvPrefix)
	}
	texts := make(map[string]string)
	for _, r := range table {
		if text := l.vars[l.prefix+r.env()]; text != "" && !r.noEnv {
			texts[r.key] = text
		}
	}
	l.env = parse(texts, l.namer(SourceEnvironment), &l.problems)
	if l.env.ConnectTimeout == nil && l.dsn.values.ConnectTimeout == nil && l.code.ConnectTimeout == nil {
		l.env.ConnectTimeout = l.libpqTimeout()
	}
	if l.vars[l.prefix+"ENV_PREFIX"] != "" {
		l.problems.add("variable "+l.prefix+"ENV_PREFIX", "can't name the variables that are to be read; "+
			"option WithEnvPrefix or DSN key env_prefix serves")
	}
}

// libpqTimeout is connect_timeout from libpq's service file, else from PGCONNECT_TIMEOUT. Unlike libpq we take durations
// too.
func (l *loader) libpqTimeout() *Duration {
	where, text := "variable PGCONNECT_TIMEOUT", l.vars["PGCONNECT_TIMEOUT"]
	if inFile := l.dsn.service["connect_timeout"]; inFile != "" {
		where, text = "service file: connect_timeout", inFile
	}
	texts := map[string]string{"connect_timeout": text}
	return parse(texts, func(*row) string { return where }, &l.problems).ConnectTimeout
}

// settle merges the layers. It does so twice: the first time it finds out which profile and which environment win, since
// these bring defaults of their own.
func (l *loader) settle() {
	given := []layer{{SourceEnvironment, l.env}, {SourceDSN, l.dsn.values}, {SourceOption, l.code}}
	chosen, from := stack(append([]layer{{SourceDefault, defaults}}, given...)...)

	implied := Values{}
	if *chosen.Environment == Development {
		implied.Echo, implied.EchoPool, implied.SlowQueryPlan = new(true), new(true), new(true)
	}
	profile := layer{SourceProfile, profileValues[*chosen.Profile]}
	if from["profile"] == SourceDefault {
		profile.source = SourceDefault
	}
	below := []layer{{SourceDefault, defaults}, {SourceDefault, implied}, profile}
	l.values, l.sources = stack(append(below, given...)...)
}

// checkMin adds a problem if more connections shall be kept than there is room for.
func (l *loader) checkMin() {
	if size := *l.values.PoolSize; *l.values.PoolMin > size {
		name := l.namer(l.sources["pool_min"])
		l.problems.add(name(rowOf("pool_min")), fmt.Sprintf("must be at most pool_size, which is %d", size))
	}
}

// namer returns the function that says what errors call a row of the table where it was given in a source.
func (l *loader) namer(source Source) func(*row) string {
	return func(r *row) string {
		switch source {
		case SourceOption:
			return "option " + r.option()
		case SourceDSN:
			return l.dsn.name(r.key)
		case SourceEnvironment:
			return "variable " + l.prefix + r.env()
		default:
			return r.key
		}
	}
}

// config makes the Config, when everything has been checked.
func (l *loader) config() *Config {
	v, conn := &l.values, l.dsn.conn
	c := &Config{
		Conn:    conn,
		Profile: text(v.Profile), Environment: text(v.Environment), EnvPrefix: l.prefix,
		PoolSize: *v.PoolSize, MaxOverflow: *v.MaxOverflow,
		PoolTimeout: time.Duration(*v.PoolTimeout), PoolRecycle: time.Duration(*v.PoolRecycle),
		PoolIdleTimeout: time.Duration(*v.PoolIdleTimeout),
		PoolMin:         *v.PoolMin,
		PoolName:        text(v.PoolName),
		Echo:            *v.Echo, EchoPool: *v.EchoPool,
		SlowQuery: time.Duration(*v.SlowQuery), SlowQueryPlan: *v.SlowQueryPlan, LeakDetection: time.Duration(*v.LeakDetection),
		Preflight:      *v.Preflight,
		CommandTimeout: time.Duration(*v.CommandTimeout), ConnectTimeout: time.Duration(*v.ConnectTimeout),
		ServerSettingsMode: text(v.ServerSettingsMode), PasswordFile: text(v.PasswordFile),
		PoolReset: text(v.PoolReset), EagerBegin: text(v.Begin) == BeginEager, TraceContext: text(v.TraceContext),
		OnceTable:          text(v.OnceTable),
		RandomHosts:        text(v.LoadBalanceHosts) == Balance,
		DeadAfter:          time.Duration(*v.DeadAfter),
		TargetSessionAttrs: targetSessionAttrs(conn), PasswordInDSN: l.dsn.hasPassword(),
		Given: l.given, Sources: l.sources, values: l.values, loginFrom: l.loginFrom,
	}
	c.PrePing, _ = parsePrePing(string(*v.PoolPrePing))
	if c.PoolName == "" {
		c.PoolName = c.Namespace() // as the conventions advise
	}
	if warning := l.tlsWarning(); warning != "" {
		c.Warnings = append(c.Warnings, warning)
	}
	if l.dsn.nowhere {
		c.NoDSN = "neither " + l.prefix + "DSN nor DATABASE_URL nor PGHOST is set"
	}

	params := l.serverParams()
	backstop(params, c.CommandTimeout)
	c.OnlyDefaults = l.onlyDefaults(params)
	conn.RuntimeParams, c.Set = split(params, c.ServerSettingsMode)
	l.setPassword(conn)
	if conn.ConnectTimeout = c.ConnectTimeout; l.given.Conn == nil {
		setConnectTimeout(conn, c.ConnectTimeout)
	}
	return c
}

// text is the text that a field points to; "": the field isn't set.
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
