//go:build lab

package rivals

import (
	"flag"
	"os"
	"testing"

	"github.com/pgprod/pgprod/internal/pgtest"
)

var runs = flag.Int("runs", 1, "how often each fault is injected")

func TestMain(m *testing.M) {
	if os.Getenv(guardVariable) != "" {
		guard(os.Args)
	}
	os.Exit(pgtest.Main(m))
}
