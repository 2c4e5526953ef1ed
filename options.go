package pgprod

import (
	"bytes"
	"context"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.opentelemetry.io/otel/propagation"

	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/settings"
)

// Options holds every setting as one struct, for config files: decode the `database:` section of a JSON or YAML file
// into it and pass it to [WithOptions]. A nil field is not set, and an empty text counts as not set: the DSN, the
// environment, the profile or the default decides. (An empty text for a duration is an error: leave the key out, or say
// null.)
type Options struct {
	// Profile sets PoolSize, MaxOverflow, PoolTimeout and PoolRecycle together: small is 10, 5, 20s, 30m; medium is
	// 20, 10, 30s, 30m; large is 50, 20, 10s, 15m. Default: medium.
	Profile *string `json:"profile,omitempty" yaml:"profile,omitempty"`

	// PoolSize is the number of connections kept when idle, at least 1. Default: 20.
	PoolSize *int `json:"pool_size,omitempty" yaml:"pool_size,omitempty"`

	// MaxOverflow is the number of connections opened beyond PoolSize and closed when given back. Default: 10;
	// 0 means none, -1 means no limit.
	MaxOverflow *int `json:"max_overflow,omitempty" yaml:"max_overflow,omitempty"`

	// PoolTimeout is the longest wait for a connection, retries of dialling included. Default: 30s; 0 means no limit
	// but the caller's context.
	PoolTimeout *Duration `json:"pool_timeout,omitempty" yaml:"pool_timeout,omitempty"`

	// PoolRecycle is the age at which a connection is replaced, less up to 10 % jitter. Default: 30m; 0 means never.
	PoolRecycle *Duration `json:"pool_recycle,omitempty" yaml:"pool_recycle,omitempty"`

	// PoolIdleTimeout is how long a connection may lie idle before it is closed. Default: 10m; 0 means for ever.
	PoolIdleTimeout *Duration `json:"pool_idle_timeout,omitempty" yaml:"pool_idle_timeout,omitempty"`

	// PoolPrePing says when a connection is checked before it is lent: auto peeks at the socket each time and pings
	// after an idle second; always pings each time; off never checks. In a config file true means always and false
	// means off. Default: auto.
	PoolPrePing *PrePing `json:"pool_pre_ping,omitempty" yaml:"pool_pre_ping,omitempty"`

	// PoolName names the pool in metrics and logs. Default: host:port/database.
	PoolName *string `json:"pool_name,omitempty" yaml:"pool_name,omitempty"`

	// Environment is production or development; development turns Echo and EchoPool on and leaves the choice of TLS
	// to libpq's rules. Default: production.
	Environment *Environment `json:"environment,omitempty" yaml:"environment,omitempty"`

	// Echo logs every statement. Default: false, and true in development.
	Echo *bool `json:"echo,omitempty" yaml:"echo,omitempty"`

	// EchoPool logs every event of the pool. Default: false, and true in development.
	EchoPool *bool `json:"echo_pool,omitempty" yaml:"echo_pool,omitempty"`

	// SlowQuery is the duration from which a statement is logged as slow. Default: 1s; 0 means never.
	SlowQuery *Duration `json:"slow_query,omitempty" yaml:"slow_query,omitempty"`

	// LeakDetection is how long a connection may be held before its borrower's stack is logged. Default: 1m; 0 means
	// never.
	LeakDetection *Duration `json:"leak_detection,omitempty" yaml:"leak_detection,omitempty"`

	// Preflight says whether to look once, after the first connection and in the background, at what the server thinks
	// of it: a superuser's role, no TLS, too few connections left, settings that aren't in force, an old version, clocks
	// apart. Each is logged as a warning and part of Check's result. Default: true.
	Preflight *bool `json:"preflight,omitempty" yaml:"preflight,omitempty"`

	// ServerSettings are run-time parameters of the server, by name, merged over the defaults; an empty value drops
	// the name. Defaults: jit=off, random_page_cost=1.1, effective_cache_size=1GB,
	// idle_in_transaction_session_timeout=300000, application_name=the program's name.
	ServerSettings map[string]string `json:"server_settings,omitempty" yaml:"server_settings,omitempty"`

	// ServerSettingsMode is startup, which sends the server settings with the startup message, or set, which makes
	// them after connecting and works behind PgBouncer. Default: startup.
	ServerSettingsMode *ServerSettingsMode `json:"server_settings_mode,omitempty" yaml:"server_settings_mode,omitempty"`

	// CommandTimeout is the longest time for one statement, its rows included. The server's statement_timeout is set
	// a second above it, unless given. Default: 30s; 0 means no limit.
	CommandTimeout *Duration `json:"command_timeout,omitempty" yaml:"command_timeout,omitempty"`

	// ConnectTimeout is the longest time for one dial. Default: 5s; libpq's PGCONNECT_TIMEOUT counts where
	// DB_CONNECT_TIMEOUT isn't set; 0 is an error.
	ConnectTimeout *Duration `json:"connect_timeout,omitempty" yaml:"connect_timeout,omitempty"`

	// PasswordFile is the path of a file that holds the password; it is read at every dial, so that a rotated
	// password needs no restart. Default: none.
	PasswordFile *string `json:"password_file,omitempty" yaml:"password_file,omitempty"`

	// EnvPrefix begins the names of the environment variables: another one serves a second database in the same
	// process. Default: DB_.
	EnvPrefix *string `json:"env_prefix,omitempty" yaml:"env_prefix,omitempty"`
}

