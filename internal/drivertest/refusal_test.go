package drivertest

import (
	"context"
	"database/sql"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/loopback"
)

// refuseRole has the server refuse whom it let in before, with SQLSTATE 28000, and returns what undoes that.
func refuseRole(t *testing.T, server *pgtest.Server) (admit func()) {
	t.Helper()
	file := filepath.Join(server.DataDir(), "pg_hba.conf")
	before, err := os.ReadFile(file)
	require.NoError(t, err)
	set := func(content string, state string) {
		assert.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		assert.NoError(t, server.Exec(context.Background(), "select pg_reload_conf()"))
		pgtest.Eventually(t, patience, func() bool {
			plain := openPgx(t, server.DSN(""))
			defer plain.Close()
			return sqlState(plain.Ping()) == state
		}, "the server has not read it")
	}
	set("local all all trust\nhost all all 127.0.0.1/32 reject\n", "28000")
	return func() { set(string(before), "") }
}

// TestARoleThatIsRefusedForAMomentIsAskedAgain has the password's source mend the matter when it is asked after a failure,
// so that nothing depends on how fast the machine is.
func TestARoleThatIsRefusedForAMomentIsAskedAgain(t *testing.T) {
	t.Parallel()
	for state, spoil := range map[string]func(*testing.T, *pgtest.Server) (mend func()){
		"28000": refuseRole,
		"28P01": func(t *testing.T, server *pgtest.Server) func() {
			require.NoError(t, server.SetPassword(t.Context(), "another"))
			return func() { assert.NoError(t, server.SetPassword(context.Background(), secret)) }
		},
	} {
		t.Run(state+" with credentials that are kept", func(t *testing.T) {
			t.Parallel()
			server := pgtest.StartTB(t, pgtest.Config{Password: secret})
			s := giving(pgprod.Credentials{Password: secret})
			db := openPool(t, withoutPassword(server), s.option(), pgprod.WithPoolTimeout(time.Hour))
			require.NoError(t, db.Ping())
			mend := spoil(t, server)
			require.NoError(t, server.TerminateAll(t.Context()))
			var once sync.Once
			s.become(func(context.Context) (pgprod.Credentials, error) {
				once.Do(mend)
				return pgprod.Credentials{Password: secret}, nil // the same: the server was wrong
			})
			for _, r := range askMany(t.Context(), db, 10) {
				assert.NoError(t, r.wait(t))
			}
			assert.GreaterOrEqual(t, s.calls.Load(), int64(2))
		})
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			server := pgtest.StartTB(t, pgtest.Config{Password: secret})
			mend := spoil(t, server)
			var (
				db   *sql.DB
				once sync.Once
			)
			db = openPool(t, withoutPassword(server), pgprod.WithPoolTimeout(time.Hour),
				pgprod.WithPasswordFunc(func(context.Context) (string, error) {
					if statusOf(t, db).FailedConnects > 0 {
						once.Do(mend)
					}
					return secret, nil
				}))
			for _, r := range askMany(t.Context(), db, 10) {
				assert.NoError(t, r.wait(t))
			}
			assert.Positive(t, statusOf(t, db).FailedConnects)
		})
	}
}

func TestAPasswordFileThatIsBehindForAMomentIsReadAgain(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Password: secret})
	file := passwordFile(t, secret)
	db := openPool(t, withoutPassword(server)+" pool_timeout=1h", pgprod.WithPasswordFile(file))
	pgtest.Eventually(t, patience, func() bool { // a moment is two seconds, which a busy machine may exceed
		require.NoError(t, os.WriteFile(file, []byte("old"), 0o600))
		require.NoError(t, server.TerminateAll(t.Context()))
		failures := statusOf(t, db).FailedConnects
		r := ask(t.Context(), db)
		eventually(t, db, func(s pgprod.PoolStatus) bool { return s.FailedConnects > failures })
		require.NoError(t, os.WriteFile(file, []byte(secret), 0o600))
		err := r.wait(t)
		require.NoError(t, db.Ping())
		return err == nil
	}, "every statement fails")
}

func TestARoleThatIsRefusedForGoodIsToldAfterAFewTriesOrAtOnce(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Password: secret})
	for source, c := range map[string]struct {
		opt   pgprod.Option
		tries int64 // at least
	}{
		"function": {pgprod.WithPasswordFunc(constant("wrong")), 3},
		"file":     {pgprod.WithPasswordFile(passwordFile(t, "wrong")), 3},
		"DSN":      {nil, 1},
	} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			dsn := withoutPassword(server) + " pool_timeout=1h"
			if c.opt == nil {
				dsn += " password=wrong"
			}
			db := openPool(t, dsn, c.opt)
			for range 2 {
				for _, r := range askMany(t.Context(), db, 3) {
					require.Equal(t, "28P01", sqlState(r.wait(t)), "%v", r.err)
					assert.NotErrorIs(t, r.err, pgprod.ErrPoolTimeout)
				}
			}
			assert.GreaterOrEqual(t, statusOf(t, db).FailedConnects, c.tries)
		})
	}
}

