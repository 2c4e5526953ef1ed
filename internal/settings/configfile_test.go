package settings

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// The `database:` section of the production guide, in the two forms of config files.
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

func TestTheGuidesConfigFileCanBeDecodedStraightIntoValues(t *testing.T) {
	for name, decode := range map[string]func(any) error{
		"yaml": func(v any) error { return yaml.Unmarshal([]byte(guideYAML), v) },
		"json": func(v any) error { return json.Unmarshal([]byte(guideJSON), v) },
	} {
		t.Run(name, func(t *testing.T) {
			var file struct{ Database Values }
			require.NoError(t, decode(&file))
			c := loadWith(t, remote, file.Database)
			require.Equal(t, 20, c.PoolSize)
			require.Equal(t, 10, c.MaxOverflow)
			require.Equal(t, 30*time.Second, c.PoolTimeout)
			require.Equal(t, 30*time.Minute, c.PoolRecycle)
			require.Equal(t, PrePingAlways, c.PrePing)
			require.False(t, c.Echo)
			require.True(t, c.EchoPool)
			require.Equal(t, 30*time.Second, c.CommandTimeout)
			require.Equal(t, 250*time.Millisecond, c.SlowQuery)
			require.Equal(t, 90*time.Second, c.PoolIdleTimeout)
			require.Equal(t, "production_api", c.Conn.RuntimeParams["application_name"])
			require.Equal(t, "2GB", c.Conn.RuntimeParams["effective_cache_size"])
			require.Equal(t, "4096", c.Conn.RuntimeParams["work_mem"])
			require.Nil(t, file.Database.PoolName)
		})
	}
}

func TestValuesSurviveBeingWrittenAndReadAgain(t *testing.T) {
	var want Values
	require.NoError(t, json.Unmarshal([]byte(`{"pool_timeout": 0.25, "pool_pre_ping": false, "pool_size": 3}`), &want))

	text, err := json.Marshal(want)
	require.NoError(t, err)
	require.JSONEq(t, `{"pool_timeout": "250ms", "pool_pre_ping": "off", "pool_size": 3}`, string(text))
	var got Values
	require.NoError(t, json.Unmarshal(text, &got))
	require.Equal(t, want, got)

	text, err = yaml.Marshal(want)
	require.NoError(t, err)
	got = Values{}
	require.NoError(t, yaml.Unmarshal(text, &got))
	require.Equal(t, want, got)
}

func TestDurationsTakeGosFormAndBareSeconds(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"30s": 30 * time.Second, "1m30s": 90 * time.Second, "30": 30 * time.Second, "0.25": time.Second / 4, "0": 0,
		" 5 ": 5 * time.Second, "-1": -time.Second, "1h": time.Hour, "0.1": 100 * time.Millisecond,
	} {
		var d Duration
		require.NoError(t, d.UnmarshalText([]byte(text)), text)
		require.Equal(t, want, time.Duration(d), text)
	}
	for _, text := range []string{"", "s3cret", "30 s", "NaN", "Inf", "0x10", "1e3", "9999999999999999999", "1.2.3", "--1", "."} {
		var d Duration
		require.EqualError(t, d.UnmarshalText([]byte(text)), errDuration.Error(), text)
	}
}

func TestAnEmptyTextInAConfigFileIsNotSet(t *testing.T) {
	const file = `{"profile": "", "pool_pre_ping": "", "pool_name": "", "environment": "", "server_settings_mode": "", "password_file": ""}`
	for _, decode := range []func([]byte, any) error{json.Unmarshal, yaml.Unmarshal} { // JSON is YAML
		var v Values
		require.NoError(t, decode([]byte(file), &v))
		c := loadWith(t, remote, v, "DB_PROFILE=small", "DB_POOL_PRE_PING=off")
		require.Equal(t, []any{10, PrePingOff, "db.example.com:5432/shop"}, []any{c.PoolSize, c.PrePing, c.PoolName})
	}
}

func TestAConfigFilesNullIsNotSet(t *testing.T) {
	var v Values
	require.NoError(t, json.Unmarshal([]byte(`{"pool_timeout": null, "pool_pre_ping": null}`), &v))
	require.Equal(t, Values{}, v)
	require.Error(t, json.Unmarshal([]byte(`{"pool_pre_ping": "maybe"}`), &v))
	require.Error(t, json.Unmarshal([]byte(`{"pool_timeout": ""}`), &v), "there is no such duration, and nil can't be meant")
	require.Error(t, json.Unmarshal([]byte(`{"pool_timeout": {}}`), &v))
}
