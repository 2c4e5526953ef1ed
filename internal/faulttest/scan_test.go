package faulttest

import (
	"context"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
	"github.com/pgprod/pgprod/internal/pgtest/loopback"
)

const (
	secretPassword = "Sesam/offne dich@1"     // with all that a URL must escape
	secretValue    = "4711-0815-secret-value" // as a parameter
	secretRotated  = "Rumpel:stilzchen#2"
)

// A leakScan collects what a program would print: the text of every error, and every line of log.
type leakScan struct {
	log logLines

	mu     sync.Mutex        // guards errors
	errors map[string]string // text by scenario
}

// failed notes an error that a scenario must have had.
func (s *leakScan) failed(t testing.TB, scenario string, err error, wants ...string) {
	t.Helper()
	if !assert.Error(t, err, scenario) {
		return
	}
	for _, want := range wants {
		assert.ErrorContains(t, err, want, scenario)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errors[fmt.Sprintf("%s (%d)", scenario, len(s.errors))] = fmt.Sprintf("%v\n%+v", err, err)
}

// open opens a pool that logs all there is to log.
func (s *leakScan) open(t testing.TB, dsn string, opts ...pgprod.Option) *sql.DB {
	t.Helper()
	return openPool(t, dsn, append([]pgprod.Option{
		pgprod.WithLogger(s.log.logger()), pgprod.WithEnvironment("development"), pgprod.WithEcho(true), pgprod.WithEchoPool(true),
		pgprod.WithSlowQuery(time.Nanosecond), pgprod.WithLeakDetection(100 * time.Millisecond),
	}, opts...)...)
}

// require checks that nothing of what was collected holds a secret.
func (s *leakScan) require(t testing.TB) {
	t.Helper()
	secrets := []string{
		secretPassword, url.QueryEscape(secretPassword), url.PathEscape(secretPassword),
		url.UserPassword("x", secretPassword).String()[2:],
		"offne dich", "offne%20dich", secretRotated, "stilzchen", secretValue, "0815-secret", "@127.0.0.1", "sslmode=", "password=",
	}
	for _, secret := range secrets {
		for scenario, text := range s.errors {
			assert.NotContains(t, text, secret, scenario)
		}
		for line := range strings.Lines(s.log.String()) {
			assert.NotContains(t, line, secret, "log")
		}
	}
	t.Logf("%d errors and %d lines of log", len(s.errors), strings.Count(s.log.String(), "\n"))
}

// TestNoErrorAndNoLogLineHoldsASecret has a server with TLS and a password go through faults of every kind.
//
// Two kinds of error repeat a parameter's value, and neither is ours to change: the server's own text for a value that
// it can't read ("invalid input syntax for type integer") and that of a Go value that pgx can't encode. They are only
// checked not to get into the log.
func TestNoErrorAndNoLogLineHoldsASecret(t *testing.T) {
	t.Parallel()
	scan := &leakScan{errors: map[string]string{}}
	ca, err := pgtest.NewCA()
	require.NoError(t, err)
	server := pgtest.StartTB(t, pgtest.Config{Password: secretPassword, TLS: &pgtest.TLS{CA: ca}})

	t.Run("settings", scan.settings)
	t.Run("login", func(t *testing.T) { scan.login(t, server) })
	t.Run("TLS", func(t *testing.T) { scan.tls(t, server) })
	t.Run("statements", func(t *testing.T) { scan.statements(t, server) })
	t.Run("cut", func(t *testing.T) { scan.cut(t, server) })
	t.Run("lost", func(t *testing.T) { scan.lost(t, server) })
	t.Run("server", func(t *testing.T) { scan.server(t, server) })
	scan.require(t)
}

// settings are mistakes that Open finds.
func (s *leakScan) settings(t *testing.T) {
	escaped := url.QueryEscape(secretPassword)
	for _, dsn := range []string{
		"postgres://postgres:" + secretPassword + "@127.0.0.1/db",           // not escaped
		"postgres://postgres:" + escaped + "@127.0.0.1:port/db",             // no port
		"postgres://postgres:" + escaped + "@127.0.0.1/db?pool_size=none",   // a wrong value
		"postgres://postgres:" + escaped + "@127.0.0.1/db?pool_sise=1",      // a wrong key
		"postgres://postgres@127.0.0.1/db?password=" + escaped + "&sslmode", // a wrong parameter
		"postgres://postgres@127.0.0.1/db?sslmode=" + escaped,
		"postgres://postgres@127.0.0.1/db?password_file=" + escaped,
		"host=127.0.0.1 password='" + secretPassword,
		"host=127.0.0.1 password='" + secretPassword + "' target_session_attrs=any-of-them",
		"host=127.0.0.1 password='" + secretPassword + "' sslmode=verify-full sslrootcert=/nowhere",
		"host=127.0.0.1 password='" + secretPassword + "' password_file=/nowhere",
		"host=127.0.0.1 password=" + secretPassword, // a space: what follows is no key
	} {
		_, err := pgprod.Open(dsn)
		s.failed(t, "open", err)
	}
	_, err := pgprod.Open("postgres://postgres:"+escaped+"@127.0.0.1/db",
		pgprod.WithPasswordFunc(func(context.Context) (string, error) { return secretPassword, nil }))
	s.failed(t, "password twice", err)
}

// login are refusals of the server, or of the network, to a new connection.
func (s *leakScan) login(t *testing.T, server *pgtest.Server) {
	port, err := loopback.FreePort()
	require.NoError(t, err)
	nowhere := fmt.Sprintf("postgres://postgres:%s@127.0.0.1:%d/db", url.QueryEscape(secretPassword), port)
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte(secretRotated), 0o600))
	u, err := url.Parse(server.DSN(""))
	require.NoError(t, err)
	u.User = url.User("postgres")
	noPassword := u.String()
	wrong := strings.Replace(noPassword, "postgres@", "postgres:"+url.QueryEscape(secretRotated)+"@", 1)
	for _, c := range []struct {
		name, dsn string
		want      string
		opts      []pgprod.Option
	}{
		{"wrong password", wrong, "28P01", nil},
		{"wrong password in a file", noPassword, "28P01", []pgprod.Option{pgprod.WithPasswordFile(file)}},
		{"wrong password of a function", noPassword, "28P01", []pgprod.Option{pgprod.WithPasswordFunc(
			func(context.Context) (string, error) { return secretRotated, nil })}},
		{"failing password function", noPassword, "vault is sealed", []pgprod.Option{pgprod.WithPasswordFunc(
			func(context.Context) (string, error) { return secretRotated, errors.New("vault is sealed") })}},
		{"wrong credentials", noPassword, "28P01", []pgprod.Option{pgprod.WithCredentials(
			func(context.Context) (pgprod.Credentials, error) {
				return pgprod.Credentials{User: "nobody", Password: secretRotated, Token: "t0ken"}, nil
			})}},
		{"credentials that have ended", noPassword, "had ended", []pgprod.Option{pgprod.WithCredentials(
			func(context.Context) (pgprod.Credentials, error) {
				return pgprod.Credentials{Password: secretRotated, Expires: time.Unix(1, 0)}, nil
			})}},
		{"a token that can't be one", noPassword, "printable", []pgprod.Option{pgprod.WithCredentials(
			func(context.Context) (pgprod.Credentials, error) {
				return pgprod.Credentials{Token: secretRotated + "\n"}, nil
			})}},
		{"no password", noPassword, "", nil},
		{"no such role", strings.Replace(server.DSN(""), "//postgres:", "//nobody:", 1), "28P01", nil},
		{"no such database", server.DSN("nowhere"), "3D000", nil},
		{"refused", nowhere, "refused", nil},
		{"no such setting", with(server.DSN(""), "no_such_setting", "1"), "no_such_setting", nil},
		{"no such setting, set", with(server.DSN(""), "no_such_setting", "1", "server_settings_mode", "set"),
			"no_such_setting", nil},
		{"no socket", "host=/nowhere password='" + secretPassword + "'", "/nowhere", nil},
	} {
		db := s.open(t, c.dsn, append(c.opts, pgprod.WithPoolTimeout(200*time.Millisecond), pgprod.WithPoolName(c.name))...)
		pgtest.Eventually(t, patience, func() bool { // on a busy machine the first dial may take longer than the callers wait
			err := db.Ping()
			s.failed(t, c.name, err)
			return strings.Contains(err.Error(), c.want)
		}, "%s is reported", c.name)
		_, err := db.Exec("select $1", secretValue)
		s.failed(t, c.name, err)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err = db.BeginTx(ctx, nil)
		cancel()
		s.failed(t, c.name, err)
		s.failed(t, c.name, pgprod.Raw(t.Context(), db, func(*pgx.Conn) error { return nil }))
	}
}

