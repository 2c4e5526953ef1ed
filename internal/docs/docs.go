// Package docs is the manual beside README.md: operations.md, outcomes.md, sessions.md, hooks.md, telemetry.md, migrating.md,
// poolers.md and urls.md. Its functions are for tests that compare what the manual says with what the code does.
package docs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// Pages are the manual's pages, as paths from the repository's root.
var Pages = []string{
	"README.md", "internal/docs/operations.md", "internal/docs/outcomes.md", "internal/docs/sessions.md", "internal/docs/hooks.md",
	"internal/docs/telemetry.md", "internal/docs/migrating.md", "internal/docs/poolers.md", "internal/docs/urls.md",
}

// Read returns the text of one file, named by its path from the repository's root.
func Read(path string) (string, error) {
	root, err := root()
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(path)))
	return string(text), err
}

// Manual returns the text of all pages, for a test that doesn't care on which of them a sentence stands.
func Manual() (string, error) {
	var all strings.Builder
	for _, page := range Pages {
		text, err := Read(page)
		if err != nil {
			return "", err
		}
		all.WriteString(text + "\n")
	}
	return all.String(), nil
}

// root finds the repository's root above the current directory, which is the test's package, in whatever module it is.
func root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "internal", "docs", "docs.go")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("docs: the current directory is not in a checkout of pgprod")
		}
		dir = parent
	}
}
