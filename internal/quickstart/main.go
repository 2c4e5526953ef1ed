// Command quickstart shows pgprod at work in one command, and answers the questions that come before a deployment:
//
//	go run github.com/pgprod/pgprod/internal/quickstart@latest                works for a few seconds, reports; needs no clone
//	go run ./internal/quickstart -users 500 -duration 30s -profile large      is the pool large enough? what should it be?
//	go run ./internal/quickstart -users 500 -duration 30s -sweep              which pool size is best here?
//	go run ./internal/quickstart -users 100 -duration 10s -failover           what does a restart of the server cost?
//	go run ./internal/quickstart -check                                       what is wrong between here and DB_DSN's database?
//	go run ./internal/quickstart -top http://localhost:8080/debug/pgprod      who waits for whom, and what runs: of a program
//	go run ./internal/quickstart -top                                         the same of DB_DSN's server
//	go run ./internal/quickstart -addr :8080                                  works lightly; serves health, status and the live page
//
// Except with -check and -top it starts a PostgreSQL server (or takes the one that DB_DSN names), opens it with pgprod, works on it
// as the users of a small web service would, and prints a report. An interrupt ends it early, with the report so far.
//
// However it ends, it leaves no server, no file and no table behind.
//
//	flags.go, run.go, server.go, limits.go, pool.go    the command line, the server and the pool
//	bank.go, ledger.go, demos.go, load.go              the data, and the users that work on it
//	meters.go, timeline.go, cpu.go                     what is measured
//	terminal.go, progress.go, chart.go, report.go,     how it is shown
//	format.go, failures.go
//	sizing.go, needs.go                                the advice on the pool's size
//	sweep.go, knee.go, failover.go, web.go             the modes
//	check.go                                           the doctor, which package doctor is
//	top.go, topsource.go, toptext.go, topsize*.go      what a page or a server says, in the terminal
//	parent.go                                          ends the program when the one that started it has ended
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// A SIGPIPE would end the program at once, and leave a server behind. It comes when a connection was reset, and when the
	// reader of the output has gone (`quickstart | head`), which the terminal notices by itself.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
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
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	screen := newTerminal(out, func() { cancel(errors.New("nobody reads what it writes")) })
	log.SetOutput(screen.above(errOut)) // pgprod's log
	if o.check {
		return runCheck(ctx, o, screen, errOut)
	}
	if o.top {
		return runTop(ctx, o, screen, errOut)
	}
	err = run(ctx, o, screen)
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