// values is o as the settings package reads it, whose fields have the same names and the same kinds.
func (o Options) values() settings.Values {
	var v settings.Values
	from, to := reflect.ValueOf(o), reflect.ValueOf(&v).Elem()
	for field, value := range to.Fields() {
		value.Set(from.FieldByName(field.Name).Convert(field.Type))
	}
	return v
}

// Duration is a time.Duration that a config file may write as 30s, as 1m30s, or as a number of seconds, and code as
// Duration(30 * time.Second).
type Duration time.Duration

var (
	_ fmt.Stringer             = Duration(0)
	_ encoding.TextMarshaler   = Duration(0)
	_ encoding.TextUnmarshaler = (*Duration)(nil)
	_ json.Unmarshaler         = (*Duration)(nil)
)

// String writes the duration as time.Duration does.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads 30s, 1m30s, 30 and 0.25; the last two are seconds.
func (d *Duration) UnmarshalText(text []byte) error {
	return (*settings.Duration)(d).UnmarshalText(text)
}

// UnmarshalJSON reads a number of seconds, or a string as UnmarshalText does.
func (d *Duration) UnmarshalJSON(data []byte) error { return unmarshalJSON(data, d) }

// PrePing says when a connection is checked before it is lent; see [WithPoolPrePing].
type PrePing string

// The values of pool_pre_ping.
const (
	PrePingAuto   PrePing = "auto"   // peek at the socket at each borrow, ping after an idle second
	PrePingAlways PrePing = "always" // ping at each borrow
	PrePingOff    PrePing = "off"    // never
)

var (
	_ encoding.TextUnmarshaler = (*PrePing)(nil)
	_ json.Unmarshaler         = (*PrePing)(nil)
)

// UnmarshalText reads auto, always, off, or a boolean: true is always, false is off.
func (p *PrePing) UnmarshalText(text []byte) error { return (*settings.PrePing)(p).UnmarshalText(text) }

// UnmarshalJSON reads the values true and false as well as a string.
func (p *PrePing) UnmarshalJSON(data []byte) error { return unmarshalJSON(data, p) }

// unmarshalJSON reads a string as the text that it holds, and a number or a boolean as it is written. null changes nothing.
func unmarshalJSON(data []byte, into encoding.TextUnmarshaler) error {
	if string(data) == "null" {
		return nil
	}
	return into.UnmarshalText(bytes.Trim(data, `"`))
}

// Environment is where the program runs; see [WithEnvironment]. It is a string by another name, so that a text that the
// program has read will do.
type Environment = string

// The values of environment.
const (
	Production  Environment = "production"
	Development Environment = "development"
)

// ServerSettingsMode is how the server settings are made; see [WithServerSettingsMode]. It is a string by another name, so
// that a text that the program has read will do.
type ServerSettingsMode = string

