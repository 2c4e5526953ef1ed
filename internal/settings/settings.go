// Package settings turns a DSN, an environment and options in code into one validated Config: an option in code wins
// over a DSN key, that over an environment variable, that over the profile, and that over the default.
//
// Load is a pure function of its arguments, apart from what pgx itself reads: PG* variables, the password file of
// libpq and its service file. Every setting is one row of one table (table.go), and its text is read by one and the
// same parser wherever it stands. Errors name the key as it was written and never show a password or a DSN.
package settings

import (
	"math"
	"time"

	"github.com/jackc/pgx/v5"
)

// Values holds one field per row of the table; nil is not set. The root package's Options have the same fields, with the tags
// of config files.
type Values struct {
	Profile            *string           `env:"PROFILE"`
	PoolSize           *int              `env:"POOL_SIZE"`
	MaxOverflow        *int              `env:"MAX_OVERFLOW"`
	PoolTimeout        *Duration         `env:"POOL_TIMEOUT"`
	PoolRecycle        *Duration         `env:"POOL_RECYCLE"`
	PoolIdleTimeout    *Duration         `env:"POOL_IDLE_TIMEOUT"`
	PoolPrePing        *PrePing          `env:"POOL_PRE_PING"`
	PoolName           *string           `env:"POOL_NAME"`
	Environment        *string           `env:"ENVIRONMENT"`
	Echo               *bool             `env:"ECHO"`
	EchoPool           *bool             `env:"ECHO_POOL"`
	SlowQuery          *Duration         `env:"SLOW_QUERY"`
	LeakDetection      *Duration         `env:"LEAK_DETECTION"`
	Preflight          *bool             `env:"PREFLIGHT"`
	ServerSettings     map[string]string `env:"SERVER_SETTINGS"`
	ServerSettingsMode *string           `env:"SERVER_SETTINGS_MODE"`
	CommandTimeout     *Duration         `env:"COMMAND_TIMEOUT"`
	ConnectTimeout     *Duration         `env:"CONNECT_TIMEOUT"`
	PasswordFile       *string           `env:"PASSWORD_FILE"`
	EnvPrefix          *string           `env:"ENV_PREFIX"`
}

// Source says where a setting came from.
type Source string

// The sources, weakest first.
const (
	SourceDefault     Source = "default"
	SourceProfile     Source = "profile"
	SourceEnvironment Source = "environment"
	SourceDSN         Source = "DSN"
	SourceOption      Source = "option"
)

// Values of Config.Environment and Config.ServerSettingsMode.
const (
	Production  = "production"
	Development = "development"
	ModeStartup = "startup"
	ModeSet     = "set"
)

// Setting is one server setting to be made with set_config after connecting.
type Setting struct{ Name, Value string }

// Config is the validated outcome of Load; it shares nothing with Load's arguments.
type Config struct {
	Conn *pgx.ConnConfig // RuntimeParams, TLS, password and timeout are settled; copy before changing
	Set  []Setting       // made after connecting, sorted by name; empty unless server_settings_mode is set

	Profile            string
	PoolSize           int           // at least 1
	MaxOverflow        int           // -1: unlimited
	PoolTimeout        time.Duration // 0: only the caller's context limits the wait
	PoolRecycle        time.Duration // 0: never
	PoolIdleTimeout    time.Duration // 0: never
	PrePing            PrePing
	PoolName           string
	Environment        string
	Echo               bool
	EchoPool           bool
	SlowQuery          time.Duration // 0: never
	LeakDetection      time.Duration // 0: never
	Preflight          bool
	ServerSettingsMode string
	CommandTimeout     time.Duration // 0: none
	ConnectTimeout     time.Duration // above 0
	PasswordFile       string        // read at every dial, with ReadPassword
	EnvPrefix          string

	TargetSessionAttrs string            // any, read-write, read-only, primary, standby or prefer-standby
	PasswordInDSN      bool              // the DSN itself carries a password
	Sources            map[string]Source // by DSN key, one entry per row of the table
	Warnings           []string          // to be logged once; never a secret
	NoDSN              string            // why nobody has said where the database is, "" if somebody has: for errors of dials

	values          Values // of all layers, for Shown
	hasPasswordFunc bool   // code supplies the password
}

// Capacity is the largest number of connections: pool_size + max_overflow, or math.MaxInt32 where that is unlimited.
func (c *Config) Capacity() int {
	if c.MaxOverflow < 0 || c.PoolSize > math.MaxInt32-c.MaxOverflow {
		return math.MaxInt32
	}
	return c.PoolSize + c.MaxOverflow
}

// MaxConns is how many connections there may be, 0 where max_overflow says unlimited.
func (c *Config) MaxConns() int64 {
	if c.MaxOverflow < 0 {
		return 0
	}
	return int64(c.Capacity())
}
