// Command benchmark compares pgprod with what else a program could use, on the same work, interleaved in one run:
//
//	go -C internal/benchmark run . -short
//
// It starts a PostgreSQL of its own, prints one table and a list of goals, each with pass or fail and its figure, and
// writes results.csv, results.svg and RESULTS.md to a directory:
//
//	go -C internal/benchmark run . -short -out .                  # what is committed: about five minutes
//	go -C internal/benchmark run .                                # every peer on every workload: half an hour
//	go -C internal/benchmark run . -run '^query' -peers 'pgprod|tuned' -rounds 100
//
// A missed goal doesn't make it fail: it measures, people judge. It is a module of its own, so that the peers are
// nobody's dependencies.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/pprof"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	o, err := parseFlags(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = command(ctx, o, os.Stdout, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchmark:", err)
		os.Exit(1) // stop is of no use to a process that ends
	}
}

// options are the command line's.
type options struct {
	out     string
	rounds  int // of a workload with weight 1
	short   bool
	run     *regexp.Regexp // of workloads
	peers   *regexp.Regexp
	profile string

	line    string        // the command line, for the report
	texts   int           // how many distinct texts the check of memory runs
	queries int           // and how many queries
	block   time.Duration // 0: what the workload says; else a test's, once in each round
}

const (
	shortRounds = 5
	fullRounds  = 30
)

func parseFlags(args []string, errOut io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("benchmark", flag.ContinueOnError)
	flags.SetOutput(errOut)
	run, peers := "", ""
	flags.StringVar(&o.out, "out", filepath.Join(os.TempDir(), "pgprod-benchmark"), "directory for results.csv, results.svg and RESULTS.md")
	flags.IntVar(&o.rounds, "rounds", 0, fmt.Sprintf("rounds of each workload; some have twice or four times as many (default %d, with -short %d)", fullRounds, shortRounds))
	flags.BoolVar(&o.short, "short", false, "about five minutes: fewer rounds, and instrumented peers only where telemetry is measured")
	flags.StringVar(&run, "run", "", "only workloads whose name matches this regular expression")
	flags.StringVar(&peers, "peers", "", "only peers whose name matches this regular expression")
	flags.StringVar(&o.profile, "cpuprofile", "", "write a CPU profile of this process to a file: use -run and -peers with it")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	var errRun, errPeers error
	o.run, errRun = regexp.Compile(run)
	o.peers, errPeers = regexp.Compile(peers)
	if err := errors.Join(errRun, errPeers); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.rounds < 0 {
		return o, fmt.Errorf("usage: only flags, and -rounds not below 0: %q", args)
	}
	if o.rounds == 0 {
		o.rounds = fullRounds
		if o.short {
			o.rounds = shortRounds
		}
	}
	o.texts, o.queries = 100_000, 1_000_000
	o.line = "go -C internal/benchmark run . " + joinArgs(args)
	return o, nil
}

// command measures and reports.
func command(ctx context.Context, o options, out, progress io.Writer) error {
	// Pinned, so that the runtime doesn't follow a change of the container's limits in the middle of a run.
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	stop, err := startProfile(o.profile)
	if err != nil {
		return err
	}
	rep, err := measure(ctx, o, progress)
	stop()
	if err != nil {
		return err
	}
	if err := rep.writeFiles(o.out); err != nil {
		return err
	}
	rep.print(out)
	_, err = fmt.Fprintf(out, "\nWritten to %s: RESULTS.md, results.csv, results.svg.\n", o.out)
	return err
}

func startProfile(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	}, nil
}
