package drivertest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/loopback"
)

// A source is a function for credentials whose answers a test changes.
type source struct {
	calls  atomic.Int64
	mu     sync.Mutex // guards answer
	answer func(context.Context) (pgprod.Credentials, error)
}

// giving returns a source that always gives the same credentials.
func giving(c pgprod.Credentials) *source {
	s := &source{}
	s.give(c)
	return s
}

func (s *source) give(c pgprod.Credentials) {
	s.become(func(context.Context) (pgprod.Credentials, error) { return c, nil })
}

func (s *source) become(answer func(context.Context) (pgprod.Credentials, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *source) option() pgprod.Option {
	return pgprod.WithCredentials(func(ctx context.Context) (pgprod.Credentials, error) {
		s.calls.Add(1)
		s.mu.Lock()
		answer := s.answer
		s.mu.Unlock()
		return answer(ctx)
	})
}

// makeRoles makes roles that log in with the secret.
func makeRoles(t *testing.T, server *pgtest.Server, names ...string) {
	t.Helper()
	for _, name := range names {
		quoted := "'" + strings.ReplaceAll(secret, "'", "''") + "'"
		require.NoError(t, server.Exec(t.Context(), "create role "+name+" login password "+quoted))
	}
}

// whoAmI is who is logged in, and to which database.
func whoAmI(t *testing.T, q querier) string {
	t.Helper()
	return get[string](t, q, "select session_user || ' ' || current_database()")
}

func TestCredentialsSayWhoLogsInAndTheDSNWhereTo(t *testing.T) {
	server := pgtest.StartTB(t, pgtest.Config{Password: secret})
	makeRoles(t, server, "app")
	t.Setenv("PGPASSWORD", "of another role") // neither does this get into what the function says
	t.Setenv("DB_PASSWORD", "of another role")
	host := fmt.Sprintf("host=%s port=%d sslmode=disable ", server.Host(), server.Port())
	for dsn, want := range map[string]string{
		"user=postgres dbname=template1": "app template1",
		"user=postgres":                  "app postgres", // whose name the server takes for that of the database
	} {
		db := openPool(t, host+dsn, giving(pgprod.Credentials{User: "app", Password: secret}).option())
		assert.Equal(t, want, whoAmI(t, db))
	}
	db := openPool(t, host+"user=postgres", giving(pgprod.Credentials{Password: secret}).option())
	assert.Equal(t, "postgres postgres", whoAmI(t, db))
	err := openPool(t, host+"user=postgres", giving(pgprod.Credentials{}).option()).Ping()
	require.Equal(t, "28P01", sqlState(err), "%v", err)
	assert.NotContains(t, err.Error(), "of another role")
}

func TestCredentialsAndAnotherPasswordContradictEachOther(t *testing.T) {
	ask := giving(pgprod.Credentials{}).option()
	_, err := pgprod.Open(nobody+" password=s3cret", ask)
	require.EqualError(t, err, "pgprod: option WithCredentials and DSN key password: are both given; give one of them")
	_, err = pgprod.Open(nobody, ask, pgprod.WithPasswordFile(passwordFile(t, secret)))
	require.EqualError(t, err, "pgprod: option WithCredentials and option WithPasswordFile: are both given; give one of them")
	_, err = pgprod.Open(nobody, ask, pgprod.WithPasswordFunc(constant(secret)))
	require.EqualError(t, err, "pgprod: option WithCredentials and option WithPasswordFunc: are both given; give one of them")
	for _, none := range []pgprod.Option{pgprod.WithCredentials(nil), pgprod.WithPasswordFunc(nil)} {
		db, err := pgprod.Open(nobody, pgprod.WithPasswordFunc(constant(secret)), none)
		require.NoError(t, err)
		require.NoError(t, db.Close())
	}
}

func TestOneAnswerServesAllDialsAndHealthChecks(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Password: secret})
	s := giving(pgprod.Credentials{Password: secret})
	db := openPool(t, withoutPassword(server), s.option())
	assert.Zero(t, s.calls.Load(), "nothing was dialled yet")
	fill(t, db, 5)
	health := pgprod.Check(t.Context(), db)
	assert.Equal(t, "healthy", string(health.Status))
	assert.EqualValues(t, 1, s.calls.Load())
}

