package drivertest

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/pgprod/pgprod"
)

// A `database:` section, in the two forms of config files.
const (
	guideYAML = `
database:
  profile: small
  pool_size: 20
  max_overflow: 10
  pool_timeout: 30
  pool_recycle: 1800
  pool_pre_ping: True
  echo: False
  echo_pool: True
  server_settings: {
    "jit": "off",
    "application_name": "production_api",
    "random_page_cost": "1.1",
    "effective_cache_size": 2GB,
    "work_mem": 4096
  }
  command_timeout: 30
  slow_query: 0.25
  pool_idle_timeout: 1m30s
`
	guideJSON = `{"database": {"profile": "small", "pool_size": 20, "max_overflow": 10, "pool_timeout": 30,
  "pool_recycle": 1800, "pool_pre_ping": true, "echo": false, "echo_pool": true, "server_settings": {"jit": "off",
  "application_name": "production_api", "random_page_cost": "1.1", "effective_cache_size": "2GB", "work_mem": "4096"},
  "command_timeout": 30, "slow_query": 0.25, "pool_idle_timeout": "1m30s"}}`
)

func seconds(n float64) *pgprod.Duration { return new(pgprod.Duration(n * float64(time.Second))) }

// inForce are the settings of a pool that is opened with options and never used.
func inForce(t *testing.T, opts ...pgprod.Option) map[string]string {
	t.Helper()
	db, err := pgprod.Open(nobody, opts...)
	require.NoError(t, err)
	defer db.Close()
	all := map[string]string{}
	for _, s := range pools(t, pgprod.DebugHandler(db))[0].Snapshot.Settings {
		all[s.Key] = s.Value
	}
	return all
}

func TestTheGuidesConfigFileCanBeDecodedStraightIntoOptions(t *testing.T) {
	want := pgprod.Options{
		Profile: new("small"), PoolSize: new(20), MaxOverflow: new(10), PoolTimeout: seconds(30), PoolRecycle: seconds(1800),
		PoolPrePing: new(pgprod.PrePingAlways), Echo: new(false), EchoPool: new(true), CommandTimeout: seconds(30),
		SlowQuery: seconds(0.25), PoolIdleTimeout: seconds(90),
		ServerSettings: map[string]string{"jit": "off", "application_name": "production_api", "random_page_cost": "1.1",
			"effective_cache_size": "2GB", "work_mem": "4096"},
	}
	for name, decode := range map[string]func(any) error{
		"yaml": func(v any) error { return yaml.Unmarshal([]byte(guideYAML), v) },
		"json": func(v any) error { return json.Unmarshal([]byte(guideJSON), v) },
	} {
		var file struct{ Database pgprod.Options }
		require.NoError(t, decode(&file), name)
		require.Equal(t, want, file.Database, name)
	}
	got := inForce(t, pgprod.WithOptions(want))
	for key, value := range map[string]string{
		"profile": "small", "pool_size": "20", "max_overflow": "10", "pool_timeout": "30s", "pool_recycle": "30m",
		"pool_pre_ping": "always", "echo": "off", "echo_pool": "on", "command_timeout": "30s", "slow_query": "250ms",
		"pool_idle_timeout": "1m30s", "pool_name": "nobody",
	} {
		assert.Equal(t, value, got[key], key)
	}
	assert.Contains(t, got["server_settings"], "application_name=production_api, effective_cache_size=2GB")
	assert.Contains(t, got["server_settings"], "work_mem=4096")
}

func TestOptionsSurviveBeingWrittenAndReadAgain(t *testing.T) {
	var want pgprod.Options
	require.NoError(t, json.Unmarshal([]byte(`{"pool_timeout": 0.25, "pool_pre_ping": false, "pool_size": 3}`), &want))

	text, err := json.Marshal(want)
	require.NoError(t, err)
	require.JSONEq(t, `{"pool_timeout": "250ms", "pool_pre_ping": "off", "pool_size": 3}`, string(text))
	var got pgprod.Options
	require.NoError(t, json.Unmarshal(text, &got))
	require.Equal(t, want, got)

	text, err = yaml.Marshal(want)
	require.NoError(t, err)
	got = pgprod.Options{}
	require.NoError(t, yaml.Unmarshal(text, &got))
	require.Equal(t, want, got)
}

func TestAnEmptyTextInAConfigFileIsNotSet(t *testing.T) {
	const file = `{"profile": "", "pool_pre_ping": "", "pool_name": "", "environment": "", "server_settings_mode": "", "password_file": ""}`
	t.Setenv("DB_PROFILE", "small")
	t.Setenv("DB_POOL_PRE_PING", "off")
	for _, decode := range []func([]byte, any) error{json.Unmarshal, yaml.Unmarshal} { // JSON is YAML
		var o pgprod.Options
		require.NoError(t, decode([]byte(file), &o))
		got := inForce(t, pgprod.WithOptions(o))
		assert.Equal(t, []string{"10", "off", "nobody"}, []string{got["pool_size"], got["pool_pre_ping"], got["pool_name"]})
	}
}

func TestAConfigFilesNullIsNotSet(t *testing.T) {
	var o pgprod.Options
	require.NoError(t, json.Unmarshal([]byte(`{"pool_timeout": null, "pool_pre_ping": null}`), &o))
	require.Equal(t, pgprod.Options{}, o)
	require.Error(t, json.Unmarshal([]byte(`{"pool_pre_ping": "maybe"}`), &o))
	require.Error(t, json.Unmarshal([]byte(`{"pool_timeout": ""}`), &o), "there is no such duration, and nil can't be meant")
	require.Error(t, json.Unmarshal([]byte(`{"pool_timeout": {}}`), &o))
}

func TestAModeMayBeAConstantOrATextThatTheProgramHasRead(t *testing.T) {
	read := "always"
	for _, opt := range []pgprod.Option{
		pgprod.WithPoolPrePing(pgprod.PrePingAlways), pgprod.WithPoolPrePing("always"), pgprod.WithPoolPrePing(read),
		pgprod.WithOptions(pgprod.Options{PoolPrePing: new(pgprod.PrePingAlways)}),
	} {
		assert.Equal(t, "always", inForce(t, opt)["pool_pre_ping"])
	}
	read = "development"
	for _, opt := range []pgprod.Option{
		pgprod.WithEnvironment(pgprod.Development), pgprod.WithEnvironment("development"), pgprod.WithEnvironment(read),
		pgprod.WithOptions(pgprod.Options{Environment: new(pgprod.Development)}),
		pgprod.WithOptions(pgprod.Options{Environment: new("development")}),
	} {
		assert.Equal(t, "development", inForce(t, opt)["environment"])
	}
	read = "set"
	for _, opt := range []pgprod.Option{
		pgprod.WithServerSettingsMode(pgprod.ServerSettingsSet), pgprod.WithServerSettingsMode(read),
	} {
		assert.Equal(t, "set", inForce(t, opt)["server_settings_mode"])
	}
}
