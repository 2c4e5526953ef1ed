package settings

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
)

func TestAWrongValueIsReportedUnderTheNameItWasWrittenWith(t *testing.T) {
	wrong := map[string]string{
		"profile": "huge", "pool_size": "0", "max_overflow": "-2", "pool_timeout": "-1", "pool_recycle": "soon",
		"pool_idle_timeout": "1d", "pool_min": "-1", "pool_pre_ping": "maybe", "pool_name": "a\tb", "environment": "test", "echo": "2",
		"echo_pool": "maybe", "slow_query": "-1s", "slow_query_plan": "often", "leak_detection": "NaN", "preflight": "perhaps", "server_settings": "jit",
		"server_settings_mode": "later", "pool_reset": "on", "begin": "late", "once_table": "a b", "trace_context": "on", "command_timeout": "1e3", "connect_timeout": "0", "password_file": "/none",
		"load_balance_hosts": "yes", "dead_after": "-1s", "env_prefix": "DB-",
	}
	for _, r := range table {
		value, ok := wrong[r.key]
		require.True(t, ok, r.key)
		want := r.want
		if r.key == "password_file" {
			want = "can't be read: no such file or directory"
		}
		require.Equal(t, "pgprod: DSN key "+r.key+": "+want, refused(t, "host=h "+r.key+"='"+value+"'"))
		require.Equal(t, "pgprod: DSN key "+r.key+" in DB_DSN: "+want, refused(t, "", "DB_DSN=host=h "+r.key+"='"+value+"'"))
		if !r.noEnv {
			require.Equal(t, "pgprod: variable DB_"+r.env()+": "+want, refused(t, "host=h", "DB_"+r.env()+"="+value))
		}
	}
}

func TestAWrongValueInCodeIsReportedUnderItsOption(t *testing.T) {
	for option, code := range map[string]Values{
		"WithProfile": {Profile: new("huge")}, "WithPoolSize": {PoolSize: new(0)}, "WithMaxOverflow": {MaxOverflow: new(-2)},
		"WithPoolTimeout": {PoolTimeout: seconds(-1)}, "WithPoolRecycle": {PoolRecycle: seconds(-1)},
		"WithPoolIdleTimeout": {PoolIdleTimeout: seconds(-1)}, "WithPoolPrePing": {PoolPrePing: new(PrePing("maybe"))},
		"WithPoolMin": {PoolMin: new(-1)}, "WithPoolName": {PoolName: new("a\nb")}, "WithEnvironment": {Environment: new("test")},
		"WithSlowQuery": {SlowQuery: seconds(-1)}, "WithLeakDetection": {LeakDetection: seconds(-1)},
		"WithServerSettings":     {ServerSettings: map[string]string{"work mem": "1"}},
		"WithServerSettingsMode": {ServerSettingsMode: new("later")}, "WithCommandTimeout": {CommandTimeout: seconds(-1)},
		"WithConnectTimeout": {ConnectTimeout: seconds(0)}, "WithEnvPrefix": {EnvPrefix: new("1_")},
	} {
		_, err := Load("host=h", nil, code, "")
		require.ErrorContains(t, err, "pgprod: option "+option+": must be ")
	}
	_, err := Load("host=h", nil, Values{ServerSettings: map[string]string{"jit": "a\x00b"}}, "")
	require.ErrorContains(t, err, "option WithServerSettings")
	_, err = Load("host=h", nil, Values{PoolSize: new(1 << 40)}, "")
	require.ErrorContains(t, err, "option WithPoolSize")
}

func TestNoMoreConnectionsAreMadeAheadThanThePoolKeeps(t *testing.T) {
	require.Equal(t, "pgprod: DSN key pool_min: must be at most pool_size, which is 20", refused(t, "host=h pool_min=21"))
	require.Equal(t, "pgprod: variable DB_POOL_MIN: must be at most pool_size, which is 10",
		refused(t, "host=h profile=small", "DB_POOL_MIN=20"))
	_, err := Load("host=h pool_size=2", nil, Values{PoolMin: new(3)}, "")
	require.EqualError(t, err, "pgprod: option WithPoolMin: must be at most pool_size, which is 2")
	require.Equal(t, 20, load(t, "host=h pool_min=20").PoolMin)
}

