package docs_test

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	namedTest = regexp.MustCompile("`((?:Test|Fuzz)\\w+)`")
	someTest  = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	stillTest = regexp.MustCompile(`^Test(?:Pgx|OTel|DatabaseSQL|PostgreSQL)Still[A-Z]`)
)

// TestTheMapNamesEachTestOfWhatOthersStillDo holds the table of internal/README.md against the tests, in both directions.
func TestTheMapNamesEachTestOfWhatOthersStillDo(t *testing.T) {
	_, table, ok := strings.Cut(read(t, "internal/README.md"), "\n## What we know of pgx\n")
	require.True(t, ok)
	named, there := map[string]bool{}, map[string]bool{}
	for _, match := range namedTest.FindAllStringSubmatch(table, -1) {
		named[match[1]] = true
	}
	internal := os.DirFS("..")
	require.NoError(t, fs.WalkDir(internal, ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := fs.ReadFile(internal, path)
		for _, match := range someTest.FindAllSubmatch(text, -1) {
			there[string(match[1])] = true
		}
		return err
	}))
	for name := range named {
		assert.True(t, there[name], "there is no %s", name)
	}
	for name := range there {
		assert.True(t, named[name] || !stillTest.MatchString(name), "%s is missing", name)
	}
}
