package doctor_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/docs"
	"github.com/pgprod/pgprod/internal/doctor"
	"github.com/pgprod/pgprod/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// examine examines what a DSN names. It fails if a secret or the DSN is shown, or what is shown and reported differs.
func examine(t *testing.T, dsn string, environ ...string) doctor.Report {
	t.Helper()
	return examineWith(t, doctor.Options{Environ: append(environ, "DB_DSN="+dsn)}, dsn)
}

func examineWith(t *testing.T, o doctor.Options, dsn string) doctor.Report {
	t.Helper()
	var shown []doctor.Line
	o.Show = func(l doctor.Line) { shown = append(shown, l) }
	report := doctor.Examine(t.Context(), o)
	assert.Equal(t, shown, report.Checks)
	for _, l := range report.Checks {
		t.Log(l)
		assert.NotContains(t, l.String(), "s3cret")
		assert.NotContains(t, l.String(), dsn)
		assert.NotContains(t, l.String(), "\n")
	}
	assert.Equal(t, "verdict", report.Checks[len(report.Checks)-1].Check)
	return report
}

// lines are those of a check.
func lines(r doctor.Report, check string) (all []doctor.Line) {
	for _, l := range r.Checks {
		if l.Check == check {
			all = append(all, l)
		}
	}
	return all
}

// only is the one line of a check.
func only(t *testing.T, r doctor.Report, check string) doctor.Line {
	t.Helper()
	all := lines(r, check)
	require.Len(t, all, 1, check)
	return all[0]
}

// as is a DSN with another user.
func as(dsn, user, password string) string {
	u, _ := url.Parse(dsn)
	u.User = url.User(user)
	if password != "" {
		u.User = url.UserPassword(user, password)
	}
	return u.String()
}

// application is a role as a service should have it.
func application(t *testing.T, server *pgtest.Server, name, attributes string) {
	t.Helper()
	require.NoError(t, server.Exec(t.Context(), fmt.Sprintf("create role %s login password 's3cret' %s", name, attributes)))
}

func TestAHealthyServerCanServe(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	application(t, server, "app", "")
	dsn := as(server.NewDatabase(t), "app", "") // which fails if a connection is left at the end
	objects := func() (n string) {
		conn, err := pgx.Connect(t.Context(), dsn)
		require.NoError(t, err)
		defer func() { _ = conn.Close(context.Background()) }()
		require.NoError(t, conn.QueryRow(t.Context(), `select (select count(*) from pg_class) || ' ' ||
 (select count(*) from pg_type) || ' ' || (select count(*) from pg_proc) || ' ' ||
 (select count(*) from pg_locks where locktype = 'advisory')`).Scan(&n))
		return n
	}
	before := objects()
	r := examine(t, dsn, "DB_POOL_SIZE=7")
	assert.Equal(t, before, objects(), "it leaves nothing behind")

	assert.Equal(t, doctor.CanServe, r.ExitStatus)
	for _, l := range r.Checks {
		switch l.Check {
		case "version", "verdict": // the version may be out of support by now
			assert.Contains(t, []doctor.Status{doctor.OK, doctor.Warning}, l.Status, l)
		case "round trip": // takes long on a busy machine
		default:
			assert.Equal(t, doctor.OK, l.Status, l)
		}
	}
	for check, want := range map[string]string{
		"settings": "pool_size=7 (environment)", "pool": "a primary", "login": "as app", "tls": "the host is local",
		"role": "without privileges", "encoding": "UTF8", "pooler": "none", "cancel requests": "can be ended",
		"limits":          "there is room for 19",
		"server settings": "jit", "types": "all columns", "replication": "no standby",
	} {
		l := only(t, r, check)
		assert.Equal(t, doctor.OK, l.Status, l)
		assert.Contains(t, l.Detail, want)
	}
}

// fenced matches the first block of output in a text.
var fenced = regexp.MustCompile("(?s)```text\n(.*?)```")