func TestEverythingWrongIsReportedAtOnce(t *testing.T) {
	_, err := Load("host=h port=x pool_size=0 sever_settings=jit", []string{"DB_ECHO=maybe", "DB_PROFILE=huge"},
		Values{SlowQuery: seconds(-1)}, "")
	require.Equal(t, []string{
		"pgprod: option WithSlowQuery: " + wantDuration,
		"pgprod: DSN key port: must be a number from 1 to 65535; in a URL's password write %3A for :, %2F for / and %40 for @",
		"pgprod: DSN key sever_settings: is not a setting; did you mean server_settings?",
		"pgprod: DSN key pool_size: must be a whole number of at least 1",
		"pgprod: variable DB_ECHO: must be true, on, yes, 1, false, off, no or 0",
		"pgprod: variable DB_PROFILE: must be small, medium or large",
	}, strings.Split(err.Error(), "\n"))
}

func TestAMisspeltKeyIsReportedAndTheRightOneNamed(t *testing.T) {
	for key, want := range map[string]string{
		"sever_settings":  "DSN key sever_settings: is not a setting; did you mean server_settings?",
		"comand_timeout":  "DSN key comand_timeout: is not a setting; did you mean command_timeout?",
		"Pool_Size":       "DSN key Pool_Size: is not a setting; did you mean pool_size?",
		"pool-size":       "DSN: has a key that is not a setting; did you mean pool_size?",
		"conect_timeuot":  "DSN key conect_timeuot: is not a setting; did you mean connect_timeout?",
		"ehco":            "DSN key ehco: is not a setting; did you mean echo?",
		"pool_max_conns":  "DSN key pool_max_conns: is pgxpool's; pool_size and max_overflow serve here",
		"pool_unheard_of": "DSN key pool_unheard_of: is not a setting; there are profile, pool_size, ",
		"ssl":             "DSN key ssl: must be true, in a URL; sslmode serves otherwise",
		"work%20mem":      "DSN: has a key that is not a name; a DSN is postgres://",
	} {
		require.Contains(t, refused(t, remote+"?"+key+"=1"), want, key)
	}
}

func TestServerSettingsAndOtherSettingsOfPgxPassThroughADSN(t *testing.T) {
	for _, key := range strings.Fields(`timezone role geqo jit port_x lock_timeout statement_timeout transaction_timeout
		search_path echoes my.setting force_parallel_mode client_min_messages`) {
		require.Equal(t, "x", load(t, remote+"?"+key+"=x").Conn.RuntimeParams[key], key)
	}
	for _, key := range pgxKeys {
		require.Empty(t, misspelt(key), key)
		conn, err := pgx.ParseConfig("host=h " + key + "=''")
		require.True(t, err != nil || conn.RuntimeParams[key] == "", "%s is the server's", key)
	}
}

func TestEachKeyOfOthersIsRefusedWithWhatServes(t *testing.T) {
	all, words := maps.Clone(hints), 0
	for _, f := range foreign {
		words += len(strings.Fields(f.words))
	}
	require.Len(t, foreignHints, words, "one is there twice")
	for key, hint := range foreignHints {
		require.Empty(t, hints[key], "%s has two hints", key)
		require.Nil(t, rowOf(key), key)
		require.NotContains(t, pgxKeys, key)
		if isSettingName(key) {
			all[key] = hint
		} else {
			require.Equal(t, "pgprod: DSN: has a key that "+hint, refused(t, remote+"?"+key+"=s3cret"))
		}
	}
	for key, hint := range all {
		if !slices.ContainsFunc(takens, func(t taken) bool { return t.word == key && t.values == nil && !t.jdbc }) {
			require.Equal(t, "pgprod: DSN key "+key+": "+hint, refused(t, remote+"?"+key+"=s3cret"))
		}
		key = strings.ToUpper(key)
		require.Equal(t, "pgprod: DSN key "+key+": "+hint, refused(t, "host=h "+key+"=s3cret"))
	}
}

// To the server a key of pgx's in capitals would be a parameter, and a password in it no secret.
func TestAKeyOfPgxInCapitalsIsRefused(t *testing.T) {
	for _, key := range pgxKeys {
		key = strings.ToUpper(key[:1]) + key[1:]
		require.Equal(t, "pgprod: DSN key "+key+": is written in small letters: "+strings.ToLower(key), refused(t, "host=h "+key+"=s3cret"))
	}
	for _, dsn := range []string{
		"Host=h Port=5433 Username=u Password=s3cret Database=d", "Server=h;Port=5432;User Id=u;Password=s3cret;",
		"Server=h;Database=d;UID=u;PWD=s3cret", "host=h passwd=s3cret",
	} {
		require.NotContains(t, refused(t, dsn), "s3cret")
	}
}

