package pgtest_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// install makes a directory that looks like one with a server's programs.
func install(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, program := range []string{"initdb", "postgres"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, program), []byte("#!/bin/sh\n"), 0o755))
	}
	return dir
}

func TestPGBINDIRComesBeforePATH(t *testing.T) {
	chosen, inPath := install(t), install(t)
	t.Setenv("PATH", inPath)
	t.Setenv("PG_BINDIR", "")
	dir, err := pgtest.Locate()
	require.NoError(t, err)
	assert.Equal(t, inPath, dir)

	t.Setenv("PG_BINDIR", chosen)
	dir, err = pgtest.Locate()
	require.NoError(t, err)
	assert.Equal(t, chosen, dir)
}

func TestAPGBINDIRWithoutAServerIsAnErrorNotAHint(t *testing.T) {
	t.Setenv("PG_BINDIR", t.TempDir())
	_, err := pgtest.Locate()
	require.ErrorContains(t, err, "PG_BINDIR")
	require.NotErrorIs(t, err, pgtest.ErrNotInstalled)
	_, err = pgtest.Start(t.Context(), pgtest.Config{})
	require.ErrorContains(t, err, "PG_BINDIR")
}

func TestLinksLeadToTheDirectoryWithAllPrograms(t *testing.T) {
	real, links := install(t), t.TempDir()
	for _, program := range []string{"initdb", "postgres"} {
		require.NoError(t, os.Symlink(filepath.Join(real, program), filepath.Join(links, program)))
	}
	t.Setenv("PG_BINDIR", "")
	t.Setenv("PATH", links)
	dir, err := pgtest.Locate()
	require.NoError(t, err)
	assert.Equal(t, real, dir)
}
