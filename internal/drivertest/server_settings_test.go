package drivertest

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

var settingsModes = []string{"startup", "set"}

// setting is what the server says of one.
func setting(t *testing.T, db *sql.DB, name string) string {
	t.Helper()
	return get[string](t, db, "select current_setting($1)", name)
}

func TestTheDefaultServerSettingsAreInForceInBothModes(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	for _, mode := range settingsModes {
		db := openPool(t, with(dsn, "server_settings_mode", mode))
		for name, expected := range map[string]string{
			"jit": "off", "random_page_cost": "1.1", "effective_cache_size": "1GB",
			"idle_in_transaction_session_timeout": "5min", "statement_timeout": "31s",
			"application_name": filepath.Base(os.Args[0]),
		} {
			assert.Equal(t, expected, setting(t, db, name), "%s, %s", name, mode)
		}
		// A transaction that is rolled back doesn't undo them.
		tx, err := db.Begin()
		require.NoError(t, err)
		require.NoError(t, tx.Rollback())
		assert.Equal(t, "1.1", setting(t, db, "random_page_cost"))
	}
}

func TestServerSettingsAreMergedOverriddenAndDropped(t *testing.T) {
	dsn := pgtest.NewDatabase(t)
	t.Setenv("DB_SERVER_SETTINGS", "random_page_cost=2, work_mem=2MB, effective_cache_size=2GB, jit=")
	dsn = with(dsn, "server_settings", "work_mem=3MB,effective_cache_size=3GB", "lock_timeout", "3s")
	plain := openPgx(t, pgtest.Shared(t).DSN(pgtest.DatabaseName(dsn)))
	for _, mode := range settingsModes {
		db := openPool(t, dsn, pgprod.WithServerSettingsMode(mode),
			pgprod.WithServerSettings(map[string]string{"effective_cache_size": "4GB", "IDLE_in_transaction_session_timeout": ""}))
		for name, expected := range map[string]string{
			"random_page_cost": "2", "work_mem": "3MB", "effective_cache_size": "4GB", "lock_timeout": "3s",
			"jit":                                 setting(t, plain, "jit"),
			"idle_in_transaction_session_timeout": setting(t, plain, "idle_in_transaction_session_timeout"),
		} {
			assert.Equal(t, expected, setting(t, db, name), "%s, %s", name, mode)
		}
	}
}

func TestTheOptionsOfLibpqWinOverTheDefaults(t *testing.T) {
	dsn := pgtest.NewDatabase(t)
	const options = `-c jit=on -crandom_page_cost=3 --effective-cache-size=3GB -c Idle_In_Transaction_Session_Timeout=3s` +
		` -c application_name=by\ options -c statement_timeout=3s`
	want := map[string]string{
		"jit": "on", "random_page_cost": "3", "effective_cache_size": "3GB", "idle_in_transaction_session_timeout": "3s",
		"application_name": "by options", "statement_timeout": "3s",
	}
	check := func(dsn string) {
		t.Helper()
		for _, mode := range settingsModes {
			db := openPool(t, dsn, pgprod.WithServerSettingsMode(mode))
			for name, expected := range want {
				assert.Equal(t, expected, setting(t, db, name), "%s, %s", name, mode)
			}
		}
	}
	check(with(dsn, "options", options))
	t.Setenv("PGOPTIONS", options)
	check(dsn)
	t.Setenv("DB_SERVER_SETTINGS", "jit=off,application_name=given")
	want["jit"], want["application_name"] = "off", "given"
	check(dsn)
}

func TestValuesOfServerSettingsArriveVerbatimInBothModes(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	for _, mode := range settingsModes {
		for name, value := range map[string]string{
			"my.quote":         `it's`,
			"my.double":        `"we, ird", public`,
			"my.comma":         `a,b = c,d`,
			"my.backslash":     `\' \\ \n`,
			"my.injection":     `x'; drop table t; --`,
			"my.other":         `$1, 'y', false), set_config('my.injected', 'z`,
			"my.space":         `  spaces around  `,
			"my.unicode":       `größe 表`,
			"search_path":      `"we""ird, 'schema'", public`,
			"application_name": `it's "mine"; -c work_mem=1MB`,
		} {
			db := openPool(t, dsn, pgprod.WithServerSettingsMode(mode), pgprod.WithServerSettings(map[string]string{name: value}))
			assert.Equal(t, value, setting(t, db, name), "%s, %s", name, mode)
			assert.Empty(t, get[string](t, db, "select coalesce(current_setting('my.injected', true), '')"))
			require.NoError(t, db.Close())
		}
	}
}

