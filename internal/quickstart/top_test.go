package main

import (
	"context"
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/debugpage"
	"github.com/pgprod/pgprod/internal/debugpage/example"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// examplePage serves the live page of a pool in trouble, as change makes it, and returns its address.
func examplePage(t *testing.T, change func(*activity.Snapshot)) string {
	t.Helper()
	snapshot, health := example.Trouble(time.Now())
	change(&snapshot)
	server := httptest.NewServer(debugpage.Handler(func() []debugpage.Source {
		return []debugpage.Source{{
			Snapshot: func() activity.Snapshot { return snapshot },
			Health:   func(context.Context) activity.Health { return health },
		}}
	}))
	t.Cleanup(server.Close)
	return server.URL + "/debug/pgprod"
}

// top runs the program and returns what it writes.
func top(t *testing.T, dsn, flags string) (out, errors string, code int) {
	t.Helper()
	p := start(t, dsn, flags)
	out, code = p.end(t)
	return out, p.errors.String(), code
}

func requireWidth(t *testing.T, out string, width int) {
	t.Helper()
	for line := range strings.Lines(out) {
		require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), width, line)
	}
}

func TestTopShowsAProgramsPageOnce(t *testing.T) {
	t.Setenv("COLUMNS", "")
	address := examplePage(t, func(s *activity.Snapshot) { s.Blocking[0].Application = "evil\x1b[2J\nshop" })
	out, _, code := top(t, "", "-top "+address+" -once")
	require.Zero(t, code)
	for _, pattern := range []string{
		`shop-primary  degraded\n28 of 30 connections are in use and 12 callers wait\n`, `1 unknown commit; 226464 round trips saved`,
		`\nhost db-primary\.internal\.example:5432: up for 26h0m0s, primary, 30 connections, answered in 3ms\n`,
		`\nhost db-standby\.internal\.example:5432: down for 14m0s, standby, 0 connections, (?s:.)*connection refused\n`,
		`NEEDS ATTENTION\n!! 12 callers wait`, `\n !  ?Preflight: max_connections`,
		`WHO WAITS FOR WHOM\npid 48121 \(this pool's own\): blocks 4, idle in transaction for 14m0s, ` +
			`application evil·\[2J·shop, user shop_service\n` +
			`   SELECT orders order_lines\n   held since 14m12s by export\.\(\*Job\)\.openCursor cursor\.go:118\n` +
			`└─ pid 50210 \(this pool's own\): blocks 2, waits for Lock/transactionid`,
		`\n   └─ pid 51877 \(not this pool's\): blocks 1, `, `\n      └─ pid 50224 \(this`,
		`RUNNING: 21, and 7 connections`,
		`\n +7\.4s +50210  UPDATE inventory\n +waits for Lock/transactionid held by pid 48121 .*\n +trace 4bf92f3577b34da6a3ce929d0e0e4702\n`,
		`SLOW LATELY\n.* 10s  UPDATE inventory, 57014\n +waited 0s, server 10s, reading 0s\n +waits for`, `trace 8d3c1ab5577b34da6a3ce929d0e0e473`,
		`COUNT ERRORS .*\n`, `and 48 more with less time in all`,
		`PLAN of one that took 4\.2s: .*\n\S+`,
	} {
		assert.Regexp(t, pattern, out)
	}
	assert.NotContains(t, out, "\x1b")
	t.Setenv("COLUMNS", "80")
	out, _, code = top(t, "", "-once -top="+address)
	require.Zero(t, code)
	requireWidth(t, out, 80)
	assert.Contains(t, out, "…\n", "a statement is cut off")
	assert.Regexp(t, `waits for Lock/transactionid held by pid 48121(?s:.{1,200})\n +.*export\.\(\*Job\)`, out, "a cause goes on in the next line")
}

