package drivertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/docs"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/settings"
)

// rootFile reads a file of the repository's root.
func rootFile(t *testing.T, name string) string {
	t.Helper()
	text, err := docs.Read(name)
	require.NoError(t, err)
	return text
}

// block returns the first code block of a language.
func block(t *testing.T, markdown, language string) string {
	t.Helper()
	_, rest, found := strings.Cut(markdown, "```"+language+"\n")
	require.True(t, found)
	text, _, found := strings.Cut(rest, "```\n")
	require.True(t, found)
	return text
}

// section returns what stands under a heading of the second level.
func section(t *testing.T, markdown, heading string) string {
	t.Helper()
	_, rest, found := strings.Cut(markdown, "\n## "+heading+"\n")
	require.True(t, found, heading)
	text, _, _ := strings.Cut(rest, "\n## ")
	return text
}

func TestTheReadmesProgramIsTheExample(t *testing.T) {
	program := block(t, rootFile(t, "README.md"), "go")
	require.LessOrEqual(t, strings.Count(program, "\n"), 25)
	_, body, found := strings.Cut(program, "func main() {\n")
	require.True(t, found)

	_, example, found := strings.Cut(rootFile(t, "example_test.go"), "func Example() {\n")
	require.True(t, found)
	example, _, found = strings.Cut(example, "\t// Output:")
	require.True(t, found)
	require.Equal(t, example+"}\n", body)
}

func TestTheReadmesProgramRunsAsItIs(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "main.go")
	require.NoError(t, os.WriteFile(program, []byte(block(t, rootFile(t, "README.md"), "go")), 0o600))
	cmd := exec.Command("go", "run", program)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "DB_DSN="+pgtest.NewDatabase(t))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Equal(t, "42\n", string(out))
}

func TestTheReadmesTableIsThatOfTheSettings(t *testing.T) {
	readme := rootFile(t, "README.md")
	require.Equal(t, 1, strings.Count(readme, settings.Markdown()+"\n"), "replace the table of README.md by:\n%s", settings.Markdown())
	manual, err := docs.Manual()
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(manual, "| DSN key |"), "there is one table of settings")
}

func TestThePackageCommentNamesEverySettingWithItsDefault(t *testing.T) {
	comment, _, found := strings.Cut(rootFile(t, "driver.go"), "\npackage pgprod\n")
	require.True(t, found)
	rows := regexp.MustCompile("(?m)^\\| `(\\w+)` \\| [^|]* \\| ([^|]*) \\|").FindAllStringSubmatch(settings.Markdown(), -1)
	require.NotEmpty(t, rows)
	for _, row := range rows {
		key, initial := row[1], strings.Split(strings.Fields(row[2] + " .")[0], ",")[0]
		line := fmt.Sprintf(`(?m)^//\t(\w+, )*%s(, \w+)* .*`, key)
		assert.Regexp(t, line, comment)
		if initial != "." {
			assert.Contains(t, regexp.MustCompile(line).FindString(comment), initial, key)
		}
	}
}

func TestTheReadmesFirstScreenIsInOrder(t *testing.T) {
	readme, at := rootFile(t, "README.md"), -1
	for _, text := range []string{
		"# pgprod\n", "\n- **", "\nIt is for ", "go get github.com/pgprod/pgprod", "```go",
		"go run github.com/pgprod/pgprod/internal/quickstart@latest", "go run ./internal/quickstart",
		"go test -race ./...", "| DSN key |", "\n## ",
	} {
		next := strings.Index(readme, text)
		require.Greater(t, next, at, text)
		at = next
	}
	require.Equal(t, 3, strings.Count(readme[:strings.Index(readme, "```")], "\n- **"))
	require.LessOrEqual(t, strings.Count(readme, "[!["), 2, "badges")
	require.LessOrEqual(t, strings.Count(readme, "\n"), 230, "what is looked up rather than read belongs in internal/docs")
}
