//go:build linux

package lab

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/pgprod/pgprod/internal/lab/netlab"
	"github.com/pgprod/pgprod/internal/pgtest"
)

var (
	runs   = flag.Int("runs", 1, "how often each fault is injected under load of pgprod")
	rivals = flag.Int("rivals", 0, "how often under load of pgx, and of pgxpool")
	calm   = flag.Duration("calm", 5*time.Second, "how long a busy server, and a bad network, are watched for false alarms")
	logs   = flag.Bool("logs", false, "show the pools' log")
)

// patience is how long a test waits for what must happen at some time. It is no promise of the driver's.
const patience = time.Minute

func TestMain(m *testing.M) {
	if err := netlab.Isolate(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := pgtest.Main(m)
	figures.print(os.Stdout)
	dials.print(os.Stdout)
	os.Exit(code)
}

// together lets a test run beside others, where no time is measured: most of it is waiting.
func together(t *testing.T) {
	t.Helper()
	if *runs == 1 && *rivals == 0 {
		t.Parallel()
	}
}
