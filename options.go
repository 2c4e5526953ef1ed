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

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.opentelemetry.io/otel/propagation"

	"github.com/pgprod/pgprod/internal/credentials"
	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/settings"
)

// Options has all settings in one struct, for config files: decode the `database:` section of a JSON or YAML file into it,
// and pass it to [WithOptions]. A field that is nil isn't set, and neither is an empty text: then the DSN, the environment,
// the profile or the default decides. (An empty text for a duration is an error: leave the key out, or write null.)
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

	// PoolMin is the number of connections made ahead, from the pool's first use on, and kept however long they lie
	// idle. At most PoolSize. Default: 0, each connection is made when it is needed.
	PoolMin *int `json:"pool_min,omitempty" yaml:"pool_min,omitempty"`

	// PoolPrePing says when a connection is checked before it is lent: auto peeks at the socket each time and pings
	// after an idle second; always pings each time; off never checks. In a config file true means always and false
	// means off. Default: auto.
	PoolPrePing *PrePing `json:"pool_pre_ping,omitempty" yaml:"pool_pre_ping,omitempty"`

	// PoolName names the pool in metrics and logs. Default: the name of the database.
	PoolName *string `json:"pool_name,omitempty" yaml:"pool_name,omitempty"`

	// Environment is production or development; development turns Echo, EchoPool and SlowQueryPlan on and leaves the
	// choice of TLS to libpq's rules. Default: production.
	Environment *Environment `json:"environment,omitempty" yaml:"environment,omitempty"`

	// Echo logs every statement. Default: false, and true in development.
	Echo *bool `json:"echo,omitempty" yaml:"echo,omitempty"`

	// EchoPool logs every event of the pool. Default: false, and true in development.
	EchoPool *bool `json:"echo_pool,omitempty" yaml:"echo_pool,omitempty"`

	// SlowQuery is the duration from which a statement is logged as slow. Default: 1s; 0 means never.
	SlowQuery *Duration `json:"slow_query,omitempty" yaml:"slow_query,omitempty"`

	// SlowQueryPlan says whether the live page shows plans of slow statements; see [WithSlowQueryPlan]. Default: false, and
	// true in development.
	SlowQueryPlan *bool `json:"slow_query_plan,omitempty" yaml:"slow_query_plan,omitempty"`

	// LeakDetection is how long a connection may be held before its borrower's stack is logged. Default: 1m; 0 means
	// never.
	LeakDetection *Duration `json:"leak_detection,omitempty" yaml:"leak_detection,omitempty"`

	// Preflight says whether to look once, in the background after the first connection, for what is wrong: the role is a
	// superuser, TLS is off, the server has too few connections left, settings aren't in force, its version is old, the
	// clocks differ. Each finding is logged as a warning, and is part of Check's result. Default: true.
	Preflight *bool `json:"preflight,omitempty" yaml:"preflight,omitempty"`

	// ServerSettings are run-time parameters of the server, by name, merged over the defaults; an empty value drops
	// the name. Defaults: jit=off, random_page_cost=1.1, effective_cache_size=1GB,
	// idle_in_transaction_session_timeout=300000, application_name=the program's name.
	ServerSettings map[string]string `json:"server_settings,omitempty" yaml:"server_settings,omitempty"`

	// ServerSettingsMode is startup, which sends the server settings in the startup message, or set, which sets them after
	// connecting, with set_config, and works behind PgBouncer. Default: startup.
	ServerSettingsMode *ServerSettingsMode `json:"server_settings_mode,omitempty" yaml:"server_settings_mode,omitempty"`

	// PoolReset says what is undone of what a borrower has left in its session: auto, always or off; see [WithPoolReset].
	// Default: auto.
	PoolReset *PoolResetMode `json:"pool_reset,omitempty" yaml:"pool_reset,omitempty"`

	// Begin is lazy, which sends BEGIN with a transaction's first statement, or eager, which sends it by itself. Default: lazy.
	Begin *BeginMode `json:"begin,omitempty" yaml:"begin,omitempty"`

	// OnceTable is the table in which [TxOnce] keeps its keys, name or schema.name. Default: pgprod_once.
	OnceTable *string `json:"once_table,omitempty" yaml:"once_table,omitempty"`

	// TraceContext says how a sampled statement tells the server its trace context: off, application_name or comment; see
	// [WithTraceContext]. Default: off.
	TraceContext *TraceContextMode `json:"trace_context,omitempty" yaml:"trace_context,omitempty"`

	// CommandTimeout is the longest time for one statement, its rows included. The server's statement_timeout is set
	// a second above it, unless given. Default: 30s; 0 means no limit.
	CommandTimeout *Duration `json:"command_timeout,omitempty" yaml:"command_timeout,omitempty"`

	// ConnectTimeout is the longest time for one dial. Default: 5s; libpq's PGCONNECT_TIMEOUT counts where
	// DB_CONNECT_TIMEOUT isn't set; 0 is an error.
	ConnectTimeout *Duration `json:"connect_timeout,omitempty" yaml:"connect_timeout,omitempty"`

	// PasswordFile is the path of a file that holds the password; it is read at every dial, so that a rotated
	// password needs no restart. Default: none.
	PasswordFile *string `json:"password_file,omitempty" yaml:"password_file,omitempty"`

	// LoadBalanceHosts is the order in which the hosts of the DSN are tried: disable, which is theirs, or random. Default: disable.
	LoadBalanceHosts *string `json:"load_balance_hosts,omitempty" yaml:"load_balance_hosts,omitempty"`
	// DeadAfter is how long nothing may come from a host while statements wait for it, before it is asked whether it is alive, and
	// how long it then has to answer before its connections are cut. Default: 1 s; 0: silence is noticed by command_timeout only.
	DeadAfter *Duration `json:"dead_after,omitempty" yaml:"dead_after,omitempty"`
	// EnvPrefix is what the names of the environment variables begin with. A second database in the same process needs
	// another one. Default: DB_.
	EnvPrefix *string `json:"env_prefix,omitempty" yaml:"env_prefix,omitempty"`
}

