package drivertest

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
	"github.com/pgprod/pgprod/internal/pgtest/loopback"
)

func TestEachErrorSaysWhatHappenedToWhichPoolAndWhatToLookAtInOneLine(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Password: "right"})
	require.NoError(t, server.Exec(t.Context(), "create role few login password 'right' connection limit 0; create role app login password 'right'"))
	dsn := server.DSN("postgres")
	as := func(user, password string) string {
		u, err := url.Parse(dsn)
		require.NoError(t, err)
		u.User = url.UserPassword(user, password)
		return u.String()
	}
	refusing, hangingUp, silent := faultproxy.StartTB(t, dsn), faultproxy.StartTB(t, dsn), faultproxy.StartTB(t, dsn)
	require.NoError(t, refusing.Refuse())
	silent.SilenceNew(true)
	hangingUp.SilenceNew(true)
	ping := func(t *testing.T, db *sql.DB) error { return db.PingContext(t.Context()) }
	connected := func(do func(*testing.T, *sql.DB) error) func(*testing.T, *sql.DB) error { // a dial is not what is timed
		return func(t *testing.T, db *sql.DB) error {
			require.NoError(t, ping(t, db))
			return do(t, db)
		}
	}
	isState := func(code string) func(error) bool { return func(err error) bool { return sqlState(err) == code } }
	is := func(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }

	for name, c := range map[string]struct {
		dsn   string
		do    func(t *testing.T, db *sql.DB) error
		cause func(error) bool
		says  []string
	}{
		"an exhausted pool": {
			with(dsn, "pool_size", "1", "max_overflow", "0"),
			func(t *testing.T, db *sql.DB) error {
				defer hold(t, db).Close()
				failed := make(chan error)
				go func() { failed <- db.Ping() }() // ends with the wait for a connection
				return <-failed
			},
			is(pgprod.ErrPoolTimeout),
			[]string{"no connection became free in ", "(pool_size 1, max_overflow 0, in use 1, waiting 0)", "look for long transactions, unclosed rows"},
		},
		"a caller that waits for itself": {
			with(dsn, "pool_size", "1", "max_overflow", "0"),
			func(t *testing.T, db *sql.DB) error {
				defer hold(t, db).Close()
				return ping(t, db)
			},
			is(pgprod.ErrPoolTimeout),
			[]string{"no connection became free in ", "; perhaps it waits for itself: it got a connection at drivertest.hold", "(no statement yet)"},
		},
		"a refused connection": {
			refusing.DSN(), ping, is(pgprod.ErrPoolTimeout),
			[]string{"no connection became free", "the last attempt to connect failed", "is the server running, and are host and port right?"},
		},
		"a login that breaks off": {
			hangingUp.DSN(),
			func(t *testing.T, db *sql.DB) error {
				r := ask(t.Context(), db)
				for {
					select {
					case <-r.done:
						return r.err
					case <-time.After(10 * time.Millisecond):
						hangingUp.CloseAll(faultproxy.RST)
					}
				}
			},
			is(pgprod.ErrPoolTimeout),
			[]string{"the other end hung up during the login: look at the server's log, and at what stands in between"},
		},
		"no PostgreSQL": {
			"postgres://app@" + notPostgreSQL(t) + "/x?sslmode=disable", ping, is(pgprod.ErrPoolTimeout),
			[]string{"what answers there doesn't speak PostgreSQL's protocol"},
		},
		"a wrong password": {
			as("postgres", "s3cret"), ping, isState("28P01"),
			[]string{"password authentication failed", "the server doesn't accept the password, or the role has none; it was taken from the DSN"},
		},
		"too many clients": {
			as("few", "right"), ping, is(pgprod.ErrPoolTimeout),
			[]string{"too many connections for role", "SQLSTATE 53300", "keep pool_size + max_overflow of all instances together below it"},
		},
		"a parameter that the role may not set": {
			with(as("app", "right"), "server_settings", "log_statement=all"), ping, isState("42501"),
			[]string{"permission denied to set parameter", "take it out of server_settings and the DSN, or GRANT SET ON PARAMETER"},
		},
		"a parameter that no session may set": {
			with(dsn, "server_settings", "shared_buffers=1GB"), ping, isState("55P02"),
			[]string{"cannot be changed", "only the server's own configuration sets it: take it out of server_settings"},
		},
		"a cancelled statement": {
			dsn,
			connected(func(t *testing.T, db *sql.DB) error {
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(500*time.Millisecond, cancel)
				_, err := db.ExecContext(ctx, "select pg_sleep(60)")
				return err
			}),
			func(err error) bool { return errors.Is(err, context.Canceled) && sqlState(err) == "57014" },
			[]string{"the caller cancelled the statement after "},
		},
		"a deadline": {
			dsn, connected(inTime(500*time.Millisecond, "select pg_sleep(60)")), is(context.DeadlineExceeded),
			[]string{"the caller's deadline ended the statement after "},
		},
		"a deadline before there is a connection": {
			silent.DSN(), inTime(100*time.Millisecond, "select 1"), is(context.DeadlineExceeded),
			[]string{"context deadline exceeded after waiting ", "in use 0 of 30, waiting 0, connecting 1)"},
		},
		"a timed out statement": {
			with(dsn, "command_timeout", "100ms"),
			connected(func(t *testing.T, db *sql.DB) error {
				_, err := db.ExecContext(t.Context(), "select pg_sleep(60)")
				return err
			}),
			is(context.DeadlineExceeded),
			[]string{"the statement exceeded command_timeout (100ms)", "look at its plan with EXPLAIN"},
		},
		"rows that were read too slowly": {
			with(dsn, "command_timeout", "1s"),
			connected(func(t *testing.T, db *sql.DB) error {
				rows, err := db.QueryContext(t.Context(), "select n, repeat('x', 10000) from generate_series(1, 10000) n")
				require.NoError(t, err)
				defer rows.Close()
				for rows.Next() {
					time.Sleep(time.Millisecond)
				}
				return rows.Err()
			}),
			is(context.DeadlineExceeded),
			[]string{"command_timeout (1s) while its rows were open", "look first whether its rows are closed"},
		},
	} {
		t.Run(name, func(t *testing.T) { // one after the other, as their pools have one name
			var log logged
			limit := patience // for a dial on a busy machine
			if c.cause(pgprod.ErrPoolTimeout) {
				limit = time.Second
			}
			db := openPool(t, with(c.dsn, "pool_name", "billing", "pool_timeout", limit.String()), log.option(slog.LevelInfo))
			err := c.do(t, db)
			require.Error(t, err)
			assert.True(t, c.cause(err), "%#v", err)
			text := err.Error()
			assert.True(t, strings.HasPrefix(text, "pgprod: pool billing: "), text)
			assert.Equal(t, 1, strings.Count(text, "pool billing"), text)
			for _, want := range c.says {
				assert.Contains(t, text, want)
			}
			assert.NotContains(t, text+log.buffer.String(), "s3cret")
			assert.NotContains(t, text, "\n")
		})
	}
}

