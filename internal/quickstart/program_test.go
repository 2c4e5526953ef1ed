package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// childVariable makes this test binary the program itself, with the flags that it holds.
const childVariable = "QUICKSTART_CHILD"

func TestMain(m *testing.M) {
	if flags, ok := os.LookupEnv(childVariable); ok {
		os.Args = append(os.Args[:1], strings.Fields(flags)...)
		main()
	}
	os.Exit(pgtest.Main(m))
}

// program is a run of the program.
type program struct {
	*exec.Cmd
	out    io.ReadCloser
	lines  *bufio.Reader // of out
	errors strings.Builder
}

// start starts the program; it is killed at the end of the test if it still runs.
func start(t *testing.T, dsn, flags string) *program {
	t.Helper()
	p := &program{Cmd: exec.Command(os.Args[0])}
	p.Env = append(os.Environ(), childVariable+"="+flags, "DB_DSN="+dsn)
	p.Stderr = &p.errors
	out, err := p.StdoutPipe()
	require.NoError(t, err)
	p.out, p.lines = out, bufio.NewReader(out)
	require.NoError(t, p.Start())
	t.Cleanup(func() {
		_ = p.Process.Kill()
		_ = p.Wait()
	})
	return p
}

// until reads the output until it matches, and returns the submatches.
func (p *program) until(t *testing.T, pattern string) []string {
	t.Helper()
	re, seen := regexp.MustCompile(pattern), ""
	for {
		line, err := p.lines.ReadString('\n')
		seen += line
		if match := re.FindStringSubmatch(line); match != nil {
			return match
		}
		require.NoError(t, err, "no %q in:\n%s%s", pattern, seen, &p.errors)
	}
}

// end reads the rest and returns it with the exit code.
func (p *program) end(t *testing.T) (string, int) {
	t.Helper()
	rest, err := io.ReadAll(p.lines)
	require.NoError(t, err)
	_ = p.Wait()
	return string(rest), p.ProcessState.ExitCode()
}

// ownServer waits until the program has a server and returns its home and its process.
func (p *program) ownServer(t *testing.T) (home string, pid int) {
	t.Helper()
	home = p.until(t, `of its own, in (.*); removed at the end`)[1]
	text, err := os.ReadFile(filepath.Join(home, "data", "postmaster.pid"))
	require.NoError(t, err)
	pid, err = strconv.Atoi(strings.SplitN(string(text), "\n", 2)[0])
	require.NoError(t, err)
	return home, pid
}

// signalled runs the program on a server of its own, sends it a signal once its output matches, and returns the rest of it.
// It ends without an error, and the server with it.
func signalled(t *testing.T, flags, pattern string, sig os.Signal) string {
	t.Helper()
	p := start(t, "", flags)
	home, pid := p.ownServer(t)
	p.until(t, pattern)
	require.NoError(t, p.Process.Signal(sig))
	out, code := p.end(t)
	require.Zero(t, code, p.errors.String())
	requireGone(t, home, pid)
	return out
}

func requireGone(t *testing.T, home string, pid int) {
	t.Helper()
	assert.NoDirExists(t, home)
	require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH, "the server still runs")
}

func TestItWorksAndTellsWhatCameOfIt(t *testing.T) {
	p := start(t, "", "-duration 1s -users 10")
	home, pid := p.ownServer(t)
	out, code := p.end(t)
	require.Zero(t, code, p.errors.String())
	for _, pattern := range []string{
		`10 users for 1s`, `requests +[\d,]+/s +p99`, `requests +per s +p50 +p95 +p99 +max`,
		`\nread +[1-9][\d,]* `, `\nlist +[1-9][\d,]* `, `\ntransfer +[1-9][\d,]* `, `\nall +[1-9][\d,]* `,
		`failing .*\n.*SQLSTATE 23505`, `cut short .*within 250ms: ended after ([2-9]..m|\d+(\.\d+)?)s`, `slow +select pg_sleep\(0.5\): took`,
		`Errors\n +none but those`, `size +\d+, overflow up to`, `0 checked out`, `utilisation \d+ %`, `0 timeouts`, `0 failed attempts`,
	} {
		assert.Regexp(t, pattern, out)
	}
	requireGone(t, home, pid)
}

func TestASignalAtAnyTimeLeavesNothing(t *testing.T) {
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		out := signalled(t, "-duration 1m", `requests`, sig)
		assert.Regexp(t, `Stopped: .*signal`, out)
		assert.Regexp(t, `\nall +[1-9]`, out, "it tells what it had")
	}
}

// The kernel sends that signal for a write to a connection that the server has reset, too.
func TestABrokenPipeOfAConnectionDoesNotEndIt(t *testing.T) {
	assert.NotContains(t, signalled(t, "-duration 2s", `requests`, syscall.SIGPIPE), "Stopped")
}