// values converts o into the type of the settings package, whose fields have the same names and the same kinds.
func (o Options) values() settings.Values {
	var v settings.Values
	from, to := reflect.ValueOf(o), reflect.ValueOf(&v).Elem()
	for field, value := range to.Fields() {
		value.Set(from.FieldByName(field.Name).Convert(field.Type))
	}
	return v
}

// Duration is a time.Duration for [Options]. A config file may have it as 30s, as 1m30s, or as a number of seconds; code
// writes Duration(30 * time.Second).
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

// UnmarshalText reads 30s, 1m30s, 30 and 0.25; the last two are seconds. An error doesn't quote the text.
func (d *Duration) UnmarshalText(text []byte) error {
	return (*settings.Duration)(d).UnmarshalText(text)
}

// UnmarshalJSON reads a number of seconds, or a string as UnmarshalText does.
func (d *Duration) UnmarshalJSON(data []byte) error { return unmarshalJSON(data, d) }

// PrePing says how a connection is checked before a caller gets it; see [WithPoolPrePing].
type PrePing string

// The values of pool_pre_ping.
const (
	PrePingAuto   PrePing = "auto"   // peek at the socket at each borrow, and ping if it was idle for more than a second
	PrePingAlways PrePing = "always" // ping at each borrow
	PrePingOff    PrePing = "off"    // no check
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

// Environment says where the program runs; see [WithEnvironment]. It is an alias of string, so that a text that the program
// has read needs no conversion.
type Environment = string

// The values of environment.
const (
	Production  Environment = "production"
	Development Environment = "development"
)

// ServerSettingsMode says how server settings are set; see [WithServerSettingsMode]. It is an alias of string, so that a
// text that the program has read needs no conversion.
type ServerSettingsMode = string

// The values of server_settings_mode.
const (
	ServerSettingsStartup ServerSettingsMode = "startup" // in the startup message, which costs no round trip
	ServerSettingsSet     ServerSettingsMode = "set"     // by set_config after connecting, which works behind PgBouncer
)

// PoolResetMode says what is undone in a session before it is lent again; see [WithPoolReset]. It is an alias of string, so
// that a text that the program has read needs no conversion.
type PoolResetMode = string

// The values of pool_reset.
const (
	PoolResetAuto   PoolResetMode = "auto"   // what a statement or its command tag shows
	PoolResetAlways PoolResetMode = "always" // whatever can be left
	PoolResetOff    PoolResetMode = "off"    // nothing
)

// TraceContextMode says how a statement tells the server its trace context; see [WithTraceContext]. It is an alias of
// string, so that a text that the program has read needs no conversion.
type TraceContextMode = string

// The values of trace_context.
const (
	TraceContextOff             TraceContextMode = "off"
	TraceContextApplicationName TraceContextMode = "application_name" // the session's name while the statement runs
	TraceContextComment         TraceContextMode = "comment"          // a comment at the end of its text
)

// BeginMode says when BEGIN is sent; see [WithBegin]. It is an alias of string, so that a text that the program has read needs
// no conversion.
type BeginMode = string

// The values of begin.
const (
	BeginLazy  BeginMode = "lazy"  // with the transaction's first statement, which saves a round trip
	BeginEager BeginMode = "eager" // by itself, when the application begins the transaction
)

// An Option is a setting in code. It wins over the DSN, the environment, the profile and the default. Of two options for the
// same setting the later one wins. An empty text counts as not set. An Option may be used for several pools, concurrently
// too.
type Option func(*config)

// config is what the options of a pool say.
type config struct {
	values settings.Values      // those that may be in a DSN or a config file too
	logger *slog.Logger         // nil: slog.Default()
	login  login                // of WithCredentials and WithPasswordFunc
	notice func(*pgconn.Notice) // nil: none

	conn         *pgx.ConnConfig                        // in place of the DSN; nil: none
	dial         pgconn.DialFunc                        // nil: none
	afterConnect func(context.Context, *pgx.Conn) error // nil: none

	telemetry  instruments.Options
	commenter  SQLCommenterMode
	tags       func(context.Context) map[string]string // of WithSQLCommenter; nil: none
	propagator propagation.TextMapPropagator           // nil: the global one
}

// resolve merges the options with the DSN and the process's environment, and validates the outcome.
func resolve(dsn string, opts []Option) (*settings.Config, config, error) {
	var c config
	for _, opt := range opts {
		if opt != nil {
			opt(&c)
		}
	}
	given := settings.Given{Conn: c.conn, Dials: c.dial != nil}
	s, err := settings.LoadGiven(given, dsn, os.Environ(), c.values, c.login.source().From)
	return s, c, errors.Join(err, c.login.check(), c.checkCommenter())
}

// A login has the functions that say what connections log in with. At most one of them may be given.
type login struct {
	credentials, password func(context.Context) (credentials.Credentials, error) // nil: none
}

// source returns where credentials come from.
func (l login) source() credentials.Source {
	switch {
	case l.credentials != nil:
		return credentials.Source{Ask: l.credentials, Keep: true, Name: "credentials function", From: "WithCredentials"}
	case l.password != nil:
		return credentials.Source{Ask: l.password, Name: "password function", From: "WithPasswordFunc"}
	}
	return credentials.Source{}
}

// check returns an error if both functions are given.
func (l login) check() error {
	if l.credentials != nil && l.password != nil {
		return errors.New("pgprod: option WithCredentials and option WithPasswordFunc: are both given; give one of them")
	}
	return nil
}

// WithOptions sets all that is set in o; server settings are merged by name. Default: none.
func WithOptions(o Options) Option {
	values := settings.Values{}
	values.Apply(o.values()) // copies, so that the caller may change o later
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

// WithPoolMin sets the number of connections made ahead, from the pool's first use on, and kept however long they lie idle.
// It is at most the pool's size. Default: 0, each connection is made when it is needed.
func WithPoolMin(n int) Option {
	return func(c *config) { c.values.PoolMin = &n }
}

// WithPoolPrePing says how a connection is checked before a caller gets it: auto peeks at the socket each time, and pings if
// the connection was idle for more than a second; always pings each time; off doesn't check. A string may be passed too.
// Default: auto.
func WithPoolPrePing[Mode PrePing | string](mode Mode) Option {
	return func(c *config) { c.values.PoolPrePing = new(settings.PrePing(mode)) }
}

// WithPoolName names the pool in metrics and logs; a name that another open pool has gets #2, #3, … behind it.
// Default: the name of the database.
func WithPoolName(name string) Option {
	return func(c *config) { c.values.PoolName = &name }
}

// WithEnvironment sets the environment, production or development. Development turns echo, echo_pool and
// slow_query_plan on, and leaves the choice of TLS to libpq's rules. Default: production.
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

// WithSlowQueryPlan sets whether the live page ([DebugHandler]) shows the plans of statements that were slow. A plan is
// asked for in the background, by EXPLAIN (GENERIC_PLAN, VERBOSE), in a read-only transaction that is rolled back, on
// the connection for health checks. Nothing is executed, except functions that are immutable or stable, as for any
// planning. Literals aren't shown. It needs PostgreSQL 16. Default: false, and true in development.
func WithSlowQueryPlan(on bool) Option {
	return func(c *config) { c.values.SlowQueryPlan = &on }
}

// WithLeakDetection sets how long a connection may be held before its borrower's stack is logged. Default: 1m; 0 means
// never.
func WithLeakDetection(d time.Duration) Option {
	return func(c *config) { c.values.LeakDetection = (*settings.Duration)(&d) }
}

// WithPreflight sets whether to look once, after the first connection, for what is wrong with the server, the role or the
// settings; [Options] lists what is looked for. Default: true.
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

// WithServerSettingsMode says how server settings are set: startup sends them in the startup message; set sets them after
// connecting, with set_config, and works behind PgBouncer. Default: startup.
func WithServerSettingsMode(mode ServerSettingsMode) Option {
	return func(c *config) { c.values.ServerSettingsMode = &mode }
}

// WithPoolReset sets what is undone of what a borrower has left in its session: run-time parameters, the role, advisory
// locks, temporary tables, cursors WITH HOLD, the names of PREPARE, and LISTEN. It is undone in front of the next borrower's
// first statement, in the same round trip, and within a second if there is none; what is in server_settings comes back, and
// prepared statements stay. auto undoes what a statement's text or command tag shows, and after DO and CALL everything;
// always also undoes what functions have left, after each visit; off undoes nothing, so that one borrower's settings are the
// next one's. A *sql.Conn keeps its state until Close. Default: auto.
func WithPoolReset(mode PoolResetMode) Option {
	return func(c *config) { c.values.PoolReset = &mode }
}

// WithBegin says when BEGIN is sent: lazy sends it with the transaction's first statement, in the same write, so that a
// transaction costs a round trip less and one without a statement costs none; eager sends it by itself, when the application
// begins the transaction. Default: lazy.
func WithBegin(mode BeginMode) Option {
	return func(c *config) { c.values.Begin = &mode }
}

// WithOnceTable sets the table in which [TxOnce] keeps its keys: name or schema.name, of letters, digits and underscores.
// Default: pgprod_once.
func WithOnceTable(table string) Option {
	return func(c *config) { c.values.OnceTable = &table }
}

// WithLoadBalanceHosts sets the order in which the hosts of the DSN are tried: "disable", in theirs, or "random". Default:
// disable.
func WithLoadBalanceHosts(order string) Option {
	return func(c *config) { c.values.LoadBalanceHosts = &order }
}

// WithDeadAfter sets how long a host that swallows packets may go unnoticed. While statements wait for a reply and nothing has
// come from their host for d, it is asked over a connection of its own; if there is no answer within d either, its connections
// are cut. Default: 1 s; 0: only command_timeout, or the system, notices.
func WithDeadAfter(d time.Duration) Option {
	return func(c *config) { c.values.DeadAfter = new(settings.Duration(d)) }
}

// WithTraceContext has sampled statements tell the server their trace context, as in W3C's traceparent header, so that what
// the server shows of its sessions leads to the trace. application_name makes it the session's application_name for the time
// of the statement: pg_stat_activity and log_line_prefix (%a) have it, and the statement stays prepared. Statements of the
// simple protocol and those that must not run in a transaction (VACUUM) have none. In a transaction the name stays until the
// next statement. comment appends it to the statement's text, as sqlcommenter specifies, so that the statement is parsed
// anew. Nothing changes for statements that are not sampled. Default: off.
func WithTraceContext(mode TraceContextMode) Option {
	return func(c *config) { c.values.TraceContext = &mode }
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

// WithPasswordFile names a file with the password. It is read at each dial, so that a rotated password needs no restart. It
// is an error if the file can't be read, or if there is a password in the DSN or in DB_PASSWORD as well. Default: none.
func WithPasswordFile(path string) Option {
	return func(c *config) { c.values.PasswordFile = &path }
}

// WithEnvPrefix sets what the names of the environment variables begin with. A second database in the same process needs
// another prefix. Default: DB_.
func WithEnvPrefix(prefix string) Option {
	return func(c *config) { c.values.EnvPrefix = &prefix }
}

// WithLogger sets where the driver logs. Default: slog.Default(), which nil means as well.
func WithLogger(logger *slog.Logger) Option {
	return func(c *config) { c.logger = logger }
}

// WithPasswordFunc sets a function that returns the password, such as a token that expires. It is called at each dial. Dials
// that begin while a call is under way wait for its result, so that each pool makes one call at a time; the function must
// return when its context ends. If several pools share it, it must be safe for concurrent use.
//
// An error fails the dial, which is repeated while callers wait. If the server refuses the role or the password, dials are
// repeated with a new call each for two seconds, before callers get the error. An empty password means no password:
// DB_PASSWORD, PGPASSWORD and the passfile aren't used in its place, since they may have an old one. It is an error if there
// is also a password file, or a password in the DSN. Default: none, which nil means as well.
func WithPasswordFunc(password func(ctx context.Context) (string, error)) Option {
	if password == nil {
		return func(c *config) { c.login.password = nil }
	}
	ask := func(ctx context.Context) (credentials.Credentials, error) {
		text, err := password(ctx)
		return credentials.Credentials{Password: text}, err
	}
	return func(c *config) { c.login.password = ask }
}

// Credentials are what connections log in with, see [WithCredentials].
type Credentials struct {
	User     string // the role; "": the DSN's
	Password string // "": none. Tokens that a cloud calls a password (AWS, Azure, Google) belong here
	// Token is an OAuth token, for PostgreSQL 18's authentication method oauth; "": none. It must consist of printable ASCII
	// characters without spaces.
	Token string
	// Expires is when a login with them ceases to be possible, or the server ends the sessions that were made with them. Zero:
	// never.
	Expires time.Time
}

// WithCredentials sets a function that says what connections log in with, and until when that is valid: leases of Vault's,
// whose user's name changes, tokens of a cloud's, OAuth tokens.
//
// The function is called at the first dial, and its answer serves for all. It is called again after about two thirds of the
// time to Expires, in the background; after the server has refused a login, before callers hear of that; and by [Recycle].
// There is one call at a time, never under a lock. The function must return when its context ends, and if several pools share
// it, it must be safe for concurrent use. If it fails or panics while its last answer is valid, that goes on to serve, and the
// function is called again, with pauses that grow to five seconds at most; the log has a warning, and a line when it is over.
// When the last answer has ended, new connections wait, and so do callers without one, for pool_timeout at most: then they
// get [ErrPoolTimeout] with the function's error.
//
// Connections are replaced before the credentials end that they were made with, one after another: idle ones in the
// background, the others when they are given back. None is closed in use. An answer that differs from the one before in
// Expires only is taken for a longer lease of the same credentials. If the DSN has no database, that of its own user's name
// is used, whoever logs in. Health checks use the same credentials.
//
// What is empty in an answer isn't taken from DB_PASSWORD, PGPASSWORD or the passfile. It is an error if there is also a
// password function, a password file, or a password in the DSN. Default: none, which nil means as well.
func WithCredentials(ask func(context.Context) (Credentials, error)) Option {
	if ask == nil {
		return func(c *config) { c.login.credentials = nil }
	}
	converted := func(ctx context.Context) (credentials.Credentials, error) {
		answer, err := ask(ctx)
		return credentials.Credentials(answer), err
	}
	return func(c *config) { c.login.credentials = converted }
}

// WithNoticeHandler sets a function that is called with each notice from the server, whatever its severity. It gets the
// complete notice, also of those that come while a connection is made or checked. Warnings are logged as well, without what
// may be a value.
//
// The handler runs in the goroutine that reads from the connection, in the middle of a statement: that of the statement's
// caller, or one of the pool's while it connects or checks. So it must be safe for concurrent use, must not block, and must
// not use the connection or wait for the statement's caller. If it panics, the panic goes on through the statement, as with
// pgx, and the connection is closed. While connecting there is no caller, and a panic ends the program. Default: none, which
// nil means as well.
func WithNoticeHandler(handler func(*pgconn.Notice)) Option {
	return func(c *config) { c.notice = handler }
}

// WithAfterConnect sets a function that is called with each new connection of the pool, after the server settings were set and
// before anybody gets it: to register types (enums, composites, those of pgvector), which then serve arguments and Scan on
// every connection, or for statements that each session needs. It isn't called for the connections of health checks.
//
// ctx ends when the time of the dial is up, which is twice connect_timeout, and about a second more if there are several hosts;
// command_timeout doesn't apply. When ctx, or the context of one of the function's statements, ends, the connection is closed. The function's
// statements have no spans and no lines in the log: they are part of the dial. An error or a panic fails the dial, which is
// repeated while callers wait; if the cause is not the network, they get the error after two seconds, or at once if it is
// the server's refusal of a statement. The log has it without values.
//
// Run-time parameters and the role that the function has set stay, whatever pool_reset undoes, if the text of its statements
// shows that they were set; so do statements prepared by (*pgx.Conn).Prepare. A connection on which it has left anything else
// (a subscription, an advisory lock, a temporary table, a statement of the SQL command PREPARE) is replaced once a borrower
// has left something of that kind. The function must not leave a transaction or rows open, execute DISCARD ALL or DEALLOCATE
// ALL, or keep the connection. Several connections may be made at once, so it must be safe for concurrent use. Default: none,
// which nil means as well.
func WithAfterConnect(afterConnect func(ctx context.Context, conn *pgx.Conn) error) Option {
	return func(c *config) { c.afterConnect = afterConnect }
}

// WithDialFunc sets a function that makes the network connections: those of the pool, those of cancel requests, and those of
// health checks. It is for tunnels (SSH), proxies, and a cloud provider's connector. network and addr are what the DSN says:
// tcp and host:port, with the host's name as it stands there, or unix and the path of a socket. The function resolves the
// name, and for the same addr should reach the same server, or a cancel request may miss its aim.
//
// Everything else stays the DSN's: TLS, with the name that verify-full checks, inside of what the function returns; several
// hosts; the names in telemetry and in errors. If the function's connections are encrypted already, the DSN needs
// sslmode=disable. pgprod then takes its word for it, and doesn't warn of that.
//
// ctx ends after connect_timeout, or after half a second for a cancel request; then pgprod goes on without the function, and
// closes what it may return later. The connection needs no deadlines. A panic becomes an error. The function is called by
// several goroutines at once. Default: none, which nil means as well.
func WithDialFunc(dial pgconn.DialFunc) Option {
	return func(c *config) { c.dial = dial }
}

// WithConnConfig sets a whole configuration of pgx's, for what neither a DSN nor an option can say. It must come from
// pgx.ParseConfig, and is copied; what it points to, such as a tracer or a tls.Config, must not be changed any more.
//
// It stands in place of the DSN: the DSN that is passed along may have pgprod's own keys, as key=value pairs, and no others,
// and DB_DSN and DATABASE_URL aren't looked at. Our keys may also be in the DSN that pgx has parsed. Variables, options,
// defaults and server settings hold as ever, and its run-time parameters count as if they stood in the DSN. A password that
// it has wins over DB_PASSWORD; those of a file or a function win over it.
//
// Its functions stay. Tracer, OnNotice and BuildFrontend are called besides pgprod's own; a frontend must write to what it is
// given, each flush in one write. DialFunc and LookupFunc make all network connections, as pgx calls them, and are replaced by
// [WithDialFunc]. AfterConnect isn't called for health checks, and what it sets stays as for [WithAfterConnect]. A panic in a
// function that a dial calls becomes an error, except in Tracer, OnNotice, OnNotification, OnPgError and LookupFunc.
// BuildContextWatcherHandler must be pgx's, or the error names it. sslmode=require isn't a default here, and files with
// authorities are not read anew. Default: none, which nil means as well.
func WithConnConfig(conn *pgx.ConnConfig) Option {
	if conn == nil {
		return func(c *config) { c.conn = nil }
	}
	copied := conn.Copy()
	return func(c *config) { c.conn = copied }
}