func TestTheManualShowsTheLinesOfAHealthyServer(t *testing.T) {
	t.Parallel()
	page, err := docs.Read("internal/docs/operations.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(page, "\n## The doctor\n")
	require.True(t, found)
	var manual, real []string
	for line := range strings.Lines(fenced.FindStringSubmatch(section)[1]) {
		manual = append(manual, strings.Split(strings.TrimSpace(line[len("warning  "):]), ":")[0])
	}
	for _, l := range examine(t, pgtest.NewDatabase(t)).Checks {
		real = append(real, l.Check)
	}
	assert.Equal(t, manual, real)
}

func TestAReportInJSONHasTheseKeys(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(examine(t, "postgres://127.0.0.1/x?pool_size=none"))
	require.NoError(t, err)
	var report map[string]any
	require.NoError(t, json.Unmarshal(text, &report))
	assert.Equal(t, "failure", report["status"])
	assert.EqualValues(t, 2, report["exit_status"])
	for _, check := range report["checks"].([]any) {
		var keys []string
		for key := range check.(map[string]any) {
			keys = append(keys, key)
		}
		assert.ElementsMatch(t, []string{"check", "host", "status", "detail", "advice"}, keys)
	}
}

func TestEachSettingThatIsWrongHasALine(t *testing.T) {
	t.Parallel()
	r := examine(t, "postgres://app:s3cret@127.0.0.1/x?pool_size=none&slow_query=often", "DB_BEGIN=never")
	assert.Equal(t, doctor.Misconfigured, r.ExitStatus)
	all := lines(r, "settings")
	require.Len(t, all, 3)
	for i, key := range []string{"pool_size", "slow_query", "DB_BEGIN"} {
		assert.Equal(t, doctor.Failure, all[i].Status)
		assert.Contains(t, all[i].Detail, key)
	}
}

func TestWithoutADSNThereIsNothingToLookAt(t *testing.T) {
	for _, name := range []string{"PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE"} {
		t.Setenv(name, "")
	}
	r := doctor.Examine(t.Context(), doctor.Options{})
	assert.Equal(t, doctor.Misconfigured, r.ExitStatus)
	assert.Contains(t, only(t, r, "settings").Detail, "neither DB_DSN nor DATABASE_URL nor PGHOST is set")
	assert.Contains(t, only(t, r, "settings").Advice, "DB_DSN")
}

func TestAWrongPasswordIsMisconfigured(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Password: "right"})
	dsn := as(server.DSN(""), "postgres", "s3cret")
	r := examine(t, dsn)
	assert.Equal(t, doctor.Misconfigured, r.ExitStatus)
	l := only(t, r, "login")
	assert.Equal(t, doctor.Failure, l.Status)
	assert.Contains(t, l.Detail, "28P01")
	assert.Contains(t, l.Advice, "it was taken from the DSN")
	assert.Equal(t, doctor.Skipped, only(t, r, "server").Status)
	assert.Equal(t, doctor.Warning, only(t, r, "password").Status)

	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte("s3cret"), 0o600))
	r = examine(t, as(server.DSN(""), "postgres", ""), "DB_PASSWORD_FILE="+file) // which might change, for a while
	assert.Equal(t, doctor.Misconfigured, r.ExitStatus)
	assert.Contains(t, only(t, r, "login").Advice, "it was taken from password_file")
}

func TestOneHostOfTwoIsEnoughToServe(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	const dead = "127.0.0.1:1" // a port that nobody takes
	alive := fmt.Sprintf("127.0.0.1:%d", server.Port())
	r := examine(t, strings.Replace(server.DSN(""), alive, dead+","+alive, 1))
	assert.Equal(t, doctor.CanServe, r.ExitStatus)
	assert.Equal(t, doctor.Warning, r.Status)
	all := lines(r, "network")
	require.Len(t, all, 2)
	assert.Equal(t, dead, all[0].Host)
	assert.Equal(t, doctor.Failure, all[0].Status)
	assert.Contains(t, all[0].Advice, "nothing listens there")
	assert.Equal(t, doctor.OK, all[1].Status)
	assert.Equal(t, alive, only(t, r, "login").Host)
	servers := lines(r, "server")
	require.Len(t, servers, 2)
	assert.Equal(t, doctor.Skipped, servers[0].Status)
	assert.Equal(t, doctor.OK, servers[1].Status)
	assert.Contains(t, only(t, r, "pool").Detail, alive)

	r = examine(t, strings.Replace(server.DSN(""), alive, dead, 1))
	assert.Equal(t, doctor.CannotServe, r.ExitStatus)
}