func TestASignalDuringTheStartLeavesNothing(t *testing.T) {
	dir := openTempDir(t)
	t.Setenv("TMPDIR", dir)
	for wait := time.Duration(0); wait < 400*time.Millisecond; wait += 40 * time.Millisecond {
		p := start(t, "", "-duration 1m")
		timer := time.AfterFunc(wait, func() { _ = p.Process.Signal(syscall.SIGTERM) }) // at no special moment
		defer timer.Stop()
		_, _ = p.end(t) // any exit code: it may not have begun
		left, err := filepath.Glob(filepath.Join(dir, "*"))
		require.NoError(t, err)
		require.Empty(t, left, "after %v", wait)
	}
}

func TestAReaderThatGoesAwayEndsIt(t *testing.T) {
	p := start(t, "", "-duration 1m")
	home, pid := p.ownServer(t)
	require.NoError(t, p.out.Close())
	pgtest.Eventually(t, 20*time.Second, func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH }, "the server is gone")
	_ = p.Wait()
	requireGone(t, home, pid)
}

func TestADatabaseOfYoursIsLeftAsItWas(t *testing.T) {
	dsn := pgtest.NewDatabase(t)
	t.Run("at the end", func(t *testing.T) {
		p := start(t, dsn, "-duration 500ms -users 5")
		p.until(t, `the one in DB_DSN`)
		out, code := p.end(t)
		require.Zero(t, code, p.errors.String())
		require.NotContains(t, out, dsn)
		require.Empty(t, schemas(t, dsn))
	})
	t.Run("after a signal", func(t *testing.T) {
		p := start(t, dsn, "-duration 1m")
		p.until(t, `requests`)
		require.Len(t, schemas(t, dsn), 1)
		require.NoError(t, p.Process.Signal(syscall.SIGTERM))
		_, code := p.end(t)
		require.Zero(t, code, p.errors.String())
		require.Empty(t, schemas(t, dsn))
	})
}

func TestAnErrorIsToldAndMakesItFail(t *testing.T) {
	p := start(t, "postgres://127.0.0.1/x?pool_size=none", "")
	_, code := p.end(t)
	require.Equal(t, 1, code)
	require.Contains(t, p.errors.String(), "pool_size")
}

func TestItServesTheStatusUntilInterrupted(t *testing.T) {
	p := start(t, "", "-addr 127.0.0.1:0 -users 200")
	home, pid := p.ownServer(t)
	url := p.until(t, `Serving (http://.*/), /status`)[1]
	var status pgprod.PoolStatus
	require.NoError(t, json.Unmarshal([]byte(get(t, url+"status")), &status))
	require.Equal(t, 20, status.PoolSize)
	var health pgprod.Health
	pgtest.Eventually(t, 20*time.Second, func() bool { // while its users come all at once, some wait for long
		require.NoError(t, json.Unmarshal([]byte(get(t, url+"readyz")), &health))
		return health.Status == "healthy"
	}, "it isn't healthy")
	require.Empty(t, health.Warnings, "its own server is no production")
	require.Contains(t, get(t, url+"livez"), "alive")
	require.Contains(t, get(t, url+"debug/pgprod"), "Connection pools")
	pgtest.Eventually(t, 20*time.Second, func() bool {
		return regexp.MustCompile(`\nall +[1-9]`).MatchString(get(t, url))
	}, "the load runs")
	require.Contains(t, get(t, url), "utilisation")
	shown, errors, code := top(t, "", "-top "+url+"debug/pgprod -once")
	require.Zero(t, code, errors)
	require.Regexp(t, `\n[\d]+ in use \(.*round trips? saved(?s:.*)COUNT ERRORS(?s:.*)accounts`, shown)
	require.NoError(t, p.Process.Signal(os.Interrupt))
	_, code = p.end(t)
	require.Zero(t, code, p.errors.String())
	require.NotContains(t, p.errors.String(), "preflight")
	requireGone(t, home, pid)
}

func TestItEndsWithTheProcessThatStartedIt(t *testing.T) {
	dir := openTempDir(t)
	output := filepath.Join(dir, "output")
	shell := exec.Command("sh", "-c", `"$0" >"$1" 2>&1 & wait`, os.Args[0], output)
	shell.Env = append(os.Environ(), childVariable+"=-duration 1m", "DB_DSN=")
	require.NoError(t, shell.Start())
	var match []string
	pgtest.Eventually(t, 20*time.Second, func() bool {
		text, _ := os.ReadFile(output)
		match = regexp.MustCompile(`of its own, in (.*); removed at the end`).FindStringSubmatch(string(text))
		return match != nil
	}, "the server runs")
	require.NoError(t, shell.Process.Kill())
	_ = shell.Wait()
	pgtest.Eventually(t, 20*time.Second, func() bool {
		_, err := os.Stat(match[1])
		return os.IsNotExist(err)
	}, "%s is gone", match[1])
}

// get fetches a page on a connection of its own.
func get(t *testing.T, url string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Get(url)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(text)
}

// schemas lists the program's schemas in a database.
func schemas(t *testing.T, dsn string) (names []string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, dsn)
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, "select nspname from pg_namespace where nspname like 'pgprod%'")
	require.NoError(t, err)
	names, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return names
}

// openTempDir is t.TempDir that every user can enter.
func openTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", fmt.Sprintf("qs-%d-", os.Getpid()))
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o777))
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