// session is a session of a program's that has a transaction open.
func session(t *testing.T, dsn, application string) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	config.RuntimeParams["application_name"] = application
	conn, err := pgx.ConnectConfig(context.Background(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	_, err = conn.Exec(context.Background(), "begin")
	require.NoError(t, err)
	return conn
}

// chainOfThree has one session block another, which blocks a third.
func chainOfThree(t *testing.T, dsn string) (pids []uint32) {
	t.Helper()
	ctx := context.Background()
	owner := session(t, dsn, "migrate")
	for _, statement := range []string{
		"create table accounts (id int primary key, secret text)", "insert into accounts values (1), (2)", "commit", "begin",
	} {
		_, err := owner.Exec(ctx, statement)
		require.NoError(t, err)
	}
	root, second, third := owner, session(t, dsn, "billing"), session(t, dsn, "evil\x1b[2Jname")
	update := func(id int) string {
		return fmt.Sprintf("update accounts set secret = 's3cret value'\n where id = %d", id)
	}
	_, err := root.Exec(ctx, update(1))
	require.NoError(t, err)
	_, err = second.Exec(ctx, update(2))
	require.NoError(t, err)
	for conn, id := range map[*pgx.Conn]int{second: 1, third: 2} {
		done := make(chan struct{})
		go func() { // ends when the test rolls back
			defer close(done)
			_, _ = conn.Exec(ctx, update(id), pgx.QueryExecModeSimpleProtocol)
		}()
		t.Cleanup(func() { _ = conn.PgConn().CancelRequest(ctx); <-done })
	}
	admin := session(t, dsn, "looks")
	_, err = admin.Exec(ctx, "rollback")
	require.NoError(t, err)
	pgtest.Eventually(t, 20*time.Second, func() bool {
		var waiting int
		return admin.QueryRow(ctx, "select count(*) from pg_locks where not granted").Scan(&waiting) == nil && waiting == 2
	}, "two that wait")
	return []uint32{root.PgConn().PID(), second.PgConn().PID(), third.PgConn().PID()}
}

func TestTopShowsAServersSessionsWithoutLiteralsOnce(t *testing.T) {
	t.Setenv("COLUMNS", "")
	server := pgtest.StartTB(t, pgtest.Config{Password: "p4ssword"})
	dsn := withPassword(server.DSN(""), "p4ssword")
	pids := chainOfThree(t, dsn)
	for dsn, flags := range map[string]string{dsn: "-top -once", "": "-top " + dsn + " -once"} {
		out, errors, code := top(t, dsn, flags)
		require.Zero(t, code, errors)
		for _, pattern := range []string{
			`PostgreSQL \d+.*, primary: \d+ of \d+ connections`,
			fmt.Sprintf(`WHO WAITS FOR WHOM\npid %d: blocks 2, idle in transaction for \S+, `+
				`application migrate, user postgres, database postgres\n`, pids[0]) +
				`   update accounts set secret = '\?' where id = '\?'\n` +
				fmt.Sprintf(`└─ pid %d: blocks 1, waits for Lock/transactionid for \S+, application billing, .*\n`+
					`.*\n   └─ pid %d: waits for Lock/transactionid for \S+, `+
					`application evil.\[2Jname, `, pids[1], pids[2]),
			fmt.Sprintf(`BUSY: 3 sessions(?s:.*) %d  waits for Lock/transactionid`, pids[2]),
			fmt.Sprintf(` %d  idle in transaction, application migrate`, pids[0]),
		} {
			assert.Regexp(t, pattern, out)
		}
		assert.NotContains(t, out+errors, "s3cret")
		assert.NotContains(t, out+errors, "p4ssword")
		assert.NotContains(t, out, "\x1b")
	}
}

func TestTopShowsARoleWhatItMaySee(t *testing.T) {
	t.Setenv("COLUMNS", "")
	server := pgtest.StartTB(t, pgtest.Config{})
	require.NoError(t, server.Exec(t.Context(), "create role nobody login"))
	pids := chainOfThree(t, server.DSN(""))
	u, err := url.Parse(server.DSN(""))
	require.NoError(t, err)
	u.User = url.User("nobody")
	out, errors, code := top(t, u.String(), "-top -once")
	require.Zero(t, code, errors)
	assert.Regexp(t, fmt.Sprintf(`pid %d: blocks 2, its state is hidden from this role, pg_read_all_stats would show it, `+
		`application migrate`, pids[0]), out)
	assert.Regexp(t, fmt.Sprintf(`└─ pid %d: blocks 1, waits for Lock`, pids[1]), out)
	assert.Regexp(t, `BUSY: 0 sessions, and of \d+ the role may not see what they do`, out)
	assert.NotContains(t, out, "accounts")
}

func TestTopFailsWithoutADSNOrAPasswordInItsErrors(t *testing.T) {
	server := pgtest.StartTB(t, pgtest.Config{Password: "right"})
	page := examplePage(t, func(*activity.Snapshot) {})
	for _, c := range []struct {
		dsn, flags, says string
		code             int
	}{
		{"", "-top -once http://u:s3cret@127.0.0.1:1/debug/pgprod?token=s3cret", "the page doesn't answer: ", 1},
		{"", "-top -once " + strings.TrimSuffix(page, "/debug/pgprod") + "/%zz?s3cret", "the address of the page makes no sense", 1},
		{"", "-top http://s3cret@/ -once", "the address of the page makes no sense", 1},
		{withPassword(server.DSN(""), "s3cret"), "-top -once", "password authentication failed", 1},
		{"", "-top -once postgres://u:s3cret@127.0.0.1:1/x?pool_size=none", "pool_size", 1},
		{"", "-top -once postgres://u:s3cret@[::1", "DSN", 1},
		{"", "-top postgres://u:s3cret@a/b postgres://u:s3cret@a/b", "-top takes one address or DSN", 2},
		{"", "-top -users 3", "-top doesn't go together with -users", 2},
		{"", "-once", "-once is for -top", 2},
	} {
		out, errors, code := top(t, c.dsn, c.flags)
		assert.Equal(t, c.code, code, c.flags)
		assert.Contains(t, errors, c.says, c.flags)
		assert.NotContains(t, out+errors, "s3cret", c.flags)
	}
	other := httptest.NewServer(nil)
	defer other.Close()
	_, errors, code := top(t, "", "-top -once "+other.URL)
	assert.Equal(t, 1, code)
	assert.Contains(t, errors, "no live page (status 404")
}

func TestTopKeepsWhatItHasSeenWhenNobodyAnswers(t *testing.T) {
	var m memory
	never := m.after(nil, fmt.Errorf("refused\x1b"))
	assert.Equal(t, "NO ANSWER: refused·\n\n", never.text(0, 0, false))
	var seen picture
	seen.add("first")
	assert.Equal(t, "first\n", m.after(seen, nil).text(0, 0, false))
	assert.Regexp(t, `^NO ANSWER: refused\nwhat follows is \S+ old\n\nfirst\n$`, m.after(nil, fmt.Errorf("refused")).text(0, 0, false))
}

func TestAPictureFitsItsScreen(t *testing.T) {
	var p picture
	p.head("%s", strings.Repeat("ä", 100))
	for range 50 {
		p.add("line")
	}
	shown := p.text(20, 10, true)
	assert.Equal(t, 10, strings.Count(shown, "\n"))
	assert.True(t, strings.HasPrefix(shown, "\x1b[1m"+strings.Repeat("ä", 19)+"…\x1b[0m\x1b[K\n"), shown)
	assert.Contains(t, shown, "… 42 more lines")
	assert.Equal(t, 51, strings.Count(p.text(0, 51, true), "\n"))
}
