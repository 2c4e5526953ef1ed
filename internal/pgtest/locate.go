package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

// ErrNotInstalled is the error of Locate if no PostgreSQL server is installed. Its text says what to install.
var ErrNotInstalled = errors.New("pgtest: no PostgreSQL server found" +
	" (looked in PG_BINDIR, PATH, pg_config --bindir, /usr/lib/postgresql/*/bin, /usr/pgsql-*/bin, /usr/local/pgsql/bin" +
	" and Homebrew's postgresql@*/bin); install one (Debian, Ubuntu: apt-get install postgresql; Fedora: dnf install" +
	" postgresql-server; Alpine: apk add postgresql; macOS: brew install postgresql), or set PG_BINDIR to the directory" +
	" with initdb and postgres, or, for tests, DB_TEST_DSN to the URL of a running server")

// Locate returns the directory with the server's programs: PG_BINDIR if that is set; else by PATH, else by pg_config, else
// the newest of the usual directories. If there is none the error is ErrNotInstalled.
func Locate() (binDir string, err error) {
	if dir := os.Getenv("PG_BINDIR"); dir != "" {
		if !hasServer(dir) {
			return "", fmt.Errorf("pgtest: PG_BINDIR is %s, which has no initdb and postgres", dir)
		}
		return filepath.Abs(dir)
	}
	for _, dir := range candidates() {
		if hasServer(dir) {
			return dir, nil
		}
	}
	return "", ErrNotInstalled
}

// candidates returns the directories to look in, the best first.
func candidates() []string {
	var dirs []string
	// The initdb in PATH is often a link into the directory that has the other programs, so follow it.
	if path, err := exec.LookPath("initdb"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(real))
		}
		dirs = append(dirs, filepath.Dir(path))
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/pgsql-*/bin",
		"/usr/libexec/postgresql*",
		"/usr/local/pgsql/bin",
		"/opt/homebrew/opt/postgresql*/bin",
		"/usr/local/opt/postgresql*/bin",
	} {
		dirs = append(dirs, newestFirst(pattern)...)
	}
	return dirs
}

// newestFirst is filepath.Glob ordered by the version number in the path, 18 before 9.6.
func newestFirst(pattern string) []string {
	dirs, _ := filepath.Glob(pattern) // the only error is a bad pattern
	sort.SliceStable(dirs, func(i, j int) bool { return versionIn(dirs[i]) > versionIn(dirs[j]) })
	return dirs
}

var versionPattern = regexp.MustCompile(`\d+(\.\d+)?`)

// versionIn is the first number in s, or 0.
func versionIn(s string) float64 {
	v, _ := strconv.ParseFloat(versionPattern.FindString(s), 64)
	return v
}

// hasServer reports whether dir has the programs that a server needs.
func hasServer(dir string) bool {
	for _, program := range []string{"initdb", "postgres"} {
		info, err := os.Stat(filepath.Join(dir, program))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}
