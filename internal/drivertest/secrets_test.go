package drivertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

const secret = `s3cret p@ss:w/ö'rd"\%`

// withoutPassword is the keyword/value DSN of a server, for the database postgres.
func withoutPassword(server *pgtest.Server) string {
	return fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres sslmode=disable", server.Host(), server.Port())
}

func passwordFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func TestThePasswordCanComeFromEachSource(t *testing.T) {
	server := pgtest.StartTB(t, pgtest.Config{Password: secret})
	bare := withoutPassword(server)
	for name, c := range map[string]struct {
		dsn  string
		vars map[string]string
		opts []pgprod.Option
	}{
		"a URL":                   {dsn: server.DSN("")},
		"keywords":                {dsn: bare + " password='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(secret) + "'"},
		"DB_PASSWORD":             {dsn: bare, vars: map[string]string{"DB_PASSWORD": secret}},
		"PGPASSWORD":              {dsn: bare, vars: map[string]string{"PGPASSWORD": secret}},
		"DB_PASSWORD over PG's":   {dsn: bare, vars: map[string]string{"DB_PASSWORD": secret, "PGPASSWORD": "wrong"}},
		"a file":                  {dsn: bare + " password_file='" + passwordFile(t, secret) + "'"},
		"DB_PASSWORD_FILE":        {dsn: bare, vars: map[string]string{"DB_PASSWORD_FILE": passwordFile(t, secret+"\n")}},
		"a file with CRLF":        {dsn: bare, opts: []pgprod.Option{pgprod.WithPasswordFile(passwordFile(t, secret+"\r\n"))}},
		"a function":              {dsn: bare, opts: []pgprod.Option{pgprod.WithPasswordFunc(constant(secret))}},
		"a function over PG's":    {dsn: bare, vars: map[string]string{"PGPASSWORD": "wrong"}, opts: []pgprod.Option{pgprod.WithPasswordFunc(constant(secret))}},
		"another prefix":          {dsn: bare + " env_prefix=ORDERS_", vars: map[string]string{"ORDERS_PASSWORD": secret, "DB_PASSWORD": "wrong"}},
		"a URL over DB_PASSWORD":  {dsn: server.DSN(""), vars: map[string]string{"DB_PASSWORD": "wrong"}},
		"DB_DSN with a password":  {vars: map[string]string{"DB_DSN": server.DSN("")}},
		"DB_DSN and DB_PASSWORD ": {vars: map[string]string{"DB_DSN": bare, "DB_PASSWORD": secret}},
	} {
		t.Run(name, func(t *testing.T) {
			for key, value := range c.vars {
				t.Setenv(key, value)
			}
			var logged logBuffer
			db := openPool(t, c.dsn, append(c.opts, pgprod.WithLogger(logged.logger()), pgprod.WithEcho(true), pgprod.WithEchoPool(true))...)
			require.NoError(t, db.Ping())
			assert.NotContains(t, logged.String(), "s3cret")
			assert.NotContains(t, statusOf(t, db).PoolName, "s3cret")
		})
	}
}

func constant(password string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return password, nil }
}

func TestARotatedPasswordNeedsNoRestart(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Password: "first"})
	file := passwordFile(t, "first\n")
	var current atomic.Pointer[string]
	first, second := "first", "second"
	current.Store(&first)
	fromFile := openPool(t, withoutPassword(server), pgprod.WithPasswordFile(file))
	fromFunc := openPool(t, withoutPassword(server),
		pgprod.WithPasswordFunc(func(context.Context) (string, error) { return *current.Load(), nil }))
	require.NoError(t, fromFile.Ping())
	require.NoError(t, fromFunc.Ping())

	require.NoError(t, server.SetPassword(t.Context(), "second"))
	require.NoError(t, fromFile.Ping(), "connections that stand live on")
	require.NoError(t, server.TerminateAll(t.Context()))
	for _, db := range []interface{ Ping() error }{fromFile, fromFunc} {
		assert.Equal(t, "28P01", sqlState(db.Ping()), "the old one is refused")
	}
	require.NoError(t, os.WriteFile(file, []byte("second\n"), 0o600))
	current.Store(&second)
	require.NoError(t, fromFile.Ping())
	require.NoError(t, fromFunc.Ping())
}

