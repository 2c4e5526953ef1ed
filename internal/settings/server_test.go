package settings

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheServerSettingsOfTheGuideAreTheDefaults(t *testing.T) {
	c := load(t, remote)
	require.Equal(t, map[string]string{
		"jit": "off", "random_page_cost": "1.1", "effective_cache_size": "1GB",
		"idle_in_transaction_session_timeout": "300000", "statement_timeout": "31000",
		"application_name": programName(),
	}, c.Conn.RuntimeParams)
	require.Empty(t, c.Set)
}

func TestServerSettingsAreSplitOnlyWhereANameFollows(t *testing.T) {
	for text, want := range map[string]map[string]string{
		"jit=off":                               {"jit": "off"},
		"jit=off,work_mem=4MB":                  {"jit": "off", "work_mem": "4MB"},
		" jit = off , work_mem = 4MB , ":        {"jit": "off", "work_mem": "4MB"},
		"search_path=a,b,DateStyle=ISO, MDY":    {"search_path": "a,b", "DateStyle": "ISO, MDY"},
		`search_path="a b", public,my.ext$=x=y`: {"search_path": `"a b", public`, "my.ext$": "x=y"},
		"jit=":                                  {"jit": ""},
		"jit=,work_mem=4MB":                     {"jit": "", "work_mem": "4MB"},
		"jit=on,JIT=off":                        {"JIT": "off"},
		"":                                      {},
		"TimeZone=Europe/Berlin\n,\tlock_timeout=5": {"TimeZone": "Europe/Berlin", "lock_timeout": "5"},
	} {
		got, ok := parseServerSettings(text)
		require.True(t, ok, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"jit", "jit;off", "=off", "1jit=off", "work mem=4MB", "x,jit=off"} {
		_, ok := parseServerSettings(text)
		require.False(t, ok, text)
	}
}

func TestServerSettingsMergeByNameOverTheDefaults(t *testing.T) {
	c := loadWith(t, remote+"?server_settings=a=dsn,b%3Ddsn,c=dsn&b=param&c=param",
		Values{ServerSettings: map[string]string{"c": "code", "Random_Page_Cost": "4"}},
		"DB_SERVER_SETTINGS=a=env,d=env,jit=")
	p := c.Conn.RuntimeParams
	require.Equal(t, "dsn", p["a"])
	require.Equal(t, "param", p["b"])
	require.Equal(t, "code", p["c"])
	require.Equal(t, "env", p["d"])
	require.NotContains(t, p, "jit")
	require.Equal(t, "4", p["Random_Page_Cost"])
	require.NotContains(t, p, "random_page_cost")
}

func TestLibpqsApplicationNameWinsOverTheProgramsName(t *testing.T) {
	name := func(dsn string, environ ...string) string {
		return load(t, dsn, environ...).Conn.RuntimeParams["application_name"]
	}
	require.Equal(t, "billing", name(remote, "PGAPPNAME=billing"))
	require.Equal(t, "shop", name(remote, "PGAPPNAME=billing", "DB_SERVER_SETTINGS=application_name=shop"))
	require.Equal(t, "stock", name(remote+"?application_name=stock", "PGAPPNAME=billing"))
	require.Empty(t, name(remote+"?application_name=", "PGAPPNAME=billing"))
}

func TestTheProgramsNameFitsTheServersLimits(t *testing.T) {
	defer func(args []string) { os.Args = args }(os.Args)
	os.Args = []string{"/usr/bin/käse\tbrot" + strings.Repeat("x", 80)}
	require.Equal(t, "ksebrot"+strings.Repeat("x", 56), programName())
	os.Args = nil
	require.Empty(t, programName())
}

func TestTheServersTimeoutBacksUpOurs(t *testing.T) {
	backstop := func(dsn string, environ ...string) string {
		return load(t, dsn, environ...).Conn.RuntimeParams["statement_timeout"]
	}
	require.Equal(t, "31000", backstop(remote))
	require.Equal(t, "1250", backstop(remote+"?command_timeout=0.25"))
	require.Equal(t, "2147483647", backstop(remote+"?command_timeout=10000h"))
	require.Empty(t, backstop(remote+"?command_timeout=0"))
	require.Equal(t, "7", backstop(remote+"?statement_timeout=7"))
	require.Empty(t, backstop(remote+"?statement_timeout="))
	require.Equal(t, "7", backstop(remote, "DB_SERVER_SETTINGS=Statement_Timeout=0,statement_timeout=7"))
	require.Empty(t, backstop(remote, "PGOPTIONS=-c statement_timeout=9"))
	require.Empty(t, backstop(remote+"?options=-c%20statement_timeout%3D9"))
}

func TestTheOptionsOfLibpqAreReadAsTheServerReadsThem(t *testing.T) {
	for options, want := range map[string][]string{
		"":                             nil,
		"-c jit=on":                    {"jit"},
		" -c  jit=on\t-c\nwork_mem=1 ": {"jit", "work_mem"},
		"-cjit=on --work-mem=1MB":      {"jit", "work_mem"},
		`-c search_path=a\ -c\ jit=on -c geqo=off`: {"search_path", "geqo"},
		`-c a\b=x\`:     {"ab"},
		"-c jit -c":     nil,
		"jit=on -e -- ": nil,
	} {
		require.Equal(t, want, optionNames(options), options)
	}
}

func TestTheOptionsOfLibpqWinOverTheDefaultsAndNotOverWhatWasGiven(t *testing.T) {
	params := load(t, remote+"?options=-c%20Jit%3Don%20--random-page-cost%3D3&server_settings=random_page_cost=2").Conn.RuntimeParams
	require.NotContains(t, params, "jit")
	require.Equal(t, "2", params["random_page_cost"])
	require.Equal(t, "1GB", params["effective_cache_size"])
	params = loadWith(t, remote, Values{ServerSettings: map[string]string{"options": "-c jit=on"}}, "PGOPTIONS=-c random_page_cost=3").Conn.RuntimeParams
	require.NotContains(t, params, "jit")
	require.Equal(t, "1.1", params["random_page_cost"], "the options in code have replaced the variable's")
}

func TestInModeSetOnlyWhatPoolersKnowIsInTheStartupMessage(t *testing.T) {
	c := load(t, remote+"?server_settings_mode=set&search_path=a&client_encoding=UTF8&options=-c%20a%3Db&jit=")
	require.Equal(t, map[string]string{
		"application_name": programName(), "client_encoding": "UTF8", "options": "-c a=b",
	}, c.Conn.RuntimeParams)
	require.Equal(t, []Setting{
		{"effective_cache_size", "1GB"}, {"idle_in_transaction_session_timeout", "300000"},
		{"random_page_cost", "1.1"}, {"search_path", "a"}, {"statement_timeout", "31000"},
	}, c.Set)
}

func TestAClientEncodingThatWouldCorruptTextsIsRefused(t *testing.T) {
	for _, encoding := range []string{"UTF8", "utf-8", "'UTF8'", "Unicode"} {
		_, err := Load("host=h client_encoding="+encoding, nil, Values{}, "")
		require.NoError(t, err, encoding)
	}
	const want = "pgprod: server setting client_encoding: must be UTF8, as Go's texts are"
	require.Equal(t, want, refused(t, "host=h client_encoding=LATIN1"))
	require.Equal(t, want, refused(t, "host=h", "DB_SERVER_SETTINGS=client_encoding=SQL_ASCII"))
}

func TestServerSettingsAreLeftOutInACopy(t *testing.T) {
	for _, mode := range []string{"startup", "set"} {
		c := load(t, remote+"?server_settings_mode="+mode+"&Work_Mem=8MB")
		rest := c.WithoutServerSettings("work_mem", "JIT")
		for _, name := range []string{"work_mem", "jit"} {
			_, before := c.ServerSetting(name)
			_, after := rest.ServerSetting(name)
			require.True(t, before, name)
			require.False(t, after, name)
		}
		_, other := rest.ServerSetting("random_page_cost")
		require.True(t, other)
	}
}
