package settings

import (
	"math"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// ladder is one row of the table with a value in every source, weakest first.
type ladder struct {
	key       string
	byDefault any
	env       string
	fromEnv   any
	dsn       string
	fromDSN   any
	code      Values
	fromCode  any
	get       func(*Config) any
}

func seconds(n int) *Duration { return new(Duration(time.Duration(n) * time.Second)) }

func ladders(t *testing.T) []ladder {
	dir := t.TempDir()
	file := func(name string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte("pw\n"), 0o600))
		return path
	}
	env, dsn, code := file("env"), file("dsn"), file("code")
	s := time.Second
	return []ladder{
		{"profile", "medium", "small", "small", "large", "large", Values{Profile: new("small")}, "small",
			func(c *Config) any { return c.Profile }},
		{"pool_size", 20, "1", 1, "2", 2, Values{PoolSize: new(3)}, 3, func(c *Config) any { return c.PoolSize }},
		{"max_overflow", 10, "-1", -1, "0", 0, Values{MaxOverflow: new(3)}, 3, func(c *Config) any { return c.MaxOverflow }},
		{"pool_timeout", 30 * s, "1m1s", 61 * s, "0", 0 * s, Values{PoolTimeout: seconds(3)}, 3 * s,
			func(c *Config) any { return c.PoolTimeout }},
		{"pool_recycle", 30 * time.Minute, "0", 0 * s, "0.25", s / 4, Values{PoolRecycle: seconds(3)}, 3 * s,
			func(c *Config) any { return c.PoolRecycle }},
		{"pool_idle_timeout", 10 * time.Minute, "1", s, "2s", 2 * s, Values{PoolIdleTimeout: seconds(0)}, 0 * s,
			func(c *Config) any { return c.PoolIdleTimeout }},
		{"pool_min", 0, "1", 1, "2", 2, Values{PoolMin: new(3)}, 3, func(c *Config) any { return c.PoolMin }},
		{"pool_pre_ping", PrePingAuto, "True", PrePingAlways, "off", PrePingOff, Values{PoolPrePing: new(PrePing("always"))},
			PrePingAlways, func(c *Config) any { return c.PrePing }},
		{"pool_name", "shop", "a", "a", "b", "b", Values{PoolName: new("c")}, "c",
			func(c *Config) any { return c.PoolName }},
		{"environment", Production, Development, Development, Production, Production,
			Values{Environment: new(Development)}, Development, func(c *Config) any { return c.Environment }},
		{"echo", false, "YES", true, "no", false, Values{Echo: new(true)}, true, func(c *Config) any { return c.Echo }},
		{"echo_pool", false, "1", true, "0", false, Values{EchoPool: new(true)}, true,
			func(c *Config) any { return c.EchoPool }},
		{"slow_query", s, "0", 0 * s, "2", 2 * s, Values{SlowQuery: seconds(3)}, 3 * s,
			func(c *Config) any { return c.SlowQuery }},
		{"slow_query_plan", false, "yes", true, "0", false, Values{SlowQueryPlan: new(true)}, true,
			func(c *Config) any { return c.SlowQueryPlan }},
		{"leak_detection", time.Minute, "1", s, "0s", 0 * s, Values{LeakDetection: seconds(3)}, 3 * s,
			func(c *Config) any { return c.LeakDetection }},
		{"preflight", true, "off", false, "on", true, Values{Preflight: new(false)}, false,
			func(c *Config) any { return c.Preflight }},
		{"server_settings", "off", "jit=a", "a", "jit=b", "b", Values{ServerSettings: map[string]string{"jit": "c"}}, "c",
			func(c *Config) any { return c.Conn.RuntimeParams["jit"] }},
		{"server_settings_mode", ModeStartup, ModeSet, ModeSet, ModeStartup, ModeStartup,
			Values{ServerSettingsMode: new(ModeSet)}, ModeSet, func(c *Config) any { return c.ServerSettingsMode }},
		{"pool_reset", ResetAuto, ResetOff, ResetOff, ResetAlways, ResetAlways,
			Values{PoolReset: new(ResetAuto)}, ResetAuto, func(c *Config) any { return c.PoolReset }},
		{"begin", false, BeginEager, true, BeginLazy, false,
			Values{Begin: new(BeginEager)}, true, func(c *Config) any { return c.EagerBegin }},
		{"load_balance_hosts", false, "random", true, "disable", false, Values{LoadBalanceHosts: new(Balance)}, true,
			func(c *Config) any { return c.RandomHosts }},
		{"dead_after", time.Second, "2s", 2 * time.Second, "3s", 3 * time.Second, Values{DeadAfter: new(Duration(0))}, time.Duration(0),
			func(c *Config) any { return c.DeadAfter }},
		{"once_table", "pgprod_once", "a", "a", "app.b", "app.b", Values{OnceTable: new("c")}, "c",
			func(c *Config) any { return c.OnceTable }},
		{"trace_context", TraceOff, TraceByName, TraceByName, TraceByText, TraceByText,
			Values{TraceContext: new(TraceOff)}, TraceOff, func(c *Config) any { return c.TraceContext }},
		{"command_timeout", 30 * s, "1", s, "0", 0 * s, Values{CommandTimeout: seconds(3)}, 3 * s,
			func(c *Config) any { return c.CommandTimeout }},
		{"connect_timeout", 5 * s, "7", 7 * s, "1500ms", 1500 * time.Millisecond, Values{ConnectTimeout: seconds(3)}, 3 * s,
			func(c *Config) any { return c.ConnectTimeout }},
		{"password_file", "", env, env, dsn, dsn, Values{PasswordFile: new(code)}, code,
			func(c *Config) any { return c.PasswordFile }},
	}
}