func TestAConfigThatIsRegisteredWithPgxIsNoDSN(t *testing.T) {
	name := stdlib.RegisterConnConfig(&pgx.ConnConfig{})
	defer stdlib.UnregisterConnConfig(name)
	require.Equal(t, "pgprod: DSN: is a name of stdlib.RegisterConnConfig, whose configurations only the driver pgx knows: "+
		"give the DSN itself, and options to pgprod.Open", refused(t, name))
}

func TestWhatPgxRefusesIsReportedWithoutItsWords(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "s3cret.pem")
	require.NoError(t, os.WriteFile(bad, []byte("s3cret"), 0o600))
	for dsn, want := range map[string]string{
		"s3cret":                                                   "DSN: can't be read; a DSN is postgres://",
		"mysql://u:s3cret@h/d":                                     "DSN: can't be read: its URL begins with neither postgres:// nor",
		"jdbc:mysql://u:s3cret@h/d?x=y":                            "DSN: is JDBC's: write postgres://",
		"r2dbc:postgresql://u:s3cret@h/d":                          "DSN: is JDBC's: write postgres://",
		"postgresql+psycopg+x://u:s3cret@h/d":                      "DSN: is SQLAlchemy's: write postgres://",
		"postgres://u:[YOUR-PASSWORD]@h/d":                         "DSN key password: is a placeholder: put the password in its place",
		"POSTGRES://u:s3cret@h/d":                                  "DSN: begins with capital letters",
		"prisma://accelerate.prisma-data.net/?api_key=s3cret":      "DSN: can't be read: its URL begins with neither",
		`"postgres://u:s3cret@h/d"`:                                "DSN: is in quotes: leave them out",
		"'postgresql://u:s3cret@h/d'":                              "DSN: is in quotes: leave them out",
		"DATABASE_URL=postgres://u:s3cret@h/d":                     "DSN key DATABASE_URL: is not a key: give what stands behind it alone",
		"host=h password=s3cret sslmode=no-verify":                 "DSN key sslmode: must be disable, allow, prefer, require, verify-ca or verify-full; no-verify is node-postgres's, require serves here",
		"host=h password='s3cret":                                  "DSN: has a value whose closing quote is missing",
		"host=h password=s3cret x":                                 "DSN: can't be read",
		"postgres://u:s3cret%@h/d":                                 "DSN: is not a URL: a % in it",
		"postgres://u:s3 cret@h/d":                                 "DSN: is not a URL: write %20",
		"postgres://u:s3cret@h/d?options=a=b":                      "DSN: is not a URL: a value in it has a =",
		"postgres://u:s3cret@h/d?x":                                "DSN: can't be read",
		"postgres://u:s3:cr/et@h/d":                                "DSN key port: must be a number",
		"postgres://u:s3cret@h:70000/d":                            "DSN key port: must be a number",
		"postgres://u:s3cret@a:1,b:2,c/d?port=1,2":                 "DSN key port: must give one port",
		"host=h target_session_attrs=s3cret":                       "DSN key target_session_attrs: must be any",
		"host=h service=s3cret":                                    "DSN key service: must name",
		"host=h sslcertmode=s3cret":                                "DSN key sslcertmode: must be",
		"host=h min_protocol_version=s3cret":                       "DSN key min_protocol_version: must be",
		"host=h max_protocol_version=s3cret":                       "DSN key max_protocol_version: must be",
		"host=h min_protocol_version=3.2 max_protocol_version=3.0": "DSN key min_protocol_version: must not be above",
		"host=h channel_binding=s3cret":                            "DSN key channel_binding: must be",
		"host=h require_auth=s3cret":                               "DSN key require_auth: must be",
		"host=h statement_cache_capacity=s3cret":                   "DSN key statement_cache_capacity: must be",
		"host=h description_cache_capacity=s3cret":                 "DSN key description_cache_capacity: must be",
		"host=h default_query_exec_mode=s3cret":                    "DSN key default_query_exec_mode: must be",
		"host=h sslmode=s3cret":                                    "DSN key sslmode: must be",
		"host=h sslrootcert=/s3cret":                               "DSN key sslrootcert: can't be read: no such file",
		"host=h sslrootcert=" + bad:                                "DSN key sslrootcert: holds no PEM",
		"host=h sslcert=/s3cret":                                   "DSN key sslcert: must be given together",
		"host=h sslcert=/s3cret sslkey=/s3cret":                    "DSN key sslkey: can't be read: no such file",
		"host=h sslcert=/s3cret sslkey=" + bad:                     "DSN key sslkey: holds no PEM",
	} {
		text := refused(t, dsn)
		require.Contains(t, text, want, dsn)
		require.NotContains(t, text, "is refused by pgx")
		require.NotContains(t, text, "s3cret")
	}
}