// tls are certificates that don't do.
func (s *leakScan) tls(t *testing.T, server *pgtest.Server) {
	ca, err := pgtest.NewCA()
	require.NoError(t, err)
	other := filepath.Join(t.TempDir(), "other.crt")
	require.NoError(t, os.WriteFile(other, ca.PEM(), 0o600))
	elsewhere := pgtest.StartTB(t, pgtest.Config{
		Password: secretPassword, TLS: &pgtest.TLS{CA: ca, Hosts: []string{"db.example.com"}},
	})
	old := pgtest.StartTB(t, pgtest.Config{
		Password: secretPassword, TLS: &pgtest.TLS{CA: ca, NotAfter: time.Now().Add(-time.Minute)},
	})
	plain := pgtest.StartTB(t, pgtest.Config{Password: secretPassword})
	for name, c := range map[string]struct {
		dsn  string
		is   func(error) bool
		want string
	}{
		"unknown authority": {with(server.DSN(""), "sslrootcert", other), as[x509.UnknownAuthorityError], "unknown authority"},
		"wrong host":        {elsewhere.DSN(""), as[x509.HostnameError], "127.0.0.1"},
		"expired":           {old.DSN(""), as[x509.CertificateInvalidError], "expired"},
		"no TLS":            {with(plain.DSN(""), "sslmode", "require"), func(error) bool { return true }, "refused TLS"},
	} {
		db := s.open(t, c.dsn, pgprod.WithPoolName(name))
		start := time.Now()
		err := db.Ping()
		s.failed(t, name, err, c.want)
		assert.True(t, c.is(err), "%s: %v", name, err)
		assert.Less(t, time.Since(start), 20*time.Second, "it fails at once, not by pool_timeout")
	}
}