func (l *ladder) variable() string {
	if l.key == "connect_timeout" {
		return "PGCONNECT_TIMEOUT"
	}
	return "DB_" + strings.ToUpper(l.key)
}

func TestAnOptionWinsOverTheDSNThatOverTheEnvironmentThatOverTheDefault(t *testing.T) {
	for _, l := range ladders(t) {
		t.Run(l.key, func(t *testing.T) {
			check := func(c *Config, want any, source Source) {
				t.Helper()
				require.Equal(t, want, l.get(c))
				require.Equal(t, source, c.Sources[l.key])
			}
			check(load(t, remote), l.byDefault, SourceDefault)
			environ := l.variable() + "=" + l.env
			check(load(t, remote, environ), l.fromEnv, SourceEnvironment)
			check(load(t, remote+"?"+l.key+"="+url.QueryEscape(l.dsn), environ), l.fromDSN, SourceDSN)
			keywords := "host=db.example.com user=app dbname=shop " + l.key + "='" + l.dsn + "'"
			check(load(t, keywords, environ), l.fromDSN, SourceDSN)
			check(loadWith(t, keywords, l.code, environ), l.fromCode, SourceOption)
			check(loadWith(t, remote, l.code), l.fromCode, SourceOption)
		})
	}
}

func TestEveryRowIsOnTheLadder(t *testing.T) {
	rungs := map[string]bool{"env_prefix": true} // has tests of its own
	for _, l := range ladders(t) {
		rungs[l.key] = true
	}
	for _, key := range keys() {
		require.True(t, rungs[key], key)
	}
}

func TestEveryFieldOfValuesHasARowAndTheTagOfItsKey(t *testing.T) {
	values := reflect.TypeFor[Values]()
	require.Equal(t, len(table), values.NumField())
	for i, r := range table {
		field := values.Field(i)
		require.Equal(t, r.field, field.Name)
		require.Equal(t, r.env(), field.Tag.Get("env"))
		require.NotEmpty(t, r.want)
		require.NotEmpty(t, r.sets)
	}
}

func TestAProfileSetsSizeOverflowWaitAndAge(t *testing.T) {
	for _, p := range []struct {
		name            string
		size, overflow  int
		timeout, recyle time.Duration
	}{
		{"small", 10, 5, 20 * time.Second, 1800 * time.Second},
		{"medium", 20, 10, 30 * time.Second, 1800 * time.Second},
		{"large", 50, 20, 10 * time.Second, 900 * time.Second},
	} {
		c := load(t, remote+"?profile="+p.name)
		require.Equal(t, p.size, c.PoolSize)
		require.Equal(t, p.overflow, c.MaxOverflow)
		require.Equal(t, p.timeout, c.PoolTimeout)
		require.Equal(t, p.recyle, c.PoolRecycle)
		require.Equal(t, SourceProfile, c.Sources["pool_size"])
		require.Equal(t, SourceDefault, c.Sources["slow_query"])
	}
}

func TestAWeakerSourceOfASizeWinsOverAStrongerSourceOfTheProfile(t *testing.T) {
	c := loadWith(t, remote, Values{Profile: new("large")}, "DB_POOL_SIZE=7")
	require.Equal(t, 7, c.PoolSize)
	require.Equal(t, SourceEnvironment, c.Sources["pool_size"])
	require.Equal(t, 20, c.MaxOverflow)
}

func TestDevelopmentEchoesUnlessToldOtherwise(t *testing.T) {
	c := load(t, remote, "DB_ENVIRONMENT=development", "DB_ECHO_POOL=off")
	require.True(t, c.Echo)
	require.False(t, c.EchoPool)
}

