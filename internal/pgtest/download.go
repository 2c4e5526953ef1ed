package pgtest

import (
	"cmp"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	defaultRegistry = "https://registry.npmjs.org"
	// registryVariable names another registry. It is npm's own variable, so that both ways of downloading obey it.
	registryVariable = "npm_config_registry"
)

// A Package is one version of an npm package. No other content is taken than that with its checksum.
type Package struct {
	Scope, Name string // as in @scope/name
	Version     string
	Integrity   string // "sha512-" and the archive's checksum in base64, as npm's registry has it
}

// String returns the package as npm's arguments name it.
func (p Package) String() string { return "@" + p.Scope + "/" + p.Name + "@" + p.Version }

// Archive returns the path of the package's archive. It is downloaded unless that was done before on this machine by this
// user, by one process at a time.
func (p Package) Archive(ctx context.Context) (path string, err error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	path = filepath.Join(cache, "npm-"+p.Scope+"-"+p.file())
	unlock, err := lockFile(ctx, path+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if p.verify(path) == nil {
		return path, nil
	}
	staging, err := os.MkdirTemp(cache, "npm-*.part")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(staging) }()
	archive, err := p.download(ctx, staging)
	if err != nil {
		return "", fmt.Errorf("pgtest: get %v from npm's registry: %w", p, err)
	}
	return path, os.Rename(archive, path)
}

// file is the name of the package's archive.
func (p Package) file() string { return p.Name + "-" + p.Version + ".tgz" }

// download downloads the package's archive into dir, and compares its checksum. It uses npm, which knows the registry, proxy
// and credentials of this machine; if npm isn't installed it asks the registry itself.
func (p Package) download(ctx context.Context, dir string) (archive string, err error) {
	archive, err = p.pack(ctx, dir)
	if errors.Is(err, exec.ErrNotFound) {
		archive, err = p.get(ctx, dir)
	}
	if err != nil {
		return "", err
	}
	return archive, p.verify(archive)
}

// verify returns an error if an archive hasn't the package's checksum.
func (p Package) verify(archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	hash := sha512.New()
	if _, err := io.Copy(hash, f); err != nil {
		return err
	}
	if got := "sha512-" + base64.StdEncoding.EncodeToString(hash.Sum(nil)); got != p.Integrity {
		return fmt.Errorf("its checksum is %s, not %s", got, p.Integrity)
	}
	return nil
}

// pack downloads the archive with npm.
func (p Package) pack(ctx context.Context, dir string) (archive string, err error) {
	cmd := exec.CommandContext(ctx, "npm", "pack", "--loglevel", "error", "--ignore-scripts", "--fetch-retries", "1",
		"--fetch-retry-mintimeout", "1000", "--pack-destination", dir, p.String())
	cmd.Dir = dir
	cmd.WaitDelay = 5 * time.Second // npm may be a script, whose children would keep its output open
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	archives, _ := filepath.Glob(filepath.Join(dir, "*.tgz")) // the only error is a bad pattern
	if len(archives) != 1 {
		return "", fmt.Errorf("npm pack left %d archives", len(archives))
	}
	return archives[0], nil
}

// get downloads the archive from the registry without npm.
func (p Package) get(ctx context.Context, dir string) (archive string, err error) {
	registry := cmp.Or(os.Getenv(registryVariable), os.Getenv(strings.ToUpper(registryVariable)), defaultRegistry)
	address, err := url.JoinPath(registry, "@"+p.Scope, p.Name, "-", p.file())
	if err != nil {
		return "", fmt.Errorf("%s: %w", registryVariable, err)
	}
	archive = filepath.Join(dir, p.file())
	if err := save(ctx, address, archive); err != nil {
		return "", fmt.Errorf("without npm, which is not installed: %w", err)
	}
	return archive, nil
}

// save writes what an address serves to a file. It leaves no connection open, since a test that uses this package may look
// for goroutines that are left.
func save(ctx context.Context, address, path string) error {
	transport := http.DefaultTransport.(*http.Transport).Clone() // with HTTPS_PROXY, as npm has it
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", address, response.Status)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, response.Body)
	return errors.Join(err, f.Close())
}