func as[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// statements are mistakes in statements that have secret parameters.
func (s *leakScan) statements(t *testing.T, server *pgtest.Server) {
	setup := client{s.open(t, server.DSN("")), t}
	setup.do(`create table secrets (id text primary key, parent text references secrets, short varchar(5), n int not null check (n > 0),
		exclude using btree (short with =))`)
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		db := s.open(t, with(server.DSN(""), "default_query_exec_mode", mode), pgprod.WithPoolName(mode))
		setup.do("truncate secrets")
		setup.do("insert into secrets values ($1, null, 'x', 1)", secretValue)
		for _, c := range []struct {
			query, want string
			args        []any
		}{
			{"insert into secrets values ($1, null, null, 1)", "23505", []any{secretValue}},
			{"insert into secrets values ('a', $1, null, 1)", "23503", []any{secretValue + "?"}},
			{"insert into secrets values ($1, null, null, -1)", "23514", []any{secretValue + "2"}},
			{"insert into secrets values ($1, null, null, null)", "23502", []any{secretValue + "3"}},
			{"insert into secrets values ($1, null, 'x', 1)", "23P01", []any{secretValue + "4"}},
			{"insert into secrets values ($1, null, $2, 1)", "22001", []any{"b", secretValue}},
			{"select * from nowhere where id = $1", "42P01", []any{secretValue}},
			{"selekt $1", "42601", []any{secretValue}},
			{"select 1 / (length($1) - length($1))", "22012", []any{secretValue}},
			{"select $1", "", []any{secretValue, secretValue}},
		} {
			_, err := db.Exec(c.query, c.args...)
			s.failed(t, c.query, err, c.want)
			err = db.QueryRow(c.query, c.args...).Scan(new(any))
			s.failed(t, c.query, err, c.want)
			err = pgprod.InTx(t.Context(), db, func(tx *sql.Tx) error {
				_, err := tx.Exec(c.query, c.args...)
				return err
			})
			s.failed(t, c.query, err, c.want)
		}
		// See above: these may only not be logged.
		_, err := db.Exec("select $1::int", secretValue)
		require.Error(t, err)
		_, err = db.Exec("select $1::text::int", secretValue)
		require.Error(t, err)
		_, err = db.Exec("select $1::text", struct{ secret string }{secretValue})
		require.Error(t, err)
		_, err = db.Exec("select $1::text", secretValue)
		require.NoError(t, err)
	}
}

