// Package drivertest tests the driver from outside, on a real PostgreSQL.
package drivertest

import (
	"os"
	"testing"

	"github.com/pgprod/pgprod/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
