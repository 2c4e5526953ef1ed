// Command quickstart shows pgprod at work in one command:
//
//	go run ./internal/quickstart
//
// It starts a PostgreSQL of its own (or takes the one that DB_DSN names), opens it with sql.Open("pgprod", dsn), works
// on it for a few seconds as the users of a small web service would, and prints what came of it. With -addr it goes on
// under a light load, and serves the pool's status, until it is interrupted.
//
// However it ends, no server, no file and no table of its own is left.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	// SIGPIPE as well: in `quickstart | head` the reader goes first, and there is a server to stop.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	ctx, stop = endWithParent(ctx)
	defer stop()
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// command runs the program and returns its exit code.
func command(ctx context.Context, args []string, out *os.File, errOut io.Writer) int {
	o, err := parseFlags(args, errOut)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	err = run(ctx, o, terminal{File: out, redraws: isTerminal(out)})
	switch {
	case err != nil && ctx.Err() != nil:
		_, _ = fmt.Fprintf(errOut, "quickstart: stopped: %v (%v)\n", context.Cause(ctx), err)
		return 1
	case err != nil:
		_, _ = fmt.Fprintln(errOut, "quickstart:", err)
		return 1
	}
	return 0
}

// options are the command line's.
type options struct {
	duration time.Duration
	users    int
	addr     string // "": don't serve, end after duration
}

func parseFlags(args []string, errOut io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	flags.SetOutput(errOut)
	flags.DurationVar(&o.duration, "duration", 5*time.Second, "how long to work")
	flags.IntVar(&o.users, "users", 50, "how many users work at once")
	flags.StringVar(&o.addr, "addr", "", "an address such as :8080: work lightly and serve the status there until interrupted")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch {
	case flags.NArg() > 0:
		err = fmt.Errorf("quickstart takes no arguments, only flags: %q", flags.Arg(0))
	case o.duration <= 0:
		err = fmt.Errorf("-duration must be above 0, not %v", o.duration)
	case o.users < 1:
		err = fmt.Errorf("-users must be at least 1, not %d", o.users)
	}
	if err != nil {
		_, _ = fmt.Fprintln(errOut, "quickstart:", err)
	}
	return o, err
}
