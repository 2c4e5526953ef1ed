package settings

import (
	"time"

	"github.com/caarlos0/env/v11"
)

// Load settles every setting. The environment is lines of NAME=value, as os.Environ returns them. hasPasswordFunc tells
// that code supplies passwords, which contradicts a password file and a password in the DSN. Everything that is wrong
// is in the one error.
func Load(dsn string, environ []string, code Values, hasPasswordFunc bool) (*Config, error) {
	l := loader{vars: env.ToMap(environ), hasPasswordFunc: hasPasswordFunc}
	l.readCode(code)
	l.readDSN(l.findDSN(dsn))
	l.readEnvironment()
	l.settle()
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

// loader is one run of Load; its methods go in the order above.
type loader struct {
	vars            map[string]string
	hasPasswordFunc bool

	code, env Values
	dsn       dsnParts
	prefix    string // of environment variables

	values   Values // of all layers
	sources  map[string]Source
	problems problems
}

// defaults is the lowest layer, and profileValues the one above; both go through the parser like any other text.
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

func mustParse(texts map[string]string) Values {
	var ps problems
	v := parse(texts, func(r *row) string { return r.key }, &ps)
	if err := ps.err(); err != nil {
		panic(err)
	}
	return v
}

func (l *loader) readCode(code Values) {
	l.code.Apply(code) // a copy
	l.code.check(l.namer(SourceOption), &l.problems)
	l.prefix = *defaults.EnvPrefix
	l.choosePrefix(l.code.EnvPrefix)
}

func (l *loader) choosePrefix(prefix *string) {
	if prefix != nil && *prefix != "" {
		l.prefix = *prefix
	}
}

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

// libpqTimeout is connect_timeout where only libpq has it. It may be a duration there too.
func (l *loader) libpqTimeout() *Duration {
	where, text := "variable PGCONNECT_TIMEOUT", l.vars["PGCONNECT_TIMEOUT"]
	if inFile := l.dsn.service["connect_timeout"]; inFile != "" {
		where, text = "service file: connect_timeout", inFile
	}
	texts := map[string]string{"connect_timeout": text}
	return parse(texts, func(*row) string { return where }, &l.problems).ConnectTimeout
}

// settle stacks the layers. Twice: the profile and the environment that win have defaults of their own.
func (l *loader) settle() {
	given := []layer{{SourceEnvironment, l.env}, {SourceDSN, l.dsn.values}, {SourceOption, l.code}}
	chosen, from := stack(append([]layer{{SourceDefault, defaults}}, given...)...)

	implied := Values{}
	if *chosen.Environment == Development {
		implied.Echo, implied.EchoPool = new(true), new(true)
	}
	profile := layer{SourceProfile, profileValues[*chosen.Profile]}
	if from["profile"] == SourceDefault {
		profile.source = SourceDefault
	}
	below := []layer{{SourceDefault, defaults}, {SourceDefault, implied}, profile}
	l.values, l.sources = stack(append(below, given...)...)
}

// namer names a row as the user wrote it in a source.
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

// config puts the outcome together; nothing can fail any more.
func (l *loader) config() *Config {
	v, conn := &l.values, l.dsn.conn
	c := &Config{
		Conn:    conn,
		Profile: text(v.Profile), Environment: text(v.Environment), EnvPrefix: l.prefix,
		PoolSize: *v.PoolSize, MaxOverflow: *v.MaxOverflow,
		PoolTimeout: time.Duration(*v.PoolTimeout), PoolRecycle: time.Duration(*v.PoolRecycle),
		PoolIdleTimeout: time.Duration(*v.PoolIdleTimeout),
		PoolName:        text(v.PoolName),
		Echo:            *v.Echo, EchoPool: *v.EchoPool,
		SlowQuery: time.Duration(*v.SlowQuery), LeakDetection: time.Duration(*v.LeakDetection),
		Preflight:      *v.Preflight,
		CommandTimeout: time.Duration(*v.CommandTimeout), ConnectTimeout: time.Duration(*v.ConnectTimeout),
		ServerSettingsMode: text(v.ServerSettingsMode), PasswordFile: text(v.PasswordFile),
		TargetSessionAttrs: targetSessionAttrs(conn), PasswordInDSN: l.dsn.hasPassword(),
		Sources: l.sources, values: l.values, hasPasswordFunc: l.hasPasswordFunc,
	}
	c.PrePing, _ = parsePrePing(string(*v.PoolPrePing))
	if c.PoolName == "" {
		c.PoolName = poolName(conn)
	}
	if warning := l.tlsWarning(); warning != "" {
		c.Warnings = append(c.Warnings, warning)
	}
	if l.dsn.nowhere {
		c.NoDSN = "neither " + l.prefix + "DSN nor DATABASE_URL nor PGHOST is set"
	}

	params := l.serverParams()
	backstop(params, c.CommandTimeout)
	conn.RuntimeParams, c.Set = split(params, c.ServerSettingsMode)
	l.setPassword(conn)
	setConnectTimeout(conn, c.ConnectTimeout)
	return c
}

// text is what a field of text says; stack has left no empty ones.
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