// The values of server_settings_mode.
const (
	ServerSettingsStartup ServerSettingsMode = "startup" // with the startup message, which costs no round trip
	ServerSettingsSet     ServerSettingsMode = "set"     // with set_config after connecting, which works behind PgBouncer
)

// Option is one setting made in code. It wins over the DSN, the environment, the profile and the default; of two
// options for the same setting the later wins. An empty text counts as not set. An Option may be used for several pools.
type Option func(*config)

// config collects what options say.
type config struct {
	values   settings.Values
	logger   *slog.Logger // nil: slog.Default()
	password func(context.Context) (string, error)
	notice   func(*pgconn.Notice)

	telemetry  instruments.Options
	commenter  SQLCommenterMode
	tags       func(context.Context) map[string]string
	propagator propagation.TextMapPropagator
}

// resolve applies the options over the DSN and the process's environment, and validates the outcome.
func resolve(dsn string, opts []Option) (*settings.Config, config, error) {
	var c config
	for _, opt := range opts {
		if opt != nil {
			opt(&c)
		}
	}
	s, err := settings.Load(dsn, os.Environ(), c.values, c.password != nil)
	return s, c, errors.Join(err, c.checkCommenter())
}

// WithOptions makes every setting that o holds; server settings are merged by name. Default: none.
func WithOptions(o Options) Option {
	values := settings.Values{}
	values.Apply(o.values()) // a copy: the caller may go on changing o
	return func(c *config) { c.values.Apply(values) }
}

// WithProfile sets size, overflow, wait and age of the pool together: small, medium or large, see [Options].
// Default: medium.
func WithProfile(profile string) Option {
	return func(c *config) { c.values.Profile = &profile }
}

// WithPoolSize sets the number of connections kept when idle, at least 1. Default: 20; 0 is an error.
func WithPoolSize(n int) Option {
	return func(c *config) { c.values.PoolSize = &n }
}

// WithMaxOverflow sets the number of connections opened beyond the pool's size and closed when given back.
// Default: 10; 0 means none, -1 means no limit.
func WithMaxOverflow(n int) Option {
	return func(c *config) { c.values.MaxOverflow = &n }
}

// WithPoolTimeout sets the longest wait for a connection, retries of dialling included. Default: 30s; 0 means no limit
// but the caller's context.
func WithPoolTimeout(d time.Duration) Option {
	return func(c *config) { c.values.PoolTimeout = (*settings.Duration)(&d) }
}

// WithPoolRecycle sets the age at which a connection is replaced, less up to 10 % jitter. Default: 30m; 0 means never.
func WithPoolRecycle(d time.Duration) Option {
	return func(c *config) { c.values.PoolRecycle = (*settings.Duration)(&d) }
}

// WithPoolIdleTimeout sets how long a connection may lie idle before it is closed. Default: 10m; 0 means for ever.
func WithPoolIdleTimeout(d time.Duration) Option {
	return func(c *config) { c.values.PoolIdleTimeout = (*settings.Duration)(&d) }
}

// WithPoolPrePing says when a connection is checked before it is lent: auto peeks at the socket each time and pings
// after an idle second, always pings each time, off never checks. A text that the program has read will do. Default: auto.
func WithPoolPrePing[Mode PrePing | string](mode Mode) Option {
	return func(c *config) { c.values.PoolPrePing = new(settings.PrePing(mode)) }
}

// WithPoolName names the pool in metrics and logs; a name that another open pool has gets #2, #3, … behind it.
// Default: host:port/database.
func WithPoolName(name string) Option {
	return func(c *config) { c.values.PoolName = &name }
}

// WithEnvironment says production or development; development turns echo and echo_pool on and leaves the choice of TLS
// to libpq's rules. Default: production.
func WithEnvironment(environment Environment) Option {
	return func(c *config) { c.values.Environment = &environment }
}

// WithEcho logs every statement. Default: false, and true in development.
func WithEcho(on bool) Option {
	return func(c *config) { c.values.Echo = &on }
}

// WithEchoPool logs every event of the pool. Default: false, and true in development.
func WithEchoPool(on bool) Option {
	return func(c *config) { c.values.EchoPool = &on }
}

