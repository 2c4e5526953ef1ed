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

// templateRevision changes whenever makeTemplate does, so that no old template is used.
const templateRevision = "1"

// adminUser is a superuser beside postgres that may always come in through the unix socket, whatever HBA says.
const adminUser = "pgtest_admin"

// template returns a data directory fresh from initdb, to be copied. It is made once per machine, user and version.
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
	// One process makes the template, those that start at the same time wait for it.
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

// cacheDir is where templates are kept: the user's cache directory or, without one, a temporary directory.
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

// makeTemplate runs initdb where the account may, and moves the result into the cache in one step.
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

// addAdmin creates adminUser with the single-user server, the only way to run SQL without opening a port.
func addAdmin(ctx context.Context, prog programs, a account, h *home) error {
	single := command(ctx, a, h.path, prog.path("postgres"), "--single", "-D", h.data(), "-F", "-j", "postgres")
	single.Stdin = strings.NewReader("create role " + adminUser + " superuser login replication;\n\n")
	return runTool(ctx, single)
}

// lockFile takes an exclusive lock on path, which it creates, and waits for it as long as ctx lasts.
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

// pollInterval is short, as what is polled for usually takes milliseconds.
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
