package conventions

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// Version is the version of the conventions.
const Version = "1.45.0"

// source is the npm package of that version, which is generated from the conventions' model.
var source = pgtest.Package{Scope: "opentelemetry", Name: "semantic-conventions", Version: Version,
	Integrity: "sha512-aOP45mbcOKbQVvFWfQmgoOPT8R2iwbbbgl83k4CujGV9BrJhFr3qG55MFpwFs4YLabpuW3HhzUY9eQxPlDqaZw=="}

// A Name is what the package says of an attribute or a metric.
type Name struct {
	Brief      string
	Deprecated string // why, and what takes its place; "": it isn't deprecated
}

// Names are all names of the conventions.
type Names struct {
	Attributes map[string]Name
	Templates  []string // what attributes begin with of which there are many, such as db.query.parameter.
	Metrics    map[string]Name
	Values     map[string]string // of the attributes that have a fixed set of values, by the names of constants
}

// Load returns the names, for which it downloads the package unless that was done before.
func Load(ctx context.Context) (*Names, error) {
	archive, err := source.Archive(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w (install npm, or let this machine reach the registry)", err)
	}
	n := &Names{Attributes: map[string]Name{}, Metrics: map[string]Name{}, Values: map[string]string{}}
	for _, file := range []string{"stable_attributes", "experimental_attributes", "stable_metrics", "experimental_metrics"} {
		text, err := readFrom(archive, "package/dist/"+file+".mjs")
		if err != nil {
			return nil, fmt.Errorf("%v: %s: %w", source, file, err)
		}
		n.parse(text)
	}
	if len(n.Attributes) < 500 || len(n.Metrics) < 200 {
		return nil, fmt.Errorf("%v has only %d attributes and %d metrics: its files look different now", source, len(n.Attributes), len(n.Metrics))
	}
	return n, nil
}

// readFrom returns the content of a file in an archive.
func readFrom(archive, name string) (string, error) {
	f, err := os.Open(archive)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		return "", err
	}
	for entries := tar.NewReader(unzipped); ; {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return "", os.ErrNotExist
		}
		if err != nil {
			return "", err
		}
		if header.Name == name {
			text, err := io.ReadAll(entries)
			return string(text), err
		}
	}
}

var (
	// constant is a constant with its comment. Its value is a string, or a function of an attribute's last part.
	constant   = regexp.MustCompile("(?s)/\\*\\*(.*?)\\*/\nconst ([A-Z0-9_]+) = (?:\"([^\"]*)\"|\\(key\\) => `([^`$]*)[^;]*|[^;]*);")
	deprecated = regexp.MustCompile(`(?m)^ ?\* @deprecated (.*)$`)
)

// parse adds the names of a file of the package.
func (n *Names) parse(text string) {
	for _, m := range constant.FindAllStringSubmatch(text, -1) {
		comment, id, value, template := m[1], m[2], m[3], m[4]
		name := Name{Brief: brief(comment)}
		if why := deprecated.FindStringSubmatch(comment); why != nil {
			name.Deprecated = cmp.Or(why[1], "deprecated")
		}
		switch {
		case strings.HasPrefix(id, "METRIC_"):
			n.Metrics[value] = name
		case strings.HasPrefix(id, "ATTR_") && template != "":
			n.Templates = append(n.Templates, template)
		case strings.HasPrefix(id, "ATTR_"):
			n.Attributes[value] = name
		case strings.Contains(id, "_VALUE_"):
			n.Values[id] = value
		}
	}
}

// brief is the first paragraph of a constant's comment, each line of which begins with a star.
func brief(comment string) string {
	var lines []string
	for line := range strings.Lines(strings.TrimSpace(comment)) {
		line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "*"))
		if line == "" {
			break
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, " ")
}

// HasValue reports whether a value is one of an attribute's, which has a fixed set of them.
func (n *Names) HasValue(attribute, value string) bool {
	prefix := strings.ToUpper(strings.NewReplacer(".", "_").Replace(attribute)) + "_VALUE_"
	for id, v := range n.Values {
		if strings.HasPrefix(id, prefix) && v == value {
			return true
		}
	}
	return false
}

// attribute looks an attribute up, and reports whether it is one of the conventions'.
func (n *Names) attribute(name string) (Name, bool) {
	for _, template := range n.Templates {
		if strings.HasPrefix(name, template) {
			return Name{}, true
		}
	}
	found, ok := n.Attributes[name]
	return found, ok
}

// reserved reports whether a name is in a namespace of the conventions, where others may add none.
func (n *Names) reserved(name string) bool {
	first, _, _ := strings.Cut(name, ".")
	for _, all := range []map[string]Name{n.Attributes, n.Metrics} {
		for known := range all {
			if strings.HasPrefix(known, first+".") {
				return true
			}
		}
	}
	return false
}