func TestANameThatNobodyKnowsMayBeKnownLater(t *testing.T) {
	t.Parallel()
	r := examine(t, "postgres://app@nobody.invalid/x")
	assert.Equal(t, doctor.CannotServe, r.ExitStatus)
	assert.Equal(t, doctor.Failure, only(t, r, "name").Status)
	assert.Equal(t, doctor.Skipped, only(t, r, "server").Status)
}

func TestARefusedSettingIsNamedAndTheRestIsLookedAt(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	r := examine(t, pgtest.With(server.DSN(""), "work_mem", "lots", "fsync", "off"))
	assert.Equal(t, doctor.Misconfigured, r.ExitStatus)
	l := only(t, r, "startup parameters")
	assert.Equal(t, doctor.Failure, l.Status)
	assert.Contains(t, l.Detail, "refused are fsync, work_mem:")
	assert.Contains(t, l.Advice, "take them out of the DSN")
	assert.Equal(t, doctor.OK, only(t, r, "login").Status)
	assert.Equal(t, doctor.OK, only(t, r, "server settings").Status)
	assert.Equal(t, doctor.Failure, only(t, r, "pool").Status)
}

func TestWhatTheServerSetsForTheRoleIsTold(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	application(t, server, "app", "")
	for _, change := range []string{
		"alter role app set work_mem = '8MB'", "alter role app set idle_session_timeout = '1min'",
		"alter role app set default_transaction_read_only = on",
	} {
		require.NoError(t, server.Exec(t.Context(), change))
	}
	r := examine(t, pgtest.With(as(server.DSN(""), "app", ""), "statement_timeout", "5000"))
	assert.Contains(t, only(t, r, "overrides").Detail, "work_mem=8192kB (user)")
	all := lines(r, "timeouts")
	require.Len(t, all, 3)
	for i, want := range []string{
		"statement_timeout is 5s: it ends statements before command_timeout=30s",
		"idle_session_timeout is 1m0s: it closes idle connections", "read-only by default",
	} {
		assert.Equal(t, doctor.Warning, all[i].Status)
		assert.Contains(t, all[i].Detail, want)
	}
	l := only(t, r, "server")
	assert.Equal(t, doctor.Warning, l.Status)
	assert.Contains(t, l.Detail, "read-only")
}

func TestTheServersCertificateIsLookedAt(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{TLS: &pgtest.TLS{}})
	other, err := pgtest.NewCA()
	require.NoError(t, err)
	wrong := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(wrong, other.PEM(), 0o600))

	r := examine(t, pgtest.With(server.DSN(""), "sslmode", "verify-full", "sslrootcert", wrong))
	assert.Equal(t, doctor.Misconfigured, r.ExitStatus)
	l := only(t, r, "login")
	assert.Equal(t, doctor.Failure, l.Status)
	assert.Contains(t, l.Advice, "sslrootcert")

	r = examine(t, pgtest.With(server.DSN(""), "sslmode", "verify-full", "sslrootcert", server.CAFile()))
	assert.Equal(t, doctor.CanServe, r.ExitStatus)
	l = only(t, r, "tls")
	assert.Contains(t, l.Detail, "TLS 1.3")
	assert.Contains(t, l.Detail, "which was verified, with its name")
	assert.Contains(t, l.Advice, "renew", "the server's certificate ends tomorrow")

	r = examine(t, pgtest.With(server.DSN(""), "sslmode", "prefer"))
	assert.Contains(t, only(t, r, "tls").Detail, "which was not verified")
}

func TestTwoHostsWithTLSAreExaminedEachWithItsOwn(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{TLS: &pgtest.TLS{}})
	alive := fmt.Sprintf("127.0.0.1:%d", server.Port())
	dsn := strings.Replace(server.DSN(""), alive, fmt.Sprintf("%s,localhost:%d", alive, server.Port()), 1)
	for _, mode := range []string{"verify-full", "prefer"} {
		r := examine(t, pgtest.With(dsn, "sslmode", mode, "sslrootcert", server.CAFile()))
		var hosts []string
		for _, l := range lines(r, "tls") {
			hosts = append(hosts, strings.Fields(l.Host)[0])
			assert.Contains(t, l.Detail, "TLS 1.3")
		}
		assert.ElementsMatch(t, []string{alive, fmt.Sprintf("localhost:%d", server.Port())}, slices.Compact(hosts))
	}
}

