package drivertest

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// reviewedModules are all that a program gets which imports pgprod, and why. Who adds one adds it to every user's build.
var reviewedModules = []string{
	"github.com/caarlos0/env/v11",     // reads the environment
	"github.com/cespare/xxhash/v2",    // otel's
	"github.com/go-logr/logr",         // otel's
	"github.com/go-logr/stdr",         // otel's
	"github.com/jackc/pgpassfile",     // pgx's
	"github.com/jackc/pgservicefile",  // pgx's
	"github.com/jackc/pgx/v5",         // the driver below
	"github.com/jackc/puddle/v2",      // pgx's: its stdlib imports pgxpool
	"github.com/pgprod/pgprod",        // this
	"go.opentelemetry.io/auto/sdk",    // otel's
	"go.opentelemetry.io/otel",        // spans and metrics, without an SDK
	"go.opentelemetry.io/otel/log",    // otel's
	"go.opentelemetry.io/otel/metric", // otel's
	"go.opentelemetry.io/otel/trace",  // otel's
	"golang.org/x/sync",               // puddle's semaphore
	"golang.org/x/text",               // pgx's
}

func TestAProgramThatImportsPgprodGetsOnlyTheReviewedModules(t *testing.T) {
	t.Parallel()
	for _, system := range []string{"linux", "darwin", "windows"} { // each has files of its own
		cmd := exec.CommandContext(t.Context(), "go", "list", "-deps",
			"-f", "{{with .Module}}{{.Path}}{{end}}", "github.com/pgprod/pgprod")
		cmd.Env = append(os.Environ(), "GOOS="+system, "GOARCH=amd64", "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off")
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		require.NoError(t, err)
		modules := strings.Fields(string(out)) // a line is empty for a package of the standard library
		slices.Sort(modules)
		modules = slices.Compact(modules)
		t.Logf("%s: %d modules: %s", system, len(modules), strings.Join(modules, " "))
		assert.Equal(t, reviewedModules, modules, system)
	}
}

// The modules that compare pgprod with other drivers, or try it with other libraries, have a go.mod of their own.
func TestTheRootModuleRequiresNoOtherDriver(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"go.mod", "go.sum"} {
		for _, other := range []string{"lib/pq", "embedded-postgres", "xi2/xz", "gorm.io", "jmoiron/sqlx"} {
			assert.NotContains(t, rootFile(t, file), other, file)
		}
	}
}