func TestAnEmptyTextCountsAsNotSet(t *testing.T) {
	c := loadWith(t, remote+"?pool_size=&profile=&connect_timeout=", Values{Profile: new(""), PoolName: new("")},
		"DB_POOL_SIZE=", "DB_PROFILE=small", "PGCONNECT_TIMEOUT=")
	require.Equal(t, 10, c.PoolSize)
	require.Equal(t, "small", c.Profile)
	require.Equal(t, "shop", c.PoolName)
	require.Equal(t, 5*time.Second, c.ConnectTimeout)
}

func TestLoadSharesNothingWithItsArguments(t *testing.T) {
	size, params := 3, map[string]string{"jit": "on"}
	c := loadWith(t, remote, Values{PoolSize: &size, ServerSettings: params})
	params["jit"] = "changed"
	require.Equal(t, "on", c.Conn.RuntimeParams["jit"])
	c.Conn.RuntimeParams["work_mem"] = "1GB"
	require.NotContains(t, params, "work_mem")
	require.NotContains(t, load(t, remote).Conn.RuntimeParams, "work_mem")
}

func TestCapacityIsSizePlusOverflow(t *testing.T) {
	require.Equal(t, 30, (&Config{PoolSize: 20, MaxOverflow: 10}).Capacity())
	require.Equal(t, math.MaxInt32, (&Config{PoolSize: 20, MaxOverflow: -1}).Capacity())
	require.Equal(t, math.MaxInt32, (&Config{PoolSize: math.MaxInt32, MaxOverflow: 1}).Capacity())
}

func TestAnEmptyDSNComesFromTheEnvironment(t *testing.T) {
	host := func(dsn string, code Values, environ ...string) string {
		return loadWith(t, dsn, code, environ...).Conn.Host
	}
	require.Equal(t, "one", host("host=one", Values{}, "DB_DSN=host=two", "DATABASE_URL=host=three"))
	require.Equal(t, "two", host("", Values{}, "DB_DSN=host=two", "DATABASE_URL=host=three"))
	require.Equal(t, "three", host(" ", Values{}, "DB_DSN=", "DATABASE_URL=postgres://three/x\n"))
	require.Equal(t, "x", load(t, "", "DATABASE_URL=postgres://three/x\n").Conn.Database)

	other := Values{EnvPrefix: new("ORDERS_")}
	require.Equal(t, "four", host("", other, "DB_DSN=host=two", "ORDERS_DSN=host=four"))
	require.Equal(t, "five", host("", other, "DATABASE_URL=host=two", "PGHOST=five"))
}

func TestAnotherPrefixWithoutADSNIsAnErrorThatNamesTheVariable(t *testing.T) {
	_, err := Load("", []string{"DB_DSN=host=two", "DATABASE_URL=host=two"}, Values{EnvPrefix: new("ORDERS_")}, "")
	require.EqualError(t, err,
		"pgprod: variable ORDERS_DSN: must hold the DSN, since the DSN is empty and PGHOST and PGSERVICE are not set")
}

func TestThePrefixOfTheEnvironmentComesFromCodeOrTheDSN(t *testing.T) {
	environ := []string{"DB_POOL_SIZE=1", "ORDERS_POOL_SIZE=2", "STOCK_POOL_SIZE=3"}
	size := func(dsn string, code Values) int { return loadWith(t, dsn, code, environ...).PoolSize }
	require.Equal(t, 1, size(remote, Values{}))
	require.Equal(t, 2, size(remote+"?env_prefix=ORDERS_", Values{}))
	require.Equal(t, 3, size(remote+"?env_prefix=ORDERS_", Values{EnvPrefix: new("STOCK_")}))
	require.Equal(t, "ORDERS_", load(t, remote+"?env_prefix=ORDERS_").EnvPrefix)
}

func TestADialIsBoundedWhereverItsTimeoutComesFrom(t *testing.T) {
	for _, dsn := range []string{remote, remote + "?connect_timeout=2s", remote + "?connect_timeout=9"} {
		c := load(t, dsn)
		require.Equal(t, c.ConnectTimeout, c.Conn.ConnectTimeout)
		require.NotNil(t, c.Conn.DialFunc)
	}
	require.Contains(t, refused(t, remote+"?connect_timeout=0"), "DSN key connect_timeout: must be a duration above 0")
	require.Contains(t, refused(t, remote, "PGCONNECT_TIMEOUT=0"), "variable PGCONNECT_TIMEOUT: must be a duration above 0")
	require.Equal(t, 2*time.Second, load(t, remote+"?connect_timeout=2", "PGCONNECT_TIMEOUT=0").ConnectTimeout)
}