// Each host's way has a *tls.Config of its own, and pgx keeps the client's certificate by that.
func TestTheClientsCertificateServesOnEachHost(t *testing.T) {
	t.Parallel()
	ca, err := pgtest.NewCA()
	require.NoError(t, err)
	server := pgtest.StartTB(t, pgtest.Config{
		TLS: &pgtest.TLS{CA: ca}, HBA: []string{"hostssl all all all cert", "local all all trust"},
	})
	cert, key, err := ca.Issue([]string{"postgres"}, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	require.NoError(t, err)
	dir := t.TempDir()
	for name, content := range map[string][]byte{"cert": cert, "key": key} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	alive := fmt.Sprintf("127.0.0.1:%d", server.Port())
	dsn := strings.Replace(server.DSN(""), alive, "127.0.0.1:1,"+alive, 1)
	r := examine(t, pgtest.With(dsn, "sslmode", "verify-full", "sslrootcert", server.CAFile(),
		"sslcert", filepath.Join(dir, "cert"), "sslkey", filepath.Join(dir, "key")))
	assert.Equal(t, doctor.CanServe, r.ExitStatus)
	assert.Equal(t, alive, only(t, r, "login").Host)
	assert.Equal(t, doctor.OK, only(t, r, "login").Status)
}

func TestAStandbyServesWhoAsksForOne(t *testing.T) {
	t.Parallel()
	primary := pgtest.StartTB(t, pgtest.Config{})
	standby := pgtest.StartTB(t, pgtest.Config{StandbyOf: primary})
	require.NoError(t, standby.CatchUp(t.Context()))

	r := examine(t, pgtest.With(standby.DSN(""), "target_session_attrs", "standby"))
	assert.Equal(t, doctor.CanServe, r.ExitStatus)
	assert.Contains(t, only(t, r, "server").Detail, "a standby")
	assert.Contains(t, []doctor.Status{doctor.OK, doctor.Warning}, only(t, r, "replication").Status, "it was asked")

	r = examine(t, pgtest.With(standby.DSN(""), "target_session_attrs", "read-write"))
	assert.Equal(t, doctor.CannotServe, r.ExitStatus, "it may be promoted")
	l := only(t, r, "server")
	assert.Equal(t, doctor.Warning, l.Status)
	assert.Contains(t, l.Detail, "target_session_attrs=read-write passes over")
	assert.Equal(t, doctor.Failure, only(t, r, "pool").Status)

	r = examine(t, primary.DSN(""))
	assert.Contains(t, only(t, r, "replication").Detail, "streaming async")
	require.NoError(t, primary.Exec(t.Context(), "alter system set synchronous_standby_names = 'nobody'"))
	require.NoError(t, primary.Exec(t.Context(), "select pg_reload_conf()"))
	pgtest.Eventually(t, time.Minute, func() bool {
		return only(t, examine(t, primary.DSN("")), "replication").Status == doctor.Warning
	}, "it warns of a synchronous standby that isn't there")
}

func TestTheRoleAndItsLimitAreLookedAt(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	application(t, server, "one", "connection limit 1")
	application(t, server, "many", "connection limit 100")
	r := examine(t, as(server.DSN(""), "one", ""))
	l := only(t, r, "limits")
	assert.Equal(t, doctor.Warning, l.Status)
	assert.Contains(t, l.Detail, "the role's CONNECTION LIMIT is 1")
	assert.Equal(t, doctor.Skipped, only(t, r, "pooler").Status)
	assert.Equal(t, doctor.CanServe, r.ExitStatus)

	dsn := as(server.DSN(""), "many", "")
	for instances, want := range map[int]doctor.Status{3: doctor.OK, 4: doctor.Warning} {
		r = examineWith(t, doctor.Options{Environ: []string{"DB_DSN=" + dsn}, Instances: instances}, dsn)
		l = only(t, r, "limits")
		assert.Equal(t, want, l.Status)
		assert.Contains(t, l.Detail, fmt.Sprint(30*instances))
	}
	r = examine(t, server.DSN(""))
	assert.Contains(t, only(t, r, "role").Detail, "superuser")
}

func TestTypesOfColumnsThatPgxDoesNotKnowAreListed(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `create type mood as enum ('sad', 'ok'); create type shade as enum ('dark');
 create type point3 as (x int, y int, z int); create domain age as int;
 create table people (m mood, ms mood[], s shade, p point3, a age, aa age[], t timestamptz, n int[])`)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))

	all := lines(examine(t, dsn), "types")
	require.Len(t, all, 4)
	for i, want := range []struct {
		detail string
		status doctor.Status
	}{
		{"age, a domain, in people.aa", doctor.Warning},
		{"mood, an enum, in 2 columns such as people.m", doctor.Warning},
		{"point3, a composite, in people.p", doctor.Warning},
		{"shade, an enum, in people.s: scans into a string", doctor.OK},
	} {
		assert.Contains(t, all[i].Detail, want.detail)
		assert.Equal(t, want.status, all[i].Status)
	}
}