func TestAPasswordFileThatHasGoneIsAnErrorThatNamesIt(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Password: secret})
	file := passwordFile(t, secret)
	db := openPool(t, withoutPassword(server)+" pool_timeout=1s", pgprod.WithPasswordFile(file))
	require.NoError(t, os.Remove(file))
	err := db.Ping()
	require.ErrorContains(t, err, "password_file")
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(file, []byte(secret), 0o600))
	pgtest.Eventually(t, patience, func() bool { return db.Ping() == nil }, "it is read anew")
}

func TestAFailingPasswordFunctionIsTheCauseOfTheError(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Password: secret})
	mine := errors.New("no token today")
	db := openPool(t, withoutPassword(server)+" pool_timeout=1s",
		pgprod.WithPasswordFunc(func(context.Context) (string, error) { return "", mine }))
	err := db.Ping()
	require.ErrorIs(t, err, mine)
	require.ErrorContains(t, err, "password function")
}

func TestAnEmptyPasswordOfTheFunctionIsNoneAndNothingElseIsAsked(t *testing.T) {
	server := pgtest.StartTB(t, pgtest.Config{Password: secret})
	t.Setenv("PGPASSWORD", secret)
	t.Setenv("DB_PASSWORD", secret)
	require.NoError(t, openPool(t, withoutPassword(server)).Ping())
	err := openPool(t, withoutPassword(server), pgprod.WithPasswordFunc(constant(""))).Ping()
	require.Equal(t, "28P01", sqlState(err), "%v", err)
}

// TestWhatTheServerRefusesForGoodFailsAtOnceAndTellsNoSecret would wait for pool_timeout otherwise.
func TestWhatTheServerRefusesForGoodFailsAtOnceAndTellsNoSecret(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Password: secret})
	base := fmt.Sprintf("host=%s port=%d sslmode=disable pool_timeout=2m password=s3cret-wrong ", server.Host(), server.Port())
	right := with(server.DSN("nowhere"), "pool_timeout", "2m")
	for name, c := range map[string]struct{ dsn, state, names string }{
		"a wrong password":    {base + "user=postgres dbname=postgres", "28P01", "postgres"},
		"an unknown user":     {base + "user=nobody_here dbname=postgres", "28P01", "nobody_here"},
		"an unknown database": {right, "3D000", "nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var logged logBuffer
			db := openPool(t, c.dsn, pgprod.WithLogger(logged.logger()), pgprod.WithEcho(true), pgprod.WithEchoPool(true))
			within(t, time.Minute, func() {
				for range 2 {
					err := db.Ping()
					require.Equal(t, c.state, sqlState(err), "%v", err)
					assert.ErrorContains(t, err, c.names)
					assert.NotContains(t, err.Error(), "s3cret")
					assert.NotContains(t, fmt.Sprintf("%+v %#v", err, err), "s3cret")
				}
			})
			assert.NotContains(t, logged.String(), "s3cret")
			assert.Contains(t, logged.String(), c.state)
		})
	}
}

func TestNoParameterIsInAnyErrorOrLogLine(t *testing.T) {
	t.Parallel()
	var logged logBuffer
	db := openPool(t, oneConn(pgtest.NewDatabase(t), "command_timeout", "700ms"), pgprod.WithLogger(logged.logger()),
		pgprod.WithEcho(true), pgprod.WithEchoPool(true), pgprod.WithSlowQuery(time.Nanosecond))
	mustExec(t, db, "create table t (a text primary key)")
	mustExec(t, db, "insert into t values ($1)", "s3cret")
	check := func(err error) {
		t.Helper()
		require.Error(t, err)
		assert.NotContains(t, err.Error(), "s3cret")
	}
	_, err := db.Exec("insert into t values ($1)", "s3cret")
	check(err)
	_, err = db.Exec("select pg_sleep(60), $1::text", "s3cret")
	check(err)
	check(db.QueryRow("select $1::text", "s3cret", "s3cret too many").Err())
	st := prepare(t, db, "insert into t values ($1)")
	_, err = st.Exec("s3cret")
	check(err)
	conn := hold(t, db)
	terminate(t, backendPID(t, conn))
	_, err = conn.ExecContext(t.Context(), "insert into t values ($1)", "s3cret")
	check(err)
	assert.NotContains(t, logged.String(), "s3cret")
}
