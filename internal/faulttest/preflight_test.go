package faulttest

import (
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// tooOld is in what the preflight says of a version without fixes, which the server under test may be, or become.
const tooOld = "gets no fixes any more"

// apartFromAge is what the preflight says that doesn't depend on today's date.
func apartFromAge(warnings []string) []string {
	return slices.DeleteFunc(slices.Clone(warnings), func(w string) bool { return strings.Contains(w, tooOld) })
}

// logApartFromAge is the same for a log.
func logApartFromAge(log string) string {
	return strings.Join(apartFromAge(slices.Collect(strings.Lines(log))), "")
}

// warnings opens a pool, uses it, and returns what the preflight says in the end, apart from the server's age: as many
// warnings as are wanted, if they come.
func warnings(t *testing.T, dsn string, want int) (found []string, logged string) {
	t.Helper()
	var log logLines
	db := openPool(t, dsn, pgprod.WithLogger(log.logger()))
	require.NoError(t, db.PingContext(t.Context()))
	pgtest.Eventually(t, patience, func() bool {
		found = apartFromAge(pgprod.Check(t.Context(), db).Warnings)
		logged = logApartFromAge(log.String())
		return len(found) == want && strings.Count(logged, "pgprod: preflight: ") == want
	}, "%d warnings", want)
	return found, logged
}

func TestThePreflightWarnsOfEachThingThatIsWrong(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Settings: map[string]string{"max_connections": "12"}})
	require.NoError(t, server.Exec(t.Context(), "create role maker login createdb bypassrls password 's3cret'"))
	for _, c := range []struct {
		name string
		dsn  string
		want []string
	}{
		{"superuser", with(server.DSN("postgres"), "profile", "small", "max_overflow", "0", "pool_size", "2"), []string{
			"the role postgres is a superuser",
		}},
		{"privileges, password and room", strings.Replace(server.DSN("postgres"), "postgres@", "maker:s3cret@", 1), []string{
			"the role maker has CREATEDB, BYPASSRLS",
			"the password stands in the DSN",
			"pool_size + max_overflow is 30, but the server has room for ",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			found, logged := warnings(t, c.dsn, len(c.want))
			for i, want := range c.want {
				assert.Contains(t, found[i], want)
			}
			assert.NotContains(t, logged, "s3cret")
		})
	}
}

func TestThePreflightHasNothingToSayOfAWellKeptService(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	require.NoError(t, server.Exec(t.Context(), "create role app login"))
	var log logLines
	proxy := faultproxy.StartTB(t, with(server.DSN("postgres"), "user", "app"))
	var asked atomic.Bool
	proxy.SwallowReply(faultproxy.FIN, 1, func(s faultproxy.Statement) bool {
		if strings.Contains(s.SQL, "pg_roles") {
			asked.Store(true)
		}
		return false
	})
	db := openPool(t, proxy.DSN(), pgprod.WithLogger(log.logger()))
	require.NoError(t, db.PingContext(t.Context()))
	pgtest.Eventually(t, patience, asked.Load, "no preflight")
	pgtest.Eventually(t, patience, func() bool {
		backends, err := server.Backends(t.Context(), "postgres")
		require.NoError(t, err)
		return len(backends) == 1
	}, "it has left its connection")
	assert.Empty(t, apartFromAge(pgprod.Check(t.Context(), db).Warnings))
	assert.Empty(t, logApartFromAge(log.String()))
}

func TestThePreflightTellsOfAServerWithoutFixes(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	db := openPool(t, with(pgtest.NewDatabase(t)), pgprod.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, db.PingContext(t.Context()))
	var found []string
	pgtest.Eventually(t, patience, func() bool {
		found = pgprod.Check(t.Context(), db).Warnings
		return len(found) > 0 // of the superuser at least
	}, "the preflight ends")
	if server.Version() <= 14 { // later ones will be so some day, which a unit test of the preflight looks at
		assert.Contains(t, strings.Join(found, "\n"), fmt.Sprintf("PostgreSQL %d %s", server.Version(), tooOld))
	}
}

