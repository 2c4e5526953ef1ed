package pgtest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// templateRevision must be changed whenever makeTemplate makes something else, so that no old template is used.
const templateRevision = "1"

// adminUser is a superuser besides postgres, for Admin. It can always connect through the unix socket, whatever Config.HBA
// says.
const adminUser = "pgtest_admin"

// template returns a data directory as initdb makes it, which is to be copied. It is made once for a machine, a user and a
// version.
func template(ctx context.Context, prog programs, a account) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	key := sha256.Sum256([]byte(strings.Join([]string{templateRevision, prog.dir, prog.version, a.name}, "\n")))
	dir := filepath.Join(cache, fmt.Sprintf("template-%d-%x", prog.major, key[:6]))
	if exists(dir) {
		return dir, nil
	}
	// One process makes the template; others that need it at the same time wait for that one.
	unlock, err := lockFile(ctx, dir+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if exists(dir) {
		return dir, nil
	}
	return dir, makeTemplate(ctx, prog, a, dir)
}

// cacheDir returns the directory for templates: in the user's cache directory or, if there is none, in a temporary one.
func cacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		base = filepath.Join(os.TempDir(), fmt.Sprintf("pgprod-cache-%d", os.Geteuid()))
	}
	dir := filepath.Join(base, "pgprod-pgtest")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("pgtest: make a cache directory: %w", err)
	}
	return dir, nil
}

// makeTemplate runs initdb in a directory of the account, and moves the result into the cache in one step.
func makeTemplate(ctx context.Context, prog programs, a account, dir string) error {
	h, err := newHome(a)
	if err != nil {
		return err
	}
	defer func() { _ = h.remove() }()
	initdb := command(ctx, a, h.path, prog.path("initdb"), "--pgdata", h.data(), "--username", "postgres",
		"--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	if err := runTool(ctx, initdb); err != nil {
		return err
	}
	if err := addAdmin(ctx, prog, a, h); err != nil {
		return err
	}
	staging, err := os.MkdirTemp(filepath.Dir(dir), "staging-")
	if err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	defer func() { _ = os.RemoveAll(staging) }()
	if err := copyTree(h.data(), filepath.Join(staging, "data"), account{}); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(staging, "data"), dir); err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	return nil
}

// addAdmin creates adminUser. It does so with a single-user server, which runs SQL without opening a port.
func addAdmin(ctx context.Context, prog programs, a account, h *home) error {
	single := command(ctx, a, h.path, prog.path("postgres"), "--single", "-D", h.data(), "-F", "-j", "postgres")
	single.Stdin = strings.NewReader("create role " + adminUser + " superuser login replication;\n\n")
	return runTool(ctx, single)
}

// lockFile takes an exclusive lock on a file, which it creates if need be. It waits for the lock until ctx ends.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	err = poll(ctx, func() (bool, error) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("pgtest: lock %s: %w", path, err)
	}
	return func() { _ = f.Close() }, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// pollInterval is short, since what poll waits for usually takes milliseconds.
const pollInterval = 5 * time.Millisecond

// poll calls done until it returns true or an error, or ctx ends.
func poll(ctx context.Context, done func() (bool, error)) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}