func TestAVariableForADialsTimeoutIsOursOrLibpqs(t *testing.T) {
	timeout := func(dsn string, environ ...string) time.Duration { return load(t, dsn, environ...).ConnectTimeout }
	require.Equal(t, 7*time.Second, timeout(remote, "DB_CONNECT_TIMEOUT=7", "PGCONNECT_TIMEOUT=9"))
	require.Equal(t, 9*time.Second, timeout(remote, "ORDERS_CONNECT_TIMEOUT=7", "PGCONNECT_TIMEOUT=9"))
	require.Equal(t, 7*time.Second, timeout(remote+"?env_prefix=ORDERS_", "ORDERS_CONNECT_TIMEOUT=7", "PGCONNECT_TIMEOUT=9"))
	require.Equal(t, 1500*time.Millisecond, timeout(remote, "PGCONNECT_TIMEOUT=1.5s"))
	require.Equal(t, 1500*time.Millisecond, timeout("host=h", "PGCONNECT_TIMEOUT=1.5"))
	require.Equal(t, 9*time.Second, timeout(remote+"?connect_timeout=", "PGCONNECT_TIMEOUT=9"))
}

func TestAVariableThatNamesThePrefixOfVariablesIsRefused(t *testing.T) {
	require.Equal(t, "pgprod: variable DB_ENV_PREFIX: can't name the variables that are to be read; "+
		"option WithEnvPrefix or DSN key env_prefix serves", refused(t, remote, "DB_ENV_PREFIX=ORDERS_"))
}

func TestWhoForgotTheDSNIsKnown(t *testing.T) {
	require.Equal(t, "neither DB_DSN nor DATABASE_URL nor PGHOST is set", load(t, "", "DB_DSN=").NoDSN)
	for _, given := range []string{
		"DB_DSN=host=h sslmode=require", "DATABASE_URL=postgres://h", "PGHOST=h", "PGPORT=5433", "PGDATABASE=d", "PGUSER=u",
	} {
		t.Run(given, func(t *testing.T) { require.Empty(t, load(t, "", given).NoDSN) })
	}
	require.Empty(t, load(t, "host=/run/postgresql").NoDSN)
	require.Empty(t, load(t, "dbname=d").NoDSN)
}

func TestThePoolIsNamedAfterItsDatabase(t *testing.T) {
	for dsn, want := range map[string]string{
		"postgres://u@a:1,b:2/d": "d",
		"host=/run/pg dbname=d":  "d",
		"host=a user=u":          "u",
	} {
		require.Equal(t, want, load(t, dsn).PoolName)
	}
}

func TestTargetSessionAttrsIsKnownWhereverItIsGiven(t *testing.T) {
	require.Equal(t, "any", load(t, remote).TargetSessionAttrs)
	for name := range attrChecks {
		require.Equal(t, name, load(t, remote+"?target_session_attrs="+name).TargetSessionAttrs)
	}
	require.Equal(t, "primary", load(t, remote, "PGTARGETSESSIONATTRS=primary").TargetSessionAttrs)
}

func TestKeysInAServiceFileCount(t *testing.T) {
	path := filepath.Join(t.TempDir(), "services")
	require.NoError(t, os.WriteFile(path, []byte("[shop]\nhost=db.example.com\npool_size=7\ntarget_session_attrs=standby\n"+
		"application_name=billing\nconnect_timeout=9\n[slow]\nconnect_timeout=0\n"), 0o600))
	c := load(t, "service=shop", "PGSERVICEFILE="+path, "PGCONNECT_TIMEOUT=8")
	require.Equal(t, 7, c.PoolSize)
	require.Equal(t, "standby", c.TargetSessionAttrs)
	require.Equal(t, "billing", c.Conn.RuntimeParams["application_name"])
	require.Equal(t, 9*time.Second, c.ConnectTimeout)
	require.Equal(t, 9*time.Second, load(t, "service=shop servicefile="+path).ConnectTimeout)
	require.Contains(t, refused(t, "service=slow", "PGSERVICEFILE="+path), "pgprod: service file: connect_timeout: must be a duration above 0")
}

func TestTheMarkdownTableHasARowForEverySetting(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(Markdown()), "\n")
	require.Len(t, lines, len(table)+2)
	require.Equal(t, "| `pool_size` | `DB_POOL_SIZE` | 20 | connections kept when idle |", lines[3])
	for _, line := range lines {
		require.Equal(t, 5, strings.Count(line, "|"), line)
	}
}
