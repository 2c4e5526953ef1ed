package drivertest

import (
	"go/ast"
	"go/doc"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// obvious are exported names that need no example: one meets them as the results and parameters of what has one.
var obvious = []string{
	"DriverName", // "pgprod"
	"Connector",  // of NewConnector
	"Option", "TxOption",
	"Health",                   // of Check
	"PoolStatus", "HostStatus", // of Status
	"StatementCount",                                        // of ContextCounting
	"Environment", "ServerSettingsMode", "SQLCommenterMode", // of their constants
	"PoolResetMode", "BeginMode", "TraceContextMode",
	"PrePingAuto", "PrePingOff", "Production", "ServerSettingsStartup", "SQLCommenterOff", // beside those that examples use
	"PoolResetAuto", "PoolResetOff", "BeginLazy", "TraceContextOff", "TraceContextComment",
}

// rootPackage is the root package as pkg.go.dev shows it, its examples included.
func rootPackage(t *testing.T) *doc.Package {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("..", "..", "*.go"))
	require.NoError(t, err)
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		file, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		require.NoError(t, err)
		files = append(files, file)
	}
	pkg, err := doc.NewFromFiles(fset, files, "github.com/pgprod/pgprod")
	require.NoError(t, err)
	return pkg
}

// exported are the comments of all exported names, methods as Type.Method, and examples all examples that are shown.
func exported(pkg *doc.Package) (comments map[string]string, examples []*doc.Example) {
	comments, examples = map[string]string{}, pkg.Examples
	values := func(values []*doc.Value) {
		for _, v := range values {
			for _, name := range v.Names {
				comments[name] = v.Doc
			}
		}
	}
	funcs := func(prefix string, funcs []*doc.Func) {
		for _, f := range funcs {
			comments[prefix+f.Name] = f.Doc
			examples = append(examples, f.Examples...)
		}
	}
	values(pkg.Consts)
	values(pkg.Vars)
	funcs("", pkg.Funcs)
	for _, typ := range pkg.Types {
		comments[typ.Name] = typ.Doc
		examples = append(examples, typ.Examples...)
		values(typ.Consts)
		values(typ.Vars)
		funcs("", typ.Funcs)
		funcs(typ.Name+".", typ.Methods)
	}
	return comments, examples
}

// functions are the exported functions, those that give a type of the package's included.
func functions(pkg *doc.Package) []*doc.Func {
	all := slices.Clone(pkg.Funcs)
	for _, typ := range pkg.Types {
		all = append(all, typ.Funcs...)
	}
	return all
}

func TestEachExportedNameIsInAnExampleOrObvious(t *testing.T) {
	t.Parallel()
	pkg := rootPackage(t)
	for _, f := range functions(pkg) {
		assert.NotEmpty(t, f.Examples, "%s has no example of its own", f.Name)
	}
	comments, examples := exported(pkg)
	used := map[string]bool{}
	for _, example := range examples {
		ast.Inspect(example.Code, func(node ast.Node) bool {
			if selector, ok := node.(*ast.SelectorExpr); ok {
				if from, ok := selector.X.(*ast.Ident); ok && from.Name == "pgprod" {
					used[selector.Sel.Name] = true
				}
			}
			return true
		})
	}
	require.Contains(t, comments, "WithPoolSize")
	for name := range comments {
		if !strings.Contains(name, ".") { // no method
			assert.NotEqual(t, used[name], slices.Contains(obvious, name), "%s: used %t", name, used[name])
		}
	}
	for _, name := range obvious {
		assert.Contains(t, comments, name)
	}
}

func TestEachExampleIsShownAndRun(t *testing.T) {
	t.Parallel()
	_, examples := exported(rootPackage(t))
	require.Len(t, examples, strings.Count(rootFile(t, "example_test.go"), "\nfunc Example"), "an example's name is that of nothing")
	for _, example := range examples {
		assert.NotEmpty(t, example.Output, example.Name)
	}
}

func TestEachExportedNameIsExplained(t *testing.T) {
	t.Parallel()
	pkg := rootPackage(t)
	comments, _ := exported(pkg)
	for name, text := range comments {
		assert.NotEmpty(t, text, name)
	}
	for _, typ := range pkg.Types {
		for _, f := range typ.Funcs {
			if strings.HasSuffix(typ.Name, "Option") {
				assert.Contains(t, strings.ToLower(f.Doc), "default", "%s: what holds without it?", f.Name)
			}
		}
	}
}

// TestEachLinkInACommentLeadsSomewhere has go/doc leave out the links that it can resolve.
func TestEachLinkInACommentLeadsSomewhere(t *testing.T) {
	t.Parallel()
	pkg := rootPackage(t)
	comments, _ := exported(pkg)
	comments["package"] = pkg.Doc
	link, links := regexp.MustCompile(`\[\*?[A-Za-z][\w./]*\]`), 0
	for name, text := range comments {
		for _, written := range link.FindAllString(text, -1) {
			links++
			assert.True(t, isLink(pkg, written), "%s: %s", name, written)
		}
	}
	require.Positive(t, links)
}

func isLink(pkg *doc.Package, written string) bool {
	paragraph, ok := pkg.Parser().Parse(written).Content[0].(*comment.Paragraph)
	if !ok {
		return false
	}
	_, ok = paragraph.Text[0].(*comment.DocLink)
	return ok
}

// Not even what an alias or a function's parameter stands for may be a type that a reader of pkg.go.dev can't look up.
func TestTheExportedSurfaceNamesNoInternalPackage(t *testing.T) {
	t.Parallel()
	pkg := rootPackage(t)
	internal := map[string]bool{}
	for _, path := range pkg.Imports {
		if strings.Contains(path, "/internal/") {
			internal[filepath.Base(path)] = true
		}
	}
	require.Contains(t, internal, "pool")
	check := func(name string, node ast.Node) {
		ast.Inspect(node, func(node ast.Node) bool {
			if selector, ok := node.(*ast.SelectorExpr); ok {
				from, ok := selector.X.(*ast.Ident)
				assert.False(t, ok && internal[from.Name], "%s shows %s.%s", name, from, selector.Sel)
			}
			return true
		})
	}
	for _, f := range functions(pkg) {
		check(f.Name, f.Decl.Type)
	}
	for _, typ := range pkg.Types {
		check(typ.Name, typ.Decl)
		for _, m := range typ.Methods {
			check(typ.Name+"."+m.Name, m.Decl.Type)
		}
	}
}
