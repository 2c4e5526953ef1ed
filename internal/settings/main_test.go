package settings

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMain takes away what pgx would find on the developer's machine.
func TestMain(m *testing.M) {
	for _, line := range os.Environ() {
		if name, _, _ := strings.Cut(line, "="); strings.HasPrefix(name, "PG") {
			os.Unsetenv(name)
		}
	}
	home, err := os.MkdirTemp("", "settings")
	if err != nil {
		panic(err)
	}
	os.Setenv("HOME", home)
	code := m.Run()
	os.RemoveAll(home)
	os.Exit(code)
}

const remote = "postgres://app@db.example.com/shop"

// setPG makes the PG* variables among environ visible to pgx as well.
func setPG(t *testing.T, environ []string) {
	for _, line := range environ {
		if name, value, _ := strings.Cut(line, "="); strings.HasPrefix(name, "PG") {
			t.Setenv(name, value)
		}
	}
}

// load is Load of what must be right.
func load(t *testing.T, dsn string, environ ...string) *Config {
	t.Helper()
	return loadWith(t, dsn, Values{}, environ...)
}

func loadWith(t *testing.T, dsn string, code Values, environ ...string) *Config {
	t.Helper()
	setPG(t, environ)
	c, err := Load(dsn, environ, code, "")
	require.NoError(t, err)
	return c
}

// refused is the text of the error of Load, which must be one.
func refused(t *testing.T, dsn string, environ ...string) string {
	t.Helper()
	setPG(t, environ)
	c, err := Load(dsn, environ, Values{}, "")
	require.Nil(t, c)
	require.Error(t, err)
	for line := range strings.Lines(err.Error()) {
		require.True(t, strings.HasPrefix(line, "pgprod: "), line)
	}
	return err.Error()
}