func TestThePreflightTellsOfCollationsThatHaveChangedUnderTheIndexes(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	own := server.Version() >= 15 // 14 keeps no version of the database's own collation
	create := `create database "a b" template template0`
	if own {
		create += " locale_provider icu icu_locale 'en' locale 'C'"
	}
	require.NoError(t, server.Exec(t.Context(), "create role app login"))
	require.NoError(t, server.Exec(t.Context(), create))
	admin := openPool(t, with(server.DSN("a b"), "preflight", "off"))
	exec(t, admin, `create collation "x Y" (provider = icu, locale = 'de'); create collation unused (provider = icu, locale = 'fr');
		create table t (a text collate "x Y"); create index on t (a)`)
	service := with(server.DSN("a b"), "user", "app")
	exec(t, admin, "update pg_collation set collversion = 'old' where collname in ('x Y', 'unused')")
	want := 1
	if own {
		exec(t, admin, "update pg_database set datcollversion = 'old' where datname = current_database()")
		want = 2
	}

	found, logged := warnings(t, service, want)
	assert.Contains(t, found[want-1], `collations that indexes use have changed, "x Y" (version old is recorded`)
	assert.NotContains(t, logged, "unused")
	if own {
		assert.Contains(t, found[0], `the collation of the database "a b" has changed (version old is recorded`)
		assert.Contains(t, found[0], `REINDEX DATABASE "a b", then ALTER DATABASE "a b" REFRESH COLLATION VERSION`)
		exec(t, admin, `reindex database "a b"`)
		exec(t, admin, `alter database "a b" refresh collation version`)
	}
	exec(t, admin, `alter collation "x Y" refresh version`)
	// What is left is of our own making, and says that the preflight has ended.
	found, _ = warnings(t, with(service, "password", "word"), 1)
	assert.Contains(t, found[0], "the password stands in the DSN")
}

func TestThePreflightKeepsNoConnectionBeyondPoolSize(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	asked, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	proxy.SwallowReply(faultproxy.FIN, 1, func(s faultproxy.Statement) bool {
		if strings.Contains(s.SQL, "pg_roles") {
			once.Do(func() { close(asked) })
			<-answer
		}
		return false
	})
	db := openPool(t, with(proxy.DSN(), "pool_size", "2", "max_overflow", "2"), pgprod.WithLogger(slog.New(slog.DiscardHandler)))
	var burst []*sql.Conn
	for range 4 {
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		require.NoError(t, conn.PingContext(t.Context()))
		burst = append(burst, conn)
	}
	require.NoError(t, burst[0].Close()) // what is left to the preflight is the fourth
	<-asked
	for _, conn := range burst[1:] {
		require.NoError(t, conn.Close())
	}
	close(answer)
	pgtest.Eventually(t, patience, func() bool { return len(pgprod.Check(t.Context(), db).Warnings) > 0 }, "the preflight ends")
	s, err := pgprod.Status(db)
	require.NoError(t, err)
	assert.Equal(t, 2, s.CheckedIn, "%+v", s)
	assert.Zero(t, s.Overflow)
}

func TestThePreflightSeesAPoolerThatSwallowsSettings(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	require.NoError(t, server.Exec(t.Context(), "create role app login"))
	b := startBouncer(t, server, "session", "ignore_startup_parameters = jit,random_page_cost,effective_cache_size,"+
		"idle_in_transaction_session_timeout,statement_timeout")
	found, _ := warnings(t, with(b.dsn("postgres"), "pool_size", "3", "max_overflow", "0"), 6)
	all := strings.Join(found, "\n")
	assert.Contains(t, all, "the server setting jit=off is not in force, the server has on from default: drop it with server_settings=jit=")
	assert.Contains(t, all, "the role postgres is a superuser")
}

func TestWithPreflightOffNobodyLooks(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	db := openPool(t, with(dsn, "preflight", "off", "application_name", "quiet"))
	require.NoError(t, db.PingContext(t.Context()))
	for start := time.Now(); time.Since(start) < time.Second; time.Sleep(10 * time.Millisecond) {
		backends, err := pgtest.Shared(t).Backends(t.Context(), "quiet (pgprod check)")
		require.NoError(t, err)
		require.Empty(t, backends)
	}
	assert.Empty(t, pgprod.Check(t.Context(), db).Warnings)
}

