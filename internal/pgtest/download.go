package pgtest

import (
	"cmp"
	"context"
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

// download downloads the release's archive into dir, and compares its checksum. It uses npm, which knows the registry, proxy
// and credentials of this machine; if npm isn't installed it asks the registry itself.
func (r release) download(ctx context.Context, dir string) (archive string, err error) {
	archive, err = r.pack(ctx, dir)
	if errors.Is(err, exec.ErrNotFound) {
		archive, err = r.get(ctx, dir)
	}
	if err != nil {
		return "", err
	}
	return archive, r.verify(archive)
}

// pack downloads the archive with npm.
func (r release) pack(ctx context.Context, dir string) (archive string, err error) {
	cmd := exec.CommandContext(ctx, "npm", "pack", "--loglevel", "error", "--ignore-scripts", "--fetch-retries", "1",
		"--fetch-retry-mintimeout", "1000", "--pack-destination", dir, r.String())
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
func (r release) get(ctx context.Context, dir string) (archive string, err error) {
	registry := cmp.Or(os.Getenv(registryVariable), os.Getenv(strings.ToUpper(registryVariable)), defaultRegistry)
	file := r.platform + "-" + r.version + ".tgz"
	address, err := url.JoinPath(registry, "@embedded-postgres", r.platform, "-", file)
	if err != nil {
		return "", fmt.Errorf("%s: %w", registryVariable, err)
	}
	archive = filepath.Join(dir, file)
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
