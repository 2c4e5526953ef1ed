// Package drivertest tests the driver from outside, on a real PostgreSQL.
package drivertest

import (
	"flag"
	"os"
	"testing"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// inParallel is how many tests run at once unless -parallel says otherwise: most of the time they wait for something.
const inParallel = "4"

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", inParallel); err != nil {
		panic(err)
	}
	os.Exit(pgtest.Main(m))
}