// What the lines about types say is so.
func TestAnEnumScansIntoAStringAndItsArraysToo(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(t.Context(), "create type mood as enum ('sad', 'ok'); create type pair as (x int, y int)")
	require.NoError(t, err)
	var mood, moods, pair string
	query := "select 'ok'::mood, array['sad', 'ok']::mood[], row(1, 2)::pair"
	require.NoError(t, conn.QueryRow(t.Context(), query).Scan(&mood, &moods, &pair))
	assert.Equal(t, []string{"ok", "{sad,ok}", "(1,2)"}, []string{mood, moods, pair})
}

func TestTypesOfExtensionsAreListed(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `create extension citext; create extension hstore;
 create table people (email citext, props hstore, secret uuid)`)
	require.NoError(t, err, "Debian's postgresql and npm's builds have these extensions")
	require.NoError(t, conn.Close(t.Context()))

	all := lines(examine(t, dsn), "types")
	require.Len(t, all, 2)
	assert.Equal(t, doctor.OK, all[0].Status)
	assert.Contains(t, all[0].Detail, "citext, of the extension citext, in people.email: scans into a string")
	assert.Equal(t, doctor.Warning, all[1].Status)
	assert.Contains(t, all[1].Detail, "hstore, of the extension hstore, in people.props")
	assert.Contains(t, all[1].Advice, "pgtype.HstoreCodec")
}

func TestAServerThatHangsCannotServeAndIsNotWaitedForForEver(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	require.NoError(t, server.Freeze())
	defer func() { _ = server.Thaw() }()
	r := examine(t, pgtest.With(server.DSN(""), "connect_timeout", "1"))
	assert.Equal(t, doctor.CannotServe, r.ExitStatus)
	l := only(t, r, "login")
	assert.Equal(t, doctor.Failure, l.Status)
	assert.Contains(t, l.Advice, "no answer in time")
	assert.Equal(t, doctor.Skipped, only(t, r, "server").Status)
}

func TestItWaitsForAServerThatIsAway(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	dsn := server.DSN("")
	require.NoError(t, server.Shutdown(t.Context(), pgtest.Fast))
	why := make(chan string, 100)
	resumed := make(chan error, 1)
	go func() { // ends when it has heard what is waited for
		<-why
		resumed <- server.Resume(context.Background())
	}()
	r := examineWith(t, doctor.Options{
		Environ: []string{"DB_DSN=" + dsn}, Wait: time.Minute, Waiting: func(text string) { why <- text },
	}, dsn)
	require.NoError(t, <-resumed)
	assert.Equal(t, doctor.CanServe, r.ExitStatus)
}

func TestItEndsWithItsContext(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := doctor.Examine(ctx, doctor.Options{Environ: []string{"DB_DSN=" + server.DSN("")}, Show: func(l doctor.Line) {
		if l.Check == "network" {
			cancel()
		}
	}})
	assert.Equal(t, doctor.CannotServe, r.ExitStatus)
	assert.Equal(t, doctor.Failure, r.Status)
}
