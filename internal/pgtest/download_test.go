package pgtest

import (
	"archive/zip"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// archive is a tar.xz with bin/initdb, bin/postgres and bin/pg_ctl, all of them scripts that fail.
const archive = "/Td6WFoAAATm1rRGAgAhARwAAAAQz1jM4Cf/AJddADEaShsFkZA3OlG9V3Gz1uQT2IkQonAbexNN15tic70r6rNJbkVqC6RLQH2665UL" +
	"531xp7xGLwZ7XwcXL/wvKJ1aBeMCqWTjQH7YxblWRHR1bDaTTIvu62NBMQ4WBd+n1r9W4Nq4ccyJWSnfRt0IfTgKuO1O8TXuDnVzc2BQM4aONzbQ" +
	"j42kuvyU4nVhJB5JF8EfAxIW5QAAANhu+KYZJ7hkAAGzAYBQAAA9BI7jscRn+wIAAAAABFla"

// repository serves the archive as Maven does, and says how often.
func repository(t *testing.T) (url string, downloads *int) {
	t.Helper()
	content, err := base64.StdEncoding.DecodeString(archive)
	require.NoError(t, err)
	downloads = new(int)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, ".jar") {
			http.NotFound(w, r)
			return
		}
		*downloads++
		jar := zip.NewWriter(w)
		file, err := jar.Create("postgres-linux-x86_64.txz")
		assert.NoError(t, err)
		_, err = file.Write(content)
		assert.NoError(t, err)
		assert.NoError(t, jar.Close())
	}))
	t.Cleanup(server.Close)
	return server.URL, downloads
}

func TestAServerIsDownloadedOnce(t *testing.T) {
	url, downloads := repository(t)
	t.Setenv(mirrorVariable, url)
	cache := t.TempDir()
	for range 2 {
		dir, err := download(t.Context(), cache)
		require.NoError(t, err)
		assert.True(t, hasServer(dir))
	}
	assert.Equal(t, 1, *downloads)
	left, err := filepath.Glob(filepath.Join(cache, "staging-*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestAFailedDownloadSaysWhatWasTriedAndWhatToInstall(t *testing.T) {
	t.Setenv(mirrorVariable, "http://127.0.0.1:1")
	_, err := download(t.Context(), t.TempDir())
	require.ErrorIs(t, err, ErrNotInstalled)
	require.ErrorContains(t, err, "apt-get install postgresql")
	require.ErrorContains(t, err, "embedded-postgres")
	require.ErrorContains(t, err, "127.0.0.1:1")
}
