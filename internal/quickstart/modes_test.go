package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// requireReadable fails if the output has control sequences, or is too wide for a screen of 80 columns where it is of
// our making.
func requireReadable(t *testing.T, out string) {
	t.Helper()
	require.NotContains(t, out, "\x1b")
	require.NotContains(t, out, "\r")
	for line := range strings.Lines(out) {
		if !strings.Contains(line, "SQLSTATE") && !strings.Contains(line, "pgtest-") {
			assert.LessOrEqual(t, utf8.RuneCountInString(line), 81, line)
		}
	}
}

// advised is the pool size and overflow that an output advises.
func advised(t *testing.T, out string) (size, overflow int) {
	t.Helper()
	match := regexp.MustCompile(`The pool should be: DB_POOL_SIZE=(\d+) DB_MAX_OVERFLOW=(\d+)`).FindStringSubmatch(out)
	require.NotNil(t, match, out)
	size, err := strconv.Atoi(match[1])
	require.NoError(t, err)
	overflow, err = strconv.Atoi(match[2])
	require.NoError(t, err)
	return size, overflow
}

func TestALoadTestChartsAProfileAndAdvises(t *testing.T) {
	t.Setenv("COLUMNS", "80")
	t.Setenv("DB_MAX_OVERFLOW", "3") // beats the profile, as always
	p := start(t, "", "-users 30 -duration 2s -think 20ms -profile small")
	home, pid := p.ownServer(t)
	out, code := p.end(t)
	require.Zero(t, code, p.errors.String())
	requireReadable(t, out)
	for _, pattern := range []string{
		`30 users for 2s, each thinking 20ms`, `\nrequests/s .*most`, `\np50 .*most`, `\np99 .*most`, `\nutilisation .*█* +most \d+ %`,
		`\nwaits/s .*most`, `\np99 of waits .*most`, `\n +0s +.*s\n`, `size +10, overflow up to 3\n`, `Little's law: [1-9]`,
		`max_connections is 200 and leaves 197`,
	} {
		assert.Regexp(t, pattern, out)
	}
	size, _ := advised(t, out)
	assert.Positive(t, size)
	requireGone(t, home, pid)
}

func TestNoMoreIsAdvisedThanTheServerHas(t *testing.T) {
	server := pgtest.StartTB(t, pgtest.Config{Settings: map[string]string{"max_connections": "12"}})
	other, err := pgx.Connect(t.Context(), server.DSN(""))
	require.NoError(t, err)
	defer func() { _ = other.Close(t.Context()) }()
	t.Setenv("DB_POOL_SIZE", "2")
	t.Setenv("DB_MAX_OVERFLOW", "0")
	p := start(t, server.DSN(""), "-users 40 -duration 1s -think 1ms")
	out, code := p.end(t)
	require.Zero(t, code, p.errors.String())
	require.Contains(t, strings.Join(strings.Fields(out), " "), "max_connections is 12 and leaves 8") // 3 reserved, 1 taken
	size, overflow := advised(t, out)
	require.LessOrEqual(t, size+overflow, 8)
}

func TestASweepFindsAKnee(t *testing.T) {
	dsn := pgtest.NewDatabase(t)
	p := start(t, dsn, "-sweep -users 8 -duration 3s -think 1ms")
	out, code := p.end(t)
	require.Zero(t, code, p.errors.String())
	requireReadable(t, out)
	for _, pattern := range []string{
		`\nsize +2 +4 +8\nround 1 +\d.*\nround 2 +\d.*\nround 3 +\d.*\n`, `\n +2 +[1-9][\d,]* .*█`, `\n +4 +[1-9][\d,]* .*█`,
		`\n +8 +[1-9][\d,]* .*█`, `◄ knee\n`, `is the knee: `,
	} {
		assert.Regexp(t, pattern, out)
	}
	size, _ := advised(t, out)
	assert.Contains(t, []int{2, 4, 8}, size)
	require.Empty(t, schemas(t, dsn))
}

func TestAnInterruptedSweepTellsWhatItHas(t *testing.T) {
	out := signalled(t, "-sweep -users 8 -duration 9s", `round 1`, os.Interrupt)
	assert.Regexp(t, `Stopped: .*interrupt`, out)
	advised(t, out)
}

func TestAFailoverLosesAndDoublesNothing(t *testing.T) {
	p := start(t, "", "-failover -users 20 -duration 2s")
	home := p.until(t, `of its own, in (.*); removed at the end`)[1]
	out, code := p.end(t)
	require.Zero(t, code, "%s\n%s", out, p.errors.String())
	requireReadable(t, out)
	for _, pattern := range []string{
		`The server is restarted after 1.00s`, `the server was away for \d`, `callers \d.* passed without a success`,
		`Failed: [\d,]+ of [1-9][\d,]* requests`, `[1-9][\d,]* acknowledged: 0 lost, 0 doubled`, `refused with an error: 0 took place`,
	} {
		assert.Regexp(t, pattern, out)
	}
	assert.NoDirExists(t, home)
}

func TestAFailoverThatIsInterruptedLeavesNothing(t *testing.T) {
	out := signalled(t, "-failover -users 5 -duration 1m", `requests`, os.Interrupt)
	assert.Contains(t, out, "the server was not restarted")
	assert.Contains(t, out, "acknowledged: 0 lost")
}

func TestAMistakeOnTheCommandLineEndsItWithStatus2(t *testing.T) {
	for _, c := range []struct{ dsn, flags, says string }{
		{"", "-profile huge", "small, medium or large"},
		{"postgres://db.example.com/shop", "-failover", "unset DB_DSN"},
	} {
		p := start(t, c.dsn, c.flags)
		out, code := p.end(t)
		require.Equal(t, 2, code)
		require.Empty(t, out)
		require.Contains(t, p.errors.String(), c.says)
	}
}

func TestALogStandsAboveThePicture(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "screen"))
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	screen := &terminal{File: f, redraws: true, width: 80}
	screen.redraw("one\ntwo\n")
	_, err = screen.above(f).Write([]byte("a log line\n"))
	require.NoError(t, err)
	screen.redraw("three\n")
	screen.erase()
	screen.erase()
	text, err := os.ReadFile(f.Name())
	require.NoError(t, err)
	require.Equal(t, "\x1b[?7lone\ntwo\n\x1b[?7h"+"\x1b[2A\r\x1b[J"+"a log line\n"+"\x1b[?7lthree\n\x1b[?7h"+"\x1b[1A\r\x1b[J", string(text))
}