func TestAReplyWithoutSenseCostsThePreflightNoMoreThanALine(t *testing.T) {
	t.Parallel()
	narrow := encode(column(23, 0), row([]byte("1")), done, column(23, 0), row([]byte("1")), done, ready)
	server := startTalker(t, nonsense(8), narrow)
	defer server.close()
	var log logLines
	db := openPool(t, fmt.Sprintf("postgres://user@%s/db?sslmode=disable", server.listener.Addr()), pgprod.WithLogger(log.logger()))
	_ = db.PingContext(t.Context())
	const line = "the server doesn't tell how it is set up"
	pgtest.Eventually(t, patience, func() bool { return strings.Contains(log.String(), line) }, "no line")
}

func TestCloseDoesNotWaitForAPreflightAndLeavesNone(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	for pause := time.Duration(0); pause < time.Second; pause += 100 * time.Millisecond {
		db := openPool(t, with(dsn, "application_name", "short"))
		require.NoError(t, db.PingContext(t.Context()))
		time.Sleep(pause) // before, in the middle of and after the preflight
		require.NoError(t, db.Close())
	}
	pgtest.Eventually(t, patience, func() bool {
		backends, err := pgtest.Shared(t).Backends(t.Context(), pgtest.DatabaseName(dsn))
		require.NoError(t, err)
		return len(backends) == 0
	}, "a connection was left")
}

func TestAServerThatDoesNotTellCostsThePreflightOneLineAndNoConnection(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	require.NoError(t, server.Exec(t.Context(), "create role app login; revoke select on pg_stat_database from public"))
	var log logLines
	db := openPool(t, with(server.DSN("postgres"), "user", "app"), pgprod.WithLogger(log.logger()))
	require.NoError(t, db.PingContext(t.Context()))
	const line = "the server doesn't tell how it is set up"
	pgtest.Eventually(t, patience, func() bool { return strings.Contains(log.String(), line) }, "no line")
	<-time.After(1500 * time.Millisecond) // in which it would have come again
	assert.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
	s, err := pgprod.Status(db)
	require.NoError(t, err)
	assert.Empty(t, s.Closed)
}

// holdPreflight makes a server whose preflights wait until release is called.
func holdPreflight(t *testing.T) (server *pgtest.Server, release func()) {
	t.Helper()
	server = pgtest.StartTB(t, pgtest.Config{})
	lock, err := openPool(t, with(server.DSN("postgres"), "preflight", "off", "command_timeout", "0")).BeginTx(t.Context(), nil)
	require.NoError(t, err)
	exec(t, lock, "lock table pg_catalog.pg_settings in access exclusive mode")
	return server, func() { require.NoError(t, lock.Rollback()) }
}

func TestAPreflightThatTookTooLongIsRepeated(t *testing.T) {
	t.Parallel()
	server, release := holdPreflight(t)
	var log logLines
	db := openPool(t, server.DSN("postgres"), pgprod.WithLogger(log.logger()))
	require.NoError(t, db.PingContext(t.Context()))
	pgtest.Eventually(t, patience, func() bool {
		said, err := os.ReadFile(server.LogFile())
		require.NoError(t, err)
		return strings.Contains(string(said), "canceling statement due to user request")
	}, "the first one ends")
	release()
	pgtest.Eventually(t, patience, func() bool { return len(pgprod.Check(t.Context(), db).Warnings) > 0 }, "the second one")
	assert.NotContains(t, log.String(), "doesn't tell")
}

func TestAPoolThatIsClosedDuringItsPreflightSaysNothingOfTheServer(t *testing.T) {
	t.Parallel()
	server, _ := holdPreflight(t)
	var log logLines
	db := openPool(t, with(server.DSN("postgres"), "application_name", "closed"), pgprod.WithLogger(log.logger()))
	require.NoError(t, db.PingContext(t.Context()))
	pgtest.Eventually(t, patience, func() bool {
		backends, err := server.Backends(t.Context(), "closed")
		require.NoError(t, err)
		return len(backends) == 1 && strings.Contains(backends[0].Query, "pg_roles")
	}, "no preflight")
	require.NoError(t, db.Close())
	assert.Empty(t, log.String())
}
