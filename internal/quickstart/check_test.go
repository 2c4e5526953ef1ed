package main

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/doctor"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// withPassword is a DSN with a password.
func withPassword(dsn, password string) string {
	u, _ := url.Parse(dsn)
	u.User = url.UserPassword("postgres", password)
	return u.String()
}

// TestMain's child is the program itself, so these are exit statuses of the command.
func TestTheDoctorsExitStatusSaysWhetherWaitingHelps(t *testing.T) {
	server := pgtest.StartTB(t, pgtest.Config{Password: "right"})
	away := pgtest.StartTB(t, pgtest.Config{})
	require.NoError(t, away.Shutdown(t.Context(), pgtest.Fast))
	for _, c := range []struct {
		name, dsn, flags string
		status           int
		says             string
	}{
		{"healthy", withPassword(server.DSN(""), "right"), "-check -instances 2 -profile small", 0,
			"profile=small (option)"},
		{"away", away.DSN(""), "-check", 1, "failure  network: "},
		{"away for longer than one waits", away.DSN(""), "-check -wait 1ms", 1, "can't serve now"},
		{"a wrong password", withPassword(server.DSN(""), "s3cret"), "-check -wait 1h", 2, "failure  login: "},
		{"a wrong DSN", "postgres://127.0.0.1/x?pool_size=none", "-check", 2, "failure  settings: DSN key pool_size"},
		{"no DSN", "", "-check", 2, "set DB_DSN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, name := range []string{"DATABASE_URL", "PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE"} {
				t.Setenv(name, "")
			}
			p := start(t, c.dsn, c.flags)
			out, status := p.end(t)
			assert.Equal(t, c.status, status, "%s%s", out, &p.errors)
			assert.Contains(t, out, c.says)
			assert.NotContains(t, out+p.errors.String(), "s3cret")
			last := strings.Split(strings.TrimSpace(out), "\n")
			assert.Contains(t, last[len(last)-1], "verdict: ")

			p = start(t, c.dsn, c.flags+" -json")
			out, status = p.end(t)
			var report doctor.Report
			require.NoError(t, json.Unmarshal([]byte(out), &report), out)
			assert.Equal(t, c.status, status)
			assert.Equal(t, c.status, report.ExitStatus)
			assert.NotContains(t, out+p.errors.String(), "s3cret")
		})
	}
}

func TestTheDoctorsFlagsAreItsOwn(t *testing.T) {
	for _, c := range []struct{ flags, says string }{
		{"-json", "-json is for -check"},
		{"-wait 1s", "-wait is for -check"},
		{"-instances 2", "-instances is for -check"},
		{"-check -users 3", "-check doesn't go together with -users"},
		{"-check -sweep", "-check doesn't go together with -sweep"},
		{"-check -instances 0", "-instances must be at least 1"},
		{"-check -wait -1s", "-wait must not be below 0"},
	} {
		var out strings.Builder
		_, err := parseFlags(strings.Fields(c.flags), &out)
		require.Error(t, err, c.flags)
		require.Contains(t, out.String(), c.says)
	}
}