func TestARefusedLoginAsksAnewBeforeItCounts(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Password: secret})
	makeRoles(t, server, "first", "second")
	var logged logBuffer
	s := giving(pgprod.Credentials{User: "first", Password: secret})
	db := openPool(t, withoutPassword(server), s.option(), pgprod.WithLogger(logged.logger()))
	assert.Equal(t, "first postgres", whoAmI(t, db))

	s.give(pgprod.Credentials{User: "second", Password: secret})
	require.NoError(t, server.Exec(t.Context(), "drop role first")) // its session lives on
	conns := []*sql.Conn{hold(t, db), hold(t, db), hold(t, db)}
	assert.Equal(t, "second postgres", whoAmI(t, conns[1]))
	assert.Equal(t, "second postgres", whoAmI(t, conns[2]))
	assert.EqualValues(t, 2, s.calls.Load())
	assert.Zero(t, statusOf(t, db).FailedConnects)
	assert.Empty(t, logged.String())

	require.NoError(t, server.Exec(t.Context(), "drop role second"))
	makeRoles(t, server, "third")
	s.give(pgprod.Credentials{User: "third", Password: secret})
	health := pgprod.Check(t.Context(), db)
	assert.Equal(t, "healthy", string(health.Status), health.Reason)
	assert.EqualValues(t, 3, s.calls.Load())
}

func TestARoleThatStaysRefusedIsToldToCallersAndTheSourceIsNotFlooded(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Password: secret})
	s := giving(pgprod.Credentials{User: "nobody", Password: "wr0ng"})
	db := openPool(t, withoutPassword(server)+" pool_timeout=1h", s.option())
	for _, r := range askMany(t.Context(), db, 3) {
		err := r.wait(t)
		require.Equal(t, "28P01", sqlState(err), "%v", err)
		assert.NotErrorIs(t, err, pgprod.ErrPoolTimeout)
		assert.ErrorContains(t, err, "it was taken from WithCredentials")
		assert.NotContains(t, err.Error(), "wr0ng")
	}
	assert.LessOrEqual(t, s.calls.Load(), statusOf(t, db).FailedConnects+1)
}

func TestASourceThatFailsIsTheCauseOfTheErrorAndTheLogSaysSoWithoutItsWords(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Password: secret})
	for name, answer := range map[string]func(context.Context) (pgprod.Credentials, error){
		"an error": func(context.Context) (pgprod.Credentials, error) {
			return pgprod.Credentials{}, errors.New("no " + secret)
		},
		"a panic": func(context.Context) (pgprod.Credentials, error) { panic(secret) },
		"what is over": func(context.Context) (pgprod.Credentials, error) {
			return pgprod.Credentials{Password: secret, Expires: time.Unix(1, 0)}, nil
		},
		"what is wrong": func(context.Context) (pgprod.Credentials, error) {
			return pgprod.Credentials{User: secret + "\x00"}, nil
		},
		"no answer": func(ctx context.Context) (pgprod.Credentials, error) {
			<-ctx.Done()
			return pgprod.Credentials{}, ctx.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var logged logBuffer
			s := &source{}
			s.become(answer)
			dsn := withoutPassword(server) + " pool_timeout=1s connect_timeout=100ms"
			db := openPool(t, dsn, s.option(), pgprod.WithLogger(logged.logger()))
			err := db.Ping()
			require.ErrorIs(t, err, pgprod.ErrPoolTimeout)
			assert.ErrorContains(t, err, "credentials function: ")
			health := pgprod.Check(t.Context(), db)
			assert.Equal(t, "unhealthy", string(health.Status))
			assert.NotContains(t, health.Reason, "s3cret")

			s.give(pgprod.Credentials{Password: secret})
			pgtest.Eventually(t, patience, func() bool { return db.Ping() == nil }, "it is asked again")
			assert.NotContains(t, logged.String(), "s3cret")
			warnings := strings.Count(logged.String(), `level=WARN msg="pgprod: no credentials to log in with`)
			assert.Equal(t, 1, warnings, logged.String())
			pgtest.Eventually(t, patience, func() bool {
				return strings.Count(logged.String(), `level=INFO msg="pgprod: credentials came again"`) == 1
			})
		})
	}
}

func TestWhileTheOldCredentialsAreValidAFailingSourceIsOneWarning(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Password: secret})
	var logged logBuffer
	end := time.Now().Add(6 * time.Second)
	s := giving(pgprod.Credentials{Password: secret, Expires: end})
	db := openPool(t, withoutPassword(server), s.option(), pgprod.WithLogger(logged.logger()))
	require.NoError(t, db.Ping())
	s.become(func(context.Context) (pgprod.Credentials, error) {
		return pgprod.Credentials{}, errors.New("sealed: " + secret)
	})
	pgtest.Eventually(t, patience, func() bool { return s.calls.Load() >= 4 }, "it is asked again and again")
	s.give(pgprod.Credentials{Password: secret})
	pgtest.Eventually(t, patience, func() bool {
		return strings.Contains(logged.String(), `level=INFO msg="pgprod: credentials came again"`)
	})
	assert.Equal(t, 1, strings.Count(logged.String(), "level=WARN"), logged.String())
	assert.Contains(t, logged.String(), "pgprod: credentials can't be renewed, those that are valid are used until they end")
	assert.NotContains(t, logged.String(), "s3cret")
	calls := s.calls.Load()
	pgtest.Eventually(t, patience, func() bool { return time.Now().After(end) })
	require.NoError(t, db.Ping())
	assert.Equal(t, calls, s.calls.Load(), "what doesn't end is not asked for again")
}

