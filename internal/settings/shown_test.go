package settings

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatIsShownHasEverySettingItsSourceAndNoSecret(t *testing.T) {
	environ := []string{"DB_POOL_SIZE=7", "DB_PROFILE=large"}
	dsn := "host=db.example.com user=app password=s3cret dbname=shop options='-c search_path=s3cret' my_PassPhrase=s3cret pwd2=s3cret app_secret=s3cret slow_query=1h30m"
	c, err := Load(dsn, environ, Values{Echo: new(true), ServerSettings: map[string]string{"work_mem": "8MB", "app.key": "s3cret"}}, "")
	require.NoError(t, err)

	shown := map[string]Shown{}
	for _, s := range c.Shown() {
		shown[s.Key] = s
		require.NotContains(t, s.Value, "s3cret")
	}
	require.Len(t, shown, len(table)+1)
	for key, want := range map[string]Shown{
		"pool_size":      {Value: "7", Source: SourceEnvironment},
		"max_overflow":   {Value: "20", Source: SourceProfile},
		"pool_recycle":   {Value: "15m", Source: SourceProfile},
		"slow_query":     {Value: "1h30m", Source: SourceDSN},
		"leak_detection": {Value: "1m", Source: SourceDefault},
		"echo":           {Value: "on", Source: SourceOption},
		"echo_pool":      {Value: "off", Source: SourceDefault},
		"pool_pre_ping":  {Value: "auto", Source: SourceDefault},
		"pool_name":      {Value: "shop", Source: SourceDefault},
		"password_file":  {Source: SourceDefault},
		"password":       {Value: mask, Source: SourceDSN},
	} {
		want.Key = key
		require.Equal(t, want, shown[key])
	}
	require.True(t, strings.HasPrefix(shown["server_settings"].Value, "app.key=••••, app_secret=••••, application_name="))
	require.Contains(t, shown["server_settings"].Value, "jit=off, my_PassPhrase=••••, pwd2=••••, random_page_cost=1.1")
	require.Contains(t, shown["server_settings"].Value, "work_mem=8MB")
	require.Equal(t, SourceOption, shown["server_settings"].Source)
}