// WithSlowQuery sets the duration from which a statement is logged as slow. Default: 1s; 0 means never.
func WithSlowQuery(d time.Duration) Option {
	return func(c *config) { c.values.SlowQuery = (*settings.Duration)(&d) }
}

// WithLeakDetection sets how long a connection may be held before its borrower's stack is logged. Default: 1m; 0 means
// never.
func WithLeakDetection(d time.Duration) Option {
	return func(c *config) { c.values.LeakDetection = (*settings.Duration)(&d) }
}

// WithPreflight sets whether to look once, after the first connection, for what is wrong with the server, the role or
// their settings; see [Options]. Default: true.
func WithPreflight(on bool) Option {
	return func(c *config) { c.values.Preflight = &on }
}

// WithServerSettings sets run-time parameters of the server by name, merged over the defaults and over earlier options;
// an empty value drops the name. Defaults: jit=off, random_page_cost=1.1, effective_cache_size=1GB,
// idle_in_transaction_session_timeout=300000, application_name=the program's name.
func WithServerSettings(params map[string]string) Option {
	values := settings.Values{ServerSettings: maps.Clone(params)}
	return func(c *config) { c.values.Apply(values) }
}

// WithServerSettingsMode says how server settings are made: startup sends them with the startup message, set makes them
// after connecting and works behind PgBouncer. Default: startup.
func WithServerSettingsMode(mode ServerSettingsMode) Option {
	return func(c *config) { c.values.ServerSettingsMode = &mode }
}

// WithCommandTimeout sets the longest time for one statement, its rows included. The server's statement_timeout is set
// a second above it, unless given. Default: 30s; 0 means no limit.
func WithCommandTimeout(d time.Duration) Option {
	return func(c *config) { c.values.CommandTimeout = (*settings.Duration)(&d) }
}

// WithConnectTimeout sets the longest time for one dial. Default: 5s; 0 is an error.
func WithConnectTimeout(d time.Duration) Option {
	return func(c *config) { c.values.ConnectTimeout = (*settings.Duration)(&d) }
}

// WithPasswordFile names a file that holds the password; it is read at every dial, so that a rotated password needs no
// restart. A file that can't be read is an error, as is a password besides, in the DSN or the environment. Default: none.
func WithPasswordFile(path string) Option {
	return func(c *config) { c.values.PasswordFile = &path }
}

// WithEnvPrefix sets the beginning of the environment variables' names: another one serves a second database in the
// same process. Default: DB_.
func WithEnvPrefix(prefix string) Option {
	return func(c *config) { c.values.EnvPrefix = &prefix }
}

// WithLogger sets where the driver logs. Default: slog.Default(), which nil means as well.
func WithLogger(logger *slog.Logger) Option {
	return func(c *config) { c.logger = logger }
}

// WithPasswordFunc sets a function that is called at every dial for the password, as for tokens that expire. Dials that
// begin while a call is under way wait for its result, so that there is one call at a time for each pool: it has to end
// with its context. It must be safe for concurrent use where several pools share it. Its error fails the dial, which is
// repeated; if the server refuses the role or the password, it is asked anew for two seconds before callers are told. An
// empty password is none: DB_PASSWORD, PGPASSWORD and the passfile aren't asked instead, lest an old one be used. It can't
// be combined with a password file or with a password in the DSN. Default: none, which nil means as well.
func WithPasswordFunc(password func(ctx context.Context) (string, error)) Option {
	return func(c *config) { c.password = password }
}

// WithNoticeHandler sets a function that is called for each notice of the server: of every severity, complete, and also
// those that come while a connection is made or checked. Warnings are logged besides, without what may be a value.
//
// The handler is called by whichever goroutine reads from the connection, in the midst of a statement: that of the
// statement's caller, or one of the pool's while it connects or checks. So calls of several connections overlap, the
// handler must be safe for concurrent use, must not block, and must not use the connection or wait for its caller. A
// panic in it is one in the middle of the statement, as with pgx, and costs the connection; while connecting, where there
// is no caller, it ends the program.
// Default: none, which nil means as well.
func WithNoticeHandler(handler func(*pgconn.Notice)) Option {
	return func(c *config) { c.notice = handler }
}
