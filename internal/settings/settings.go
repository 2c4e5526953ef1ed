// Package settings turns a DSN, an environment and options in code into one validated Config. An option in code wins over a
// DSN key, a DSN key over an environment variable, that over the profile, and the profile over the default.
//
// Each setting is one row of one table (table.go), and its text is read by the same parser wherever it was given. Errors
// name the key as the user wrote it, and never show a password or a DSN.
//
// Besides its arguments, Load reads what pgx reads by itself (PG* variables, libpq's password file and service file), the
// password file to see that it can be read, and the program's name.
package settings

import (
	"math"
	"time"

	"github.com/jackc/pgx/v5"
)

// Values has one field for each row of the table, which is nil if it isn't set. The root package's Options have the same
// fields in the same order, so that one can be converted into the other, with tags for config files.
type Values struct {
	Profile            *string           `env:"PROFILE"`
	PoolSize           *int              `env:"POOL_SIZE"`
	MaxOverflow        *int              `env:"MAX_OVERFLOW"`
	PoolTimeout        *Duration         `env:"POOL_TIMEOUT"`
	PoolRecycle        *Duration         `env:"POOL_RECYCLE"`
	PoolIdleTimeout    *Duration         `env:"POOL_IDLE_TIMEOUT"`
	PoolMin            *int              `env:"POOL_MIN"`
	PoolPrePing        *PrePing          `env:"POOL_PRE_PING"`
	PoolName           *string           `env:"POOL_NAME"`
	Environment        *string           `env:"ENVIRONMENT"`
	Echo               *bool             `env:"ECHO"`
	EchoPool           *bool             `env:"ECHO_POOL"`
	SlowQuery          *Duration         `env:"SLOW_QUERY"`
	SlowQueryPlan      *bool             `env:"SLOW_QUERY_PLAN"`
	LeakDetection      *Duration         `env:"LEAK_DETECTION"`
	Preflight          *bool             `env:"PREFLIGHT"`
	ServerSettings     map[string]string `env:"SERVER_SETTINGS"`
	ServerSettingsMode *string           `env:"SERVER_SETTINGS_MODE"`
	PoolReset          *string           `env:"POOL_RESET"`
	Begin              *string           `env:"BEGIN"`
	OnceTable          *string           `env:"ONCE_TABLE"`
	TraceContext       *string           `env:"TRACE_CONTEXT"`
	CommandTimeout     *Duration         `env:"COMMAND_TIMEOUT"`
	ConnectTimeout     *Duration         `env:"CONNECT_TIMEOUT"`
	PasswordFile       *string           `env:"PASSWORD_FILE"`
	LoadBalanceHosts   *string           `env:"LOAD_BALANCE_HOSTS"`
	DeadAfter          *Duration         `env:"DEAD_AFTER"`
	EnvPrefix          *string           `env:"ENV_PREFIX"`
}

// Source is where the value of a setting was given.
type Source string

// The sources, the weakest first: each wins over those before it.
const (
	SourceDefault     Source = "default"
	SourceProfile     Source = "profile"
	SourceEnvironment Source = "environment"
	SourceDSN         Source = "DSN"
	SourceOption      Source = "option"
)

// The values of environment, server_settings_mode, pool_reset, begin, trace_context and load_balance_hosts.
const (
	Production  = "production"
	Development = "development"
	ModeStartup = "startup" // server settings travel in the startup message
	ModeSet     = "set"     // server settings are set by set_config on each new connection
	BeginLazy   = "lazy"    // BEGIN travels with the first statement
	ResetAuto   = "auto"    // what a statement is seen to leave in its session is undone
	ResetAlways = "always"  // everything is undone that can be left in a session
	ResetOff    = "off"     // nothing is undone
	BeginEager  = "eager"   // BEGIN goes by itself
	TraceOff    = "off"     // statements don't tell their trace context
	TraceByName = "application_name"
	TraceByText = "comment" // of sqlcommenter
	BalanceOff  = "disable" // hosts are tried in the DSN's order
	Balance     = "random"  // hosts are tried in random order
)

// Setting is a server setting that set_config sets on each new connection.
type Setting struct{ Name, Value string }

// Config is the validated outcome of Load. It shares no memory with Load's arguments, and isn't changed any more.
type Config struct {
	Conn *pgx.ConnConfig // for pgx; RuntimeParams, TLS, password and timeouts are final. Copy it before changing it
	// OnlyDefaults are the server settings of Conn and Set that nobody has asked for, sorted, except application_name: they are
	// defaults, or follow from command_timeout.
	OnlyDefaults []string
	Set          []Setting // what set_config sets on each new connection, sorted by name; empty unless the mode is ModeSet

	Profile            string
	PoolSize           int           // at least 1
	MaxOverflow        int           // -1: unlimited
	PoolTimeout        time.Duration // 0: only the caller's context limits the wait
	PoolRecycle        time.Duration // 0: never
	PoolIdleTimeout    time.Duration // 0: never
	PoolMin            int           // from 0 to PoolSize
	PrePing            PrePing
	PoolName           string // never empty
	Environment        string // Production or Development
	Echo               bool
	EchoPool           bool
	SlowQuery          time.Duration // 0: never
	SlowQueryPlan      bool
	LeakDetection      time.Duration // 0: never
	Preflight          bool
	ServerSettingsMode string        // ModeStartup or ModeSet
	PoolReset          string        // ResetAuto, ResetAlways or ResetOff
	EagerBegin         bool          // begin=eager: BEGIN goes by itself
	OnceTable          string        // where TxOnce keeps its keys
	TraceContext       string        // TraceOff, TraceByName or TraceByText
	CommandTimeout     time.Duration // 0: none
	ConnectTimeout     time.Duration // above 0
	PasswordFile       string        // read at every dial, with ReadPassword; "": there is none
	RandomHosts        bool          // load_balance_hosts=random: hosts are tried in random order
	DeadAfter          time.Duration // 0: silence of a host isn't noticed before command_timeout
	EnvPrefix          string        // what environment variables begin with

	Given              Given             // what was given in code
	TargetSessionAttrs string            // any, read-write, read-only, primary, standby or prefer-standby
	PasswordInDSN      bool              // the DSN has a password
	Sources            map[string]Source // by DSN key, one entry for each row of the table
	Warnings           []string          // for the log, once; there is never a secret in them
	NoDSN              string            // for errors of dials: says that neither DSN nor variables name a database; "": they do

	values    Values // what was given, in all layers together; Shown lists it
	loginFrom string // the option whose function supplies the password; "": there is none
}

// Capacity is the most connections that there may be: pool_size + max_overflow, or math.MaxInt32 if that is unlimited.
func (c *Config) Capacity() int {
	if c.MaxOverflow < 0 || c.PoolSize > math.MaxInt32-c.MaxOverflow {
		return math.MaxInt32
	}
	return c.PoolSize + c.MaxOverflow
}

// MaxConns is Capacity for people and metrics: 0 if max_overflow is unlimited.
func (c *Config) MaxConns() int64 {
	if c.MaxOverflow < 0 {
		return 0
	}
	return int64(c.Capacity())
}
