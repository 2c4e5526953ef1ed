package settings

import (
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// A row is one setting.
type row struct {
	key     string                   // the key in a DSN and in a config file
	field   string                   // the name of the field of Values
	noEnv   bool                     // it has no environment variable
	initial string                   // the default, as the text that the parser reads; "": none
	shown   string                   // the default as the README shows it; "": as initial
	sets    string                   // what the setting does, for the README
	want    string                   // what is allowed, for errors
	ok      func(reflect.Value) bool // reports whether a value is allowed; nil: each that the parser understands
}

// env is the environment variable of the setting, without the prefix.
func (r *row) env() string { return strings.ToUpper(r.key) }

// option is the root package's option for the setting.
func (r *row) option() string { return "With" + r.field }

const (
	wantDuration = "must be a duration of 0 or more, such as 30s, 1m30s or bare seconds"
	wantBool     = "must be true, on, yes, 1, false, off, no or 0"
	wantSettings = "must be name=value, several separated by commas; names are letters, digits, _ . and $, values have no NUL"
)

// table has all settings. It must have a row for each field of Values.
var table = []row{
	{key: "profile", field: "Profile", initial: "medium",
		sets: "pool_size, max_overflow, pool_timeout, pool_recycle: small 10/5/20s/30m, medium 20/10/30s/30m, large 50/20/10s/15m",
		want: "must be small, medium or large", ok: oneOf("small", "medium", "large")},
	{key: "pool_size", field: "PoolSize", initial: "20",
		sets: "connections kept when idle",
		want: "must be a whole number of at least 1", ok: atLeast(1)},
	{key: "max_overflow", field: "MaxOverflow", initial: "10",
		sets: "connections beyond that, closed when given back; -1: unlimited",
		want: "must be a whole number of at least 0, or -1 for no limit", ok: atLeast(-1)},
	{key: "pool_timeout", field: "PoolTimeout", initial: "30s",
		sets: "longest wait for a connection, dial retries included; then ErrPoolTimeout (0: no limit but the context's)",
		want: wantDuration, ok: atLeast(0)},
	{key: "pool_recycle", field: "PoolRecycle", initial: "30m",
		sets: "age at which a connection is replaced, less up to 10 % jitter (0: never)",
		want: wantDuration, ok: atLeast(0)},
	{key: "pool_idle_timeout", field: "PoolIdleTimeout", initial: "10m",
		sets: "how long a connection may lie idle (0: for ever)",
		want: wantDuration, ok: atLeast(0)},
	{key: "pool_min", field: "PoolMin", initial: "0",
		sets: "connections made ahead, from the pool's first use on, and kept however long they lie idle; at most pool_size",
		want: "must be a whole number of at least 0", ok: atLeast(0)},
	{key: "pool_pre_ping", field: "PoolPrePing", initial: "auto",
		sets: "auto: peek at every borrow, ping after 1 s idle; always: ping; off",
		want: "must be auto, always or off", ok: isPrePing},
	{key: "pool_name", field: "PoolName", shown: "the database",
		sets: "names the pool in metrics and logs",
		want: "must be a name of at most 200 printable characters", ok: isName},
	{key: "environment", field: "Environment", initial: Production,
		sets: "development turns echo, echo_pool and slow_query_plan on",
		want: "must be production or development", ok: oneOf(Production, Development)},
	{key: "echo", field: "Echo", initial: "off", shown: "off in production",
		sets: "log statements", want: wantBool},
	{key: "echo_pool", field: "EchoPool", initial: "off", shown: "off in production",
		sets: "log pool events", want: wantBool},
	{key: "slow_query", field: "SlowQuery", initial: "1s",
		sets: "log statements slower than this (0: never)",
		want: wantDuration, ok: atLeast(0)},
	{key: "slow_query_plan", field: "SlowQueryPlan", initial: "off", shown: "off in production",
		sets: "the live page shows plans of slow statements, from EXPLAIN without ANALYZE (PostgreSQL 16 on)", want: wantBool},
	{key: "leak_detection", field: "LeakDetection", initial: "1m",
		sets: "log the stack of a borrower that holds longer than this (0: never)",
		want: wantDuration, ok: atLeast(0)},
	{key: "preflight", field: "Preflight", initial: "on",
		sets: "look once at the role, TLS, limits and settings of the server, and log a warning for each that is wrong",
		want: wantBool},
	{key: "server_settings", field: "ServerSettings", initial: serverDefaults,
		shown: strings.ReplaceAll(serverDefaults, ",", ", ") + ", application_name=program",
		sets:  "merged by key; an empty value drops a key",
		want:  wantSettings, ok: areServerSettings},
	{key: "server_settings_mode", field: "ServerSettingsMode", initial: ModeStartup,
		sets: "startup message (no round trip) or set (works behind PgBouncer)",
		want: "must be startup or set", ok: oneOf(ModeStartup, ModeSet)},
	{key: "pool_reset", field: "PoolReset", initial: ResetAuto,
		sets: "auto: what a borrower's statements are seen to leave in the session is undone before the next one's; " +
			"always: whatever functions leave, too; off",
		want: "must be auto, always or off", ok: oneOf(ResetAuto, ResetAlways, ResetOff)},
	{key: "begin", field: "Begin", initial: BeginLazy,
		sets: "lazy: BEGIN travels with the transaction's first statement; eager: by itself",
		want: "must be lazy or eager", ok: oneOf(BeginLazy, BeginEager)},
	{key: "once_table", field: "OnceTable", initial: "pgprod_once",
		sets: "where `TxOnce` keeps its keys",
		want: "must be the name of a table, name or schema.name, of letters, digits and underscores", ok: isTable},
	{key: "trace_context", field: "TraceContext", initial: TraceOff,
		sets: "application_name: a sampled statement's traceparent is the session's name while it runs; comment: it is in its text; off",
		want: "must be off, application_name or comment", ok: oneOf(TraceOff, TraceByName, TraceByText)},
	{key: "command_timeout", field: "CommandTimeout", initial: "30s",
		sets: "longest statement, rows included (0: none)",
		want: wantDuration, ok: atLeast(0)},
	{key: "connect_timeout", field: "ConnectTimeout", initial: "5s",
		sets: "one dial; without this variable libpq's `PGCONNECT_TIMEOUT` counts",
		want: "must be a duration above 0, such as 5s or bare seconds: a dial must be bounded", ok: atLeast(1)},
	{key: "password_file", field: "PasswordFile",
		sets: "read at every dial: rotation needs no restart; DB_PASSWORD otherwise",
		want: "must be the path of a file"},
	{key: "load_balance_hosts", field: "LoadBalanceHosts", initial: BalanceOff,
		sets: "random: hosts are tried in random order; disable: in the DSN's",
		want: "must be disable or random", ok: oneOf(BalanceOff, Balance)},
	{key: "dead_after", field: "DeadAfter", initial: "1s",
		sets: "how long a host that swallows packets may go unnoticed before it is asked, and how long it then has to answer (0: as long as command_timeout)",
		want: wantDuration, ok: atLeast(0)},
	{key: "env_prefix", field: "EnvPrefix", noEnv: true, initial: "DB_",
		sets: "another prefix, for a second database in one process",
		want: "must be letters, digits and underscores", ok: isPrefix},
}

// profiles are the defaults that each value of profile brings, by DSN key.
var profiles = map[string]map[string]string{
	"small":  {"pool_size": "10", "max_overflow": "5", "pool_timeout": "20s", "pool_recycle": "30m"},
	"medium": {"pool_size": "20", "max_overflow": "10", "pool_timeout": "30s", "pool_recycle": "30m"},
	"large":  {"pool_size": "50", "max_overflow": "20", "pool_timeout": "10s", "pool_recycle": "15m"},
}

// rowOf returns the row with a DSN key; nil: there is none.
func rowOf(key string) *row {
	for i := range table {
		if table[i].key == key {
			return &table[i]
		}
	}
	return nil
}

// rowOfField returns the row with a field of Values; nil: there is none.
func rowOfField(field string) *row {
	for i := range table {
		if table[i].field == field {
			return &table[i]
		}
	}
	return nil
}

// The functions below are for row.ok. They get what a field of Values points to, or the map of server_settings.

// atLeast allows numbers and durations from n on.
func atLeast(n int64) func(reflect.Value) bool {
	return func(v reflect.Value) bool {
		// A count above MaxInt32 is a mistake, and would overflow a sum. Durations are int64 and may be longer.
		return v.Int() >= n && (v.Kind() == reflect.Int64 || v.Int() <= math.MaxInt32)
	}
}

// oneOf allows these texts.
func oneOf(words ...string) func(reflect.Value) bool {
	return func(v reflect.Value) bool { return slices.Contains(words, v.String()) }
}

func isPrePing(v reflect.Value) bool {
	_, ok := parsePrePing(v.String())
	return ok
}

func isName(v reflect.Value) bool {
	name := v.String()
	return len(name) <= 200 && strings.IndexFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

func isTable(v reflect.Value) bool { return tableName.MatchString(v.String()) }

// tableName is a name that needs no quotes, perhaps with that of its schema.
var tableName = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_]{0,62}\.)?[A-Za-z_][A-Za-z0-9_]{0,62}$`)

func isPrefix(v reflect.Value) bool {
	prefix := v.String()
	return prefix[0] > '9' && strings.Trim(prefix, wordChars) == ""
}

// wordChars are letters, digits and the underscore.
const wordChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