// TestConnectionsAreReplacedBeforeTheirCredentialsEnd looks at idle connections, on the shelf and in the inner *sql.DB, and
// at one that is borrowed all the time.
func TestConnectionsAreReplacedBeforeTheirCredentialsEnd(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Password: secret})
	makeRoles(t, server, "first", "second")
	end := time.Now().Add(4 * time.Second)
	s := giving(pgprod.Credentials{User: "first", Password: secret, Expires: end})
	db := openPool(t, withoutPassword(server), s.option())
	require.NoError(t, db.Ping())
	s.give(pgprod.Credentials{User: "second", Password: secret})
	borrowed := hold(t, db)
	pid := backendPID(t, borrowed)
	fill(t, db, 5)
	admin, err := server.Admin(t.Context())
	require.NoError(t, err)
	defer admin.Close(context.Background())
	firsts := func() (n int) {
		require.NoError(t, admin.QueryRow(t.Context(), "select count(*) from pg_stat_activity where usename = 'first'").Scan(&n))
		return n
	}
	pgtest.Eventually(t, patience, func() bool { return firsts() == 1 }, "idle connections retire though nobody borrows them")
	assert.Equal(t, pid, backendPID(t, borrowed), "nobody is cut off")
	assert.Equal(t, "first postgres", whoAmI(t, borrowed))
	assert.Equal(t, "second postgres", whoAmI(t, db))

	pgtest.Eventually(t, patience, func() bool { return time.Now().After(end) })
	assert.Equal(t, pid, backendPID(t, borrowed), "however late it is given back")
	require.NoError(t, borrowed.Close())
	pgtest.Eventually(t, patience, func() bool { return firsts() == 0 })
	assert.NotZero(t, statusOf(t, db).Closed["credentials"])
	for range 10 {
		assert.Equal(t, "second postgres", whoAmI(t, db))
	}
	assert.Zero(t, statusOf(t, db).Closed["invalid"])
}

func TestRecycleAsksForCredentialsFirst(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Password: secret})
	makeRoles(t, server, "first", "second")
	s := giving(pgprod.Credentials{User: "first", Password: secret}) // of which nobody knows the end
	db := openPool(t, withoutPassword(server), s.option())
	fill(t, db, 3)
	s.give(pgprod.Credentials{User: "second", Password: secret})
	require.NoError(t, pgprod.Recycle(db))
	eventually(t, db, func(p pgprod.PoolStatus) bool { return p.Closed["lifetime"] == 3 })
	assert.Equal(t, "second postgres", whoAmI(t, db))

	s.become(func(context.Context) (pgprod.Credentials, error) { return pgprod.Credentials{}, errors.New("sealed") })
	require.NoError(t, pgprod.Recycle(db))
	eventually(t, db, func(p pgprod.PoolStatus) bool { return p.Closed["lifetime"] == 4 })
	assert.Equal(t, "second postgres", whoAmI(t, db), "the old ones are valid")
	assert.EqualValues(t, 3, s.calls.Load())
}

func TestTheConnectionForHealthChecksMovesToTheNewCredentialsToo(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Password: secret})
	makeRoles(t, server, "first", "second")
	s := giving(pgprod.Credentials{User: "first", Password: secret, Expires: time.Now().Add(2 * time.Second)})
	db := openPool(t, withoutPassword(server), s.option())
	require.Equal(t, "healthy", string(pgprod.Check(t.Context(), db).Status))
	s.give(pgprod.Credentials{User: "second", Password: secret})
	admin, err := server.Admin(t.Context())
	require.NoError(t, err)
	defer admin.Close(context.Background())
	pgtest.Eventually(t, patience, func() bool {
		var user string
		require.Equal(t, "healthy", string(pgprod.Check(t.Context(), db).Status))
		require.NoError(t, admin.QueryRow(t.Context(), "select coalesce(string_agg(usename, ' '), '') from pg_stat_activity "+
			"where application_name like '%(pgprod check)'").Scan(&user))
		return user == "second"
	})
}

