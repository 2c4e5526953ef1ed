// Package drivertest tests the driver from outside, on a real PostgreSQL.
package drivertest

import (
	"flag"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/pgprod/pgprod/internal/pgtest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	runSeveralAtOnce()
	os.Exit(pgtest.Main(m))
}

// runSeveralAtOnce sets how many tests run at a time, unless that is given by -parallel. Most of them wait for a server or
// for a timeout, and not for a processor: with as many at a time as there are processors they take twice as long.
func runSeveralAtOnce() {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", strconv.Itoa(max(6, runtime.GOMAXPROCS(0))))
	}
}