func TestServerSettingsCostNoRoundTripAtStartupAndOneInModeSet(t *testing.T) {
	t.Parallel()
	for mode, expected := range map[string]int{"startup": 1, "set": 2} {
		proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
		db := openPool(t, proxy.DSN(), pgprod.WithServerSettingsMode(mode))
		mustExec(t, db, "select 1")
		assert.Equal(t, expected, proxy.Stats().RoundTrips, mode)
		mustExec(t, db, "select 1")
		assert.Equal(t, expected+1, proxy.Stats().RoundTrips, mode)
	}
}

func TestModeSetSendsNoParameterThatAPoolerMayNotKnow(t *testing.T) {
	t.Parallel()
	db := openPool(t, pgtest.NewDatabase(t), pgprod.WithServerSettingsMode("set"))
	// What came with the startup message is what RESET goes back to.
	conn := hold(t, db)
	mustExec(t, conn, "reset all")
	for _, name := range []string{"jit", "random_page_cost", "effective_cache_size", "statement_timeout"} {
		assert.Equal(t, "default", sourceOf(t, conn, name), name)
	}
	assert.Equal(t, "client", sourceOf(t, conn, "application_name"), "which every pooler knows")
}

func sourceOf(t *testing.T, conn *sql.Conn, name string) string {
	t.Helper()
	source := get[string](t, conn, "select source from pg_settings where name = $1", name)
	if source == "configuration file" { // a server of ours has some, another one may have any
		return "default"
	}
	return source
}

func TestApplicationNameCanBeGivenInEachWay(t *testing.T) {
	dsn := pgtest.NewDatabase(t)
	name := func(dsn string, opts ...pgprod.Option) string {
		return setting(t, openPool(t, dsn, opts...), "application_name")
	}
	assert.Equal(t, filepath.Base(os.Args[0]), name(dsn), "the program")
	t.Setenv("PGAPPNAME", "libpq")
	assert.Equal(t, "libpq", name(dsn))
	t.Setenv("DB_SERVER_SETTINGS", "application_name=environment")
	assert.Equal(t, "environment", name(dsn))
	dsn = with(dsn, "application_name", "dsn")
	assert.Equal(t, "dsn", name(dsn))
	option := pgprod.WithServerSettings(map[string]string{"application_name": "option"})
	assert.Equal(t, "option", name(dsn, option))
}

func TestASettingThatTheServerRefusesFailsAtOnceNamingItAndLeavesNoConnection(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	for _, mode := range settingsModes {
		for name, c := range map[string]struct{ value, state string }{
			"random_page_cost": {"banana", "22023"},
			"no_such_setting":  {"1", "42704"},
			"max_connections":  {"7", "55P02"}, // needs a restart
			"search_path":      {`"unclosed`, "22023"},
		} {
			db := openPool(t, dsn, pgprod.WithServerSettingsMode(mode), pgprod.WithServerSettings(map[string]string{name: c.value}))
			for range 2 {
				within(t, 10*time.Second, func() { // pool_timeout is 30
					err := db.Ping()
					assert.Equal(t, c.state, sqlState(err), "%s, %s: %v", name, mode, err)
					assert.ErrorContains(t, err, name)
					assert.ErrorContains(t, err, "pgprod: ")
				})
			}
			status := statusOf(t, db)
			assert.Zero(t, status.CheckedIn+status.CheckedOut+status.Connecting)
		}
	}
	pgtest.Eventually(t, patience, func() bool {
		backends, err := pgtest.Shared(t).Backends(t.Context(), pgtest.DatabaseName(dsn))
		require.NoError(t, err)
		return len(backends) == 0
	}, "connections are left")
}
