package debugpage_test

import (
	"os"
	"testing"

	"github.com/pgprod/pgprod/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