// inTime does a statement with so much time.
func inTime(limit time.Duration, statement string) func(*testing.T, *sql.DB) error {
	return func(t *testing.T, db *sql.DB) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		_, err := db.ExecContext(ctx, statement)
		return err
	}
}

// notPostgreSQL is the address of something else that listens.
func notPostgreSQL(t *testing.T) string {
	t.Helper()
	l, err := loopback.Listen()
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() { // ends with the listener
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			_ = conn.Close()
		}
	}()
	return l.Addr().String()
}

func TestADeadlineThatEndsDuringThePrePingIsToldAsThat(t *testing.T) {
	t.Parallel()
	var log logged
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, oneConn(proxy.DSN(), "pool_pre_ping", "always", "pool_name", "parking"), log.option(slog.LevelInfo))
	require.NoError(t, db.Ping())
	proxy.BlackHole(faultproxy.ToClient, true)
	err := inTime(time.Second, "select 1")(t, db)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorAs(t, err, new(*pgconn.PgError))
	const says = "pgprod: pool parking: context deadline exceeded after waiting "
	assert.ErrorContains(t, err, says)
	assert.ErrorContains(t, err, "for a connection's answer to the question whether it is alive (pool_pre_ping)")
	lines := log.lines(t, "a caller got no connection")
	require.Len(t, lines, 1)
	assert.Contains(t, lines[0]["error_message"], says)
	proxy.BlackHole(faultproxy.ToClient, false)
}