// cut are statements that took too long, and callers that waited too long.
func (s *leakScan) cut(t *testing.T, server *pgtest.Server) {
	const slow = "select pg_sleep(60) where $1 <> ''"
	db := s.open(t, server.DSN(""), pgprod.WithCommandTimeout(time.Second), pgprod.WithPoolSize(1),
		pgprod.WithMaxOverflow(0), pgprod.WithPoolTimeout(time.Second))
	pgtest.Eventually(t, patience, func() bool { return db.Ping() == nil })
	_, err := db.Exec(slow, secretValue)
	s.failed(t, "command_timeout", err, "command_timeout")
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err = db.ExecContext(ctx, slow, secretValue)
	s.failed(t, "the caller's deadline", err)
	tx, err := db.Begin()
	require.NoError(t, err)
	_, err = db.Exec("select $1", secretValue)
	s.failed(t, "pool_timeout", err, "no connection became free")
	require.ErrorIs(t, err, pgprod.ErrPoolTimeout)
	_, err = tx.Exec("set local statement_timeout = 10")
	require.NoError(t, err)
	_, err = tx.Exec(slow, secretValue)
	s.failed(t, "statement_timeout", err, "statement_timeout")
	_, err = tx.Exec("select $1", secretValue)
	s.failed(t, "aborted", err, "25P02")
	s.failed(t, "commit of an aborted transaction", tx.Commit())
	require.NoError(t, db.Close())
	_, err = db.Exec("select $1", secretValue)
	s.failed(t, "closed", err, "closed")
}

// lost are statements whose connection breaks.
func (s *leakScan) lost(t *testing.T, server *pgtest.Server) {
	proxy := faultproxy.StartTB(t, with(server.DSN(""), "sslmode", "disable"))
	db := s.open(t, proxy.DSN())
	for _, end := range []faultproxy.End{faultproxy.FIN, faultproxy.RST} {
		for _, unsent := range []bool{false, true} {
			proxy.Inject(faultproxy.Rule{Match: faultproxy.Containing("lost"), Unsent: unsent, End: end})
			_, err := db.Exec("select $1 as lost", secretValue)
			s.failed(t, "lost", err, "connection was lost")
		}
		proxy.SwallowReply(end, 1, faultproxy.Containing("commit"))
		err := pgprod.InTx(t.Context(), db, func(tx *sql.Tx) error {
			_, err := tx.Exec("select $1", secretValue)
			return err
		})
		s.failed(t, "commit", err, "the outcome is unknown")
	}
	tx, err := db.Begin()
	require.NoError(t, err)
	_, err = tx.Exec("select 1")
	require.NoError(t, err)
	require.NoError(t, server.TerminateAll(t.Context()))
	_, err = tx.Exec("select $1", secretValue)
	s.failed(t, "terminated", err)
	s.failed(t, "commit on a dead connection", tx.Commit())
}

// server are faults of the server as a whole, and a password that is changed.
func (s *leakScan) server(t *testing.T, server *pgtest.Server) {
	db := s.open(t, server.DSN(""), pgprod.WithPoolTimeout(500*time.Millisecond), pgprod.WithConnectTimeout(500*time.Millisecond))
	pgtest.Eventually(t, patience, func() bool { return db.Ping() == nil })
	require.NoError(t, server.Crash())
	_, err := db.Exec("select $1", secretValue)
	s.failed(t, "crashed", err)
	require.NoError(t, server.Resume(t.Context()))
	require.NoError(t, server.Freeze())
	_, err = db.Exec("select $1", secretValue)
	s.failed(t, "frozen", err)
	require.NoError(t, server.Thaw())
	require.NoError(t, server.SetPassword(t.Context(), secretRotated))
	pgtest.Eventually(t, patience, func() bool {
		// Each time: a dial that hung while the server was frozen may have got in with the old password.
		require.NoError(t, server.TerminateAll(t.Context()))
		_, err = db.Exec("select $1", secretValue)
		return sqlState(err) == "28P01"
	})
	s.failed(t, "after a change of password", err)
}
