package faulttest

import (
	"os"
	"testing"

	_ "github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

func TestMain(m *testing.M) {
	if dsn := os.Getenv(pausedDSN); dsn != "" {
		os.Exit(paused(dsn))
	}
	os.Exit(pgtest.Main(m))
}