// An oauthServer is an emulation of the server's side of SASL OAUTHBEARER (RFC 7628) as PostgreSQL 18 speaks it, in front of
// a real server that trusts everybody.
type oauthServer struct {
	server string
	token  atomic.Pointer[string] // the one that is accepted
	shown  atomic.Pointer[string] // what a client has shown last
}

// startOAuthServer returns an emulation, and a DSN for it.
func startOAuthServer(t *testing.T, token string) (*oauthServer, string) {
	t.Helper()
	shared := pgtest.Shared(t)
	o := &oauthServer{server: net.JoinHostPort(shared.Host(), strconv.Itoa(shared.Port()))}
	o.token.Store(&token)
	listener, err := loopback.Listen()
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() { // ends when the listener is closed
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { // ends when either end hangs up
				defer client.Close()
				o.serve(client)
			})
		}
	})
	t.Cleanup(func() { _ = listener.Close(); wg.Wait() })
	return o, "postgres://postgres@" + listener.Addr().String() + "/postgres?sslmode=disable"
}

// serve asks a client for its token, and lets it through to the server if that is right.
func (o *oauthServer) serve(client net.Conn) {
	backend := pgproto3.NewBackend(client, client)
	startup, err := backend.ReceiveStartupMessage()
	if err != nil {
		return
	}
	if _, cancels := startup.(*pgproto3.CancelRequest); cancels {
		return
	}
	backend.Send(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"OAUTHBEARER"}})
	if backend.Flush() != nil || backend.SetAuthType(pgproto3.AuthTypeSASL) != nil {
		return
	}
	message, err := backend.Receive()
	if err != nil {
		return
	}
	shown := string(message.(*pgproto3.SASLInitialResponse).Data)
	o.shown.Store(&shown)
	if shown != "n,,\x01auth=Bearer "+*o.token.Load()+"\x01\x01" {
		refusal := []byte(`{"status":"invalid_token","scope":"","openid-configuration":""}`)
		backend.Send(&pgproto3.AuthenticationSASLContinue{Data: refusal})
		_ = backend.Flush()
		return
	}
	server, err := net.Dial("tcp", o.server)
	if err != nil {
		return
	}
	text, err := startup.Encode(nil)
	if err != nil {
		return
	}
	if _, err := server.Write(text); err == nil {
		join(client, server)
	}
}

func TestAnOAuthTokenLogsIn(t *testing.T) {
	t.Parallel()
	o, dsn := startOAuthServer(t, "tok3n.one")
	s := giving(pgprod.Credentials{Token: "tok3n.one"})
	db := openPool(t, dsn, s.option())
	assert.Equal(t, "postgres postgres", whoAmI(t, db))

	next := "tok3n.two"
	o.token.Store(&next)
	s.give(pgprod.Credentials{Token: next})
	conn := hold(t, db)
	assert.Equal(t, "postgres postgres", whoAmI(t, hold(t, db)), "one that is refused is renewed")
	require.NoError(t, conn.Close())
	assert.EqualValues(t, 2, s.calls.Load())
	assert.Zero(t, statusOf(t, db).FailedConnects)

	s.give(pgprod.Credentials{Token: "tok3n.three"})
	for range 2 {
		hold(t, db)
	}
	next = "tok3n.none"
	o.token.Store(&next)
	refused := openPool(t, dsn+"&pool_timeout=1h", s.option())
	err := ask(t.Context(), refused).wait(t)
	require.ErrorContains(t, err, "OAuth authentication failed: invalid_token")
	assert.NotErrorIs(t, err, pgprod.ErrPoolTimeout, "it is told after a few tries")
	assert.NotContains(t, err.Error(), "tok3n")
}

func TestPgxStillShowsItsTokenToAServerThatAsksForItAndSaysThisOfARefusal(t *testing.T) {
	t.Parallel()
	o, dsn := startOAuthServer(t, "right")
	cfg, err := pgconn.ParseConfig(dsn) // pgconn.Config.OAuthTokenProvider, (*pgconn.PgConn).oauthAuth
	require.NoError(t, err)
	cfg.OAuthTokenProvider = func(context.Context) (string, error) { return "right", nil }
	conn, err := pgconn.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	<-conn.CleanupDone()
	assert.Equal(t, "n,,\x01auth=Bearer right\x01\x01", *o.shown.Load())

	cfg.OAuthTokenProvider = func(context.Context) (string, error) { return "wrong", nil }
	_, err = pgconn.ConnectConfig(t.Context(), cfg)
	require.ErrorContains(t, err, "OAuth authentication failed: invalid_token")
	assert.Empty(t, sqlState(err))
}
