package drivertest

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// advisory is a row of .ci/advisories.md.
type advisory struct{ module, id, fixed string } // fixed is "" where nothing was found

// advisories reads the table.
func advisories(t *testing.T, markdown string) (all []advisory) {
	t.Helper()
	for line := range strings.Lines(markdown) {
		cells := strings.Split(line, "|")
		if len(cells) != 6 || strings.Contains(line, "---") || strings.TrimSpace(cells[1]) == "module" {
			continue
		}
		a := advisory{strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2]), strings.TrimSpace(cells[4])}
		require.Equal(t, a.id == "none", a.fixed == "", "%+v", a)
		all = append(all, a)
	}
	require.NotEmpty(t, all)
	return all
}

var requirement = regexp.MustCompile(`(?m)^\s*(?:require )?(\S+\.\S+/\S+) (v\S+)( // indirect)?$`)

// requirements are the modules that a go.mod requires and their versions, and those that it requires directly.
func requirements(gomod string) (versions map[string]string, direct []string) {
	versions = map[string]string{}
	for _, match := range requirement.FindAllStringSubmatch(gomod, -1) {
		versions[match[1]] = match[2]
		if match[3] == "" {
			direct = append(direct, match[1])
		}
	}
	return versions, direct
}

// findings says what is wrong with a go.mod by the advisories: a version before a fix, a module that nobody looked at.
func findings(gomod string, known []advisory) (wrong []string) {
	versions, direct := requirements(gomod)
	for _, module := range direct {
		if !slices.ContainsFunc(known, func(a advisory) bool { return a.module == module }) {
			wrong = append(wrong, fmt.Sprintf("%s has no row in .ci/advisories.md: look for its advisories", module))
		}
	}
	for _, a := range known {
		version, required := versions[a.module]
		if required && a.fixed != "" && compareVersions(version, a.fixed) < 0 {
			wrong = append(wrong, fmt.Sprintf("%s %s is affected by %s: take %s or later", a.module, version, a.id, a.fixed))
		}
	}
	return wrong
}

// compareVersions orders versions of Go modules. What is said behind a hyphen makes a version an earlier one.
func compareVersions(a, b string) int {
	numbersA, earlyA := splitVersion(a)
	numbersB, earlyB := splitVersion(b)
	if c := slices.Compare(numbersA, numbersB); c != 0 {
		return c
	}
	if earlyA == "" || earlyB == "" { // the whole version is later than what led to it
		return cmp.Compare(earlyB, earlyA)
	}
	return cmp.Compare(earlyA, earlyB)
}

func splitVersion(version string) (numbers []int, early string) {
	version, _, _ = strings.Cut(strings.TrimPrefix(version, "v"), "+")
	core, early, _ := strings.Cut(version, "-")
	for part := range strings.SplitSeq(core, ".") {
		n, _ := strconv.Atoi(part)
		numbers = append(numbers, n)
	}
	return numbers, early
}

func TestNoRequiredModuleIsBehindTheFixOfAnAdvisory(t *testing.T) {
	t.Parallel()
	assert.Empty(t, findings(rootFile(t, "go.mod"), advisories(t, rootFile(t, ".ci/advisories.md"))))
}

func TestAModuleThatFallsBehindOrThatNobodyLookedAtIsFound(t *testing.T) {
	t.Parallel()
	known := advisories(t, rootFile(t, ".ci/advisories.md"))
	gomod := rootFile(t, "go.mod")
	versions, direct := requirements(gomod)
	require.Len(t, direct, 12)
	pgx := "github.com/jackc/pgx/v5 "
	older := findings(strings.Replace(gomod, pgx+versions[strings.TrimSpace(pgx)], pgx+"v5.12.0", 1), known)
	require.Len(t, older, 1)
	assert.Contains(t, older[0], "v5.12.0 is affected by GHSA-w9rp-vfrh-q8vv: take v5.13.0 or later")
	added := findings(gomod+"\nrequire example.com/new v1.0.0\n", known)
	require.Len(t, added, 1)
	assert.Contains(t, added[0], "example.com/new has no row")
}

func TestVersionsOfModulesAreOrdered(t *testing.T) {
	t.Parallel()
	ordered := []string{"v0.0.0-20240606120523-5a60cdf6a761", "v0.3.7", "v0.3.10", "v5.0.0-alpha.5", "v5.0.0", "v5.9.2", "v5.12.0-rc.1", "v5.12.0", "v5.13.0+incompatible"}
	for i, a := range ordered {
		for j, b := range ordered {
			assert.Equal(t, cmp.Compare(i, j), compareVersions(a, b), "%s and %s", a, b)
		}
	}
}
