package docs_test

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/dashboards"
	"github.com/pgprod/pgprod/internal/docs"
)

// papers are all Markdown files that people follow links in.
var papers = append([]string{"internal/README.md", ".github/CONTRIBUTING.md", ".github/SECURITY.md", "CHANGELOG.md"}, docs.Pages...)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := docs.Read(path)
	require.NoError(t, err)
	return text
}

var (
	link      = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading   = regexp.MustCompile(`(?m)^#{1,6} (.+)$`)
	codeBlock = regexp.MustCompile("(?ms)^```.*?^```$")
	unslugged = regexp.MustCompile(`[^\p{L}\p{N}\s_-]`)
)

// anchors are the fragments that lead to a page's headings, as GitHub makes them.
func anchors(markdown string) (names []string) {
	for _, match := range heading.FindAllStringSubmatch(codeBlock.ReplaceAllString(markdown, ""), -1) {
		name := unslugged.ReplaceAllString(strings.ToLower(match[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

func TestEachLinkInThePapersLeadsSomewhere(t *testing.T) {
	for _, paper := range papers {
		for _, match := range link.FindAllStringSubmatch(codeBlock.ReplaceAllString(read(t, paper), ""), -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			target, fragment, _ := strings.Cut(match[1], "#")
			file := paper
			if target != "" {
				file = path.Join(path.Dir(paper), target)
			}
			_, err := os.Stat(filepath.Join("..", "..", filepath.FromSlash(file)))
			if assert.NoError(t, err, "%s: %s", paper, match[1]) && fragment != "" {
				assert.Contains(t, anchors(read(t, file)), fragment, "%s: %s", paper, match[1])
			}
		}
	}
}

func TestNoPageHasTwoHeadingsOfTheSameAddress(t *testing.T) {
	for _, page := range docs.Pages {
		seen := map[string]bool{}
		for _, name := range anchors(read(t, page)) {
			assert.False(t, seen[name], "%s#%s", page, name)
			seen[name] = true
		}
	}
}

func TestEachAlertLeadsToItsSectionOfTheRunbook(t *testing.T) {
	const site = "https://github.com/pgprod/pgprod/blob/main/"
	alerts := string(dashboards.Alerts)
	addresses := regexp.MustCompile(`(?m)^ +runbook_url: (\S+)$`).FindAllStringSubmatch(alerts, -1)
	require.Len(t, addresses, strings.Count(alerts, "- alert: "))
	for _, address := range addresses {
		page, fragment, _ := strings.Cut(strings.TrimPrefix(address[1], site), "#")
		require.Equal(t, "internal/docs/operations.md", page)
		_, runbook, found := strings.Cut(read(t, page), "\n## Runbook\n")
		require.True(t, found)
		runbook, _, _ = strings.Cut(runbook, "\n## ")
		assert.Contains(t, anchors(runbook), fragment)
	}
}

func TestTheManualHasEachPageOfThisDirectory(t *testing.T) {
	files, err := filepath.Glob("*.md")
	require.NoError(t, err)
	require.Len(t, docs.Pages, 1+len(files))
	manual, err := docs.Manual()
	require.NoError(t, err)
	for _, name := range files {
		assert.Contains(t, docs.Pages, "internal/docs/"+name)
		assert.Contains(t, manual, read(t, "internal/docs/"+name))
		assert.Contains(t, read(t, "README.md"), "(internal/docs/"+name+")", "the README doesn't lead to it")
	}
}