func TestWhatPgxRefusesInItsVariablesIsReportedUnderTheirNames(t *testing.T) {
	for variable, want := range map[string]string{
		"PGPORT=s3cret":               "variable PGPORT: must be a number",
		"PGCONNECT_TIMEOUT=s3cret":    "variable PGCONNECT_TIMEOUT: must be a duration above 0",
		"PGTARGETSESSIONATTRS=s3cret": "variable PGTARGETSESSIONATTRS: must be any",
		"PGSSLMODE=s3cret":            "variable PGSSLMODE: must be disable",
		"PGSSLROOTCERT=/nowhere/root": "variable PGSSLROOTCERT: can't be read: open /nowhere/root: no such file",
	} {
		t.Run(variable, func(t *testing.T) {
			text := refused(t, "host=h", variable)
			require.Contains(t, text, want)
			require.NotContains(t, text, "s3cret")
		})
	}
	require.Contains(t, refused(t, "postgres://h:x/d", "PGPORT=5432"), "DSN key port:")
}

// What follows the first @ would be a host, and what follows a / a database: names of pools, which are shown everywhere.
func TestAPasswordThatIsNotEscapedIsRefusedAndNotShown(t *testing.T) {
	const escape = "in a URL's user, password or database write %40 for @ and %2F for /"
	for _, url := range []string{
		"postgres://u:p@s3cret@127.0.0.1/d", "postgresql://u:p@s3cret@h:5432,i/d?sslmode=disable", "postgres://u:p@s3,cret@h/d",
		"postgres://u:p@@h/d", "postgres://u:@s3cret@h", "postgres://u@s3cret:pw@h/d",
		"postgres://u:12/s3cret@127.0.0.1/d", "postgres://u:/s3cret@h/d", "postgres://u:p@s3/cret@h/d", "postgres://u/s3cret@h",
	} {
		text := refused(t, url)
		require.Contains(t, text, "pgprod: DSN: has an @ where none can be: "+escape, url)
		require.NotContains(t, text, "cret")
		require.Contains(t, refused(t, "", "DB_DSN="+url), "variable DB_DSN: has an @", url)
	}
	for dsn, where := range map[string]string{
		"postgres://u:p@h%40s3cret/d": "DSN key host", "postgres://h/d?host=p%40s3cret": "DSN key host", "host=h,u@s3cret": "DSN key host",
	} {
		require.Equal(t, "pgprod: "+where+": has an @, as no host has: "+escape, refused(t, dsn), dsn)
	}
	require.Equal(t, "pgprod: variable PGHOST: has an @, as no host has: "+escape, refused(t, "dbname=d", "PGHOST=p@s3cret"))

	for dsn, database := range map[string]string{
		"postgres://u:p%40s3cret@h/d": "d", "postgres://u:12%2Fs3cret@h/d": "d", "postgres://u%40corp:p@h/d": "d",
		"postgres://u@h/a%40b": "a@b", "host=h dbname=a@b": "a@b", "host=@socket dbname=d": "d",
		"postgres://u@h/d?application_name=a@b": "d", "host=/run/job@2 dbname=d": "d", "postgres://u@/d?host=/run/job@2": "d",
		"postgres://u@%2Frun%2Fjob%402/d": "d",
	} {
		require.Equal(t, database, load(t, dsn).Conn.Database, dsn)
	}
}

func TestTheErrorOfPgxIsNotToBeFoundInOurs(t *testing.T) {
	_, err := Load("postgres://u:s3cret@h:x/d", nil, Values{}, "")
	var parse *pgconn.ParseConfigError
	require.False(t, errors.As(err, &parse))
	_, err = Load("host=h sslrootcert=/nowhere", nil, Values{}, "")
	require.False(t, errors.As(err, &parse))
	require.ErrorIs(t, err, os.ErrNotExist)
}