// startPooler listens as a pooler that refuses the first logins, and lets the others through to the server at addr.
func startPooler(t *testing.T, refusals int32, refusal *pgproto3.ErrorResponse, addr string) (dsn string) {
	t.Helper()
	listener, err := loopback.Listen()
	require.NoError(t, err)
	var wg sync.WaitGroup
	var seen atomic.Int32
	wg.Go(func() { // ends when the listener is closed
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { // ends when the client hangs up, or is refused
				defer client.Close()
				if refusals < 0 || seen.Add(1) <= refusals {
					refuse(client, refusal)
				} else {
					forward(client, addr)
				}
			})
		}
	})
	t.Cleanup(func() { _ = listener.Close(); wg.Wait() })
	return "postgres://postgres@" + listener.Addr().String() + "/postgres?sslmode=disable&pool_timeout=1h"
}

func refuse(client net.Conn, refusal *pgproto3.ErrorResponse) {
	backend := pgproto3.NewBackend(client, client)
	if _, err := backend.ReceiveStartupMessage(); err == nil {
		backend.Send(refusal)
		_ = backend.Flush()
	}
}

func forward(client net.Conn, addr string) {
	server, err := net.Dial("tcp", addr)
	if err == nil {
		join(client, server)
	}
}

// join passes on what either end says, until one of them hangs up.
func join(client, server net.Conn) {
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	})
	_, _ = io.Copy(client, server)
	_ = client.Close()
	wg.Wait()
}

func TestWhatAPoolerRefusesForGoodIsToldAfterAFewTries(t *testing.T) {
	t.Parallel()
	for message, state := range map[string]string{
		"Tenant or user not found":       "XX000", // Supabase's
		"could not open file":            "58P01",
		"no such database: nowhere":      "08P01", // PgBouncer's, as are the next
		"no such user: nobody":           "08P01",
		"password authentication failed": "08P01",
		"SASL authentication failed":     "08P01",
	} {
		t.Run(message, func(t *testing.T) {
			t.Parallel()
			db := openPool(t, startPooler(t, -1, &pgproto3.ErrorResponse{Severity: "FATAL", Code: state, Message: message}, ""))
			for _, r := range askMany(t.Context(), db, 5) {
				require.Equal(t, state, sqlState(r.wait(t)), "%v", r.err)
				assert.NotErrorIs(t, r.err, pgprod.ErrPoolTimeout)
			}
			assert.GreaterOrEqual(t, statusOf(t, db).FailedConnects, int64(3))
		})
	}
}

func TestAnInternalErrorThatTheServerTellsOnceIsWaitedOut(t *testing.T) {
	t.Parallel()
	shared := pgtest.Shared(t)
	server := net.JoinHostPort(shared.Host(), strconv.Itoa(shared.Port()))
	for state, refusals := range map[string]int32{"XX000": 2, "58030": 2, "08P01": 2} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			db := openPool(t, startPooler(t, refusals, &pgproto3.ErrorResponse{Severity: "FATAL", Code: state, Message: "once"}, server))
			for _, r := range askMany(t.Context(), db, 5) {
				assert.NoError(t, r.wait(t))
			}
			assert.EqualValues(t, refusals, statusOf(t, db).FailedConnects)
		})
	}
}

func TestWhatPgBouncerSaysOfItsServerIsWaitedOutHoweverOftenItComes(t *testing.T) {
	t.Parallel()
	for _, message := range []string{
		"server login failed: FATAL the database system is starting up", "query_wait_timeout", "server conn crashed?",
		"server login has been failing, try again later (server_login_retry)", "no more connections allowed (max_client_conn)",
	} {
		t.Run(message, func(t *testing.T) {
			t.Parallel()
			db := openPool(t, with(startPooler(t, -1, &pgproto3.ErrorResponse{Severity: "FATAL", Code: "08P01", Message: message}, ""),
				"pool_timeout", "3s"))
			err := db.Ping()
			require.ErrorIs(t, err, pgprod.ErrPoolTimeout)
			assert.ErrorContains(t, err, message)
		})
	}
}

// TestAPasswordFunctionThatHangsIsCalledOnce: each dial would otherwise leave a goroutine behind for as long as it hangs.
func TestAPasswordFunctionThatHangsIsCalledOnce(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	answer := make(chan struct{})
	db := openPool(t, with(pgtest.NewDatabase(t), "connect_timeout", "50ms", "pool_timeout", "1h"),
		pgprod.WithPasswordFunc(func(context.Context) (string, error) { // which takes no notice of its context
			calls.Add(1)
			<-answer
			return "", nil
		}))
	requests := askMany(t.Context(), db, 3)
	eventually(t, db, func(s pgprod.PoolStatus) bool { return s.FailedConnects >= 5 })
	assert.EqualValues(t, 1, calls.Load())
	close(answer)
	for _, r := range requests {
		require.NoError(t, r.wait(t))
	}
}
