// Package module tests the module as the go command hands it to a user: as a zip file without the nested modules, the git
// directory and everything else that only a clone has.
package module

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"

	"github.com/pgprod/pgprod/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

var (
	clone    = filepath.Join("..", "..", "..")
	released = module.Version{Path: "github.com/pgprod/pgprod", Version: "v0.0.1"}
)

func TestTheQuickstartRunsWithoutAClone(t *testing.T) {
	modules := t.TempDir()
	publish(t, modules)
	flags := []string{"run", released.Path + "/internal/quickstart@latest", "-duration", "500ms", "-users", "5"}
	environment := outsideOfAnyClone(t, modules)

	t.Run("on a PostgreSQL of its own", func(t *testing.T) {
		out := goCommand(t, t.TempDir(), append(environment, "DB_DSN="), flags...)
		assert.Regexp(t, `of its own, in .*; removed at the end`, out)
		assert.Regexp(t, `\nall +[1-9]`, out)
		assert.Regexp(t, `Errors\n +none but those`, out)
	})
	t.Run("on the one in DB_DSN", func(t *testing.T) {
		out := goCommand(t, t.TempDir(), append(environment, "DB_DSN="+pgtest.NewDatabase(t)), flags...)
		assert.Regexp(t, `the one in DB_DSN`, out)
		assert.Regexp(t, `\nall +[1-9]`, out)
	})
}

// publish puts the module into a directory of the form that a file:// proxy has.
func publish(t *testing.T, modules string) {
	t.Helper()
	dir := filepath.Join(modules, filepath.FromSlash(released.Path), "@v")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	gomod, err := os.ReadFile(filepath.Join(clone, "go.mod"))
	require.NoError(t, err)
	for name, content := range map[string]string{
		"list":                     released.Version + "\n",
		released.Version + ".mod":  string(gomod),
		released.Version + ".info": fmt.Sprintf(`{"Version": %q, "Time": "2026-01-01T00:00:00Z"}`, released.Version),
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	archive, err := os.Create(filepath.Join(dir, released.Version+".zip"))
	require.NoError(t, err)
	require.NoError(t, zip.CreateFromDir(archive, released, clone))
	require.NoError(t, archive.Close())
}

// outsideOfAnyClone returns an environment in which the go command sees the published module. It gets everything into a
// module cache of its own, so that this machine's never has a version that doesn't exist: the module from the directory,
// what it requires from this machine's cache, and nothing from the network, where nobody knows that version. With
// -trimpath, which keeps directories out of the build cache's keys, packages that have not changed are compiled once.
func outsideOfAnyClone(t *testing.T, modules string) []string {
	t.Helper()
	goCommand(t, clone, os.Environ(), "mod", "download")
	cache := strings.TrimSpace(goCommand(t, clone, os.Environ(), "env", "GOMODCACHE"))
	proxies := "file://" + modules + ",file://" + filepath.Join(cache, "cache", "download") + ",off"
	return append(os.Environ(), "GOPROXY="+proxies, "GOMODCACHE="+t.TempDir(), "GOFLAGS=-trimpath -modcacherw",
		"GOSUMDB=off", "GOPRIVATE=", "GONOPROXY=", "GOWORK=off")
}

// goCommand runs the go command in a directory and returns what it writes to its standard output.
func goCommand(t *testing.T, dir string, environment []string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = dir, environment
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	require.NoError(t, err, problems.String())
	return string(out)
}
