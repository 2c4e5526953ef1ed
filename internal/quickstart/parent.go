package main

import (
	"context"
	"errors"
	"os"
	"time"
)

var errParentEnded = errors.New("the process that started it has ended")

// endWithParent returns a context that ends when the process that started this one ends. If that is `go run`, a SIGTERM ends
// it without a signal to this process. (Ctrl-C reaches both.)
func endWithParent(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	parent := os.Getppid()
	ticker := time.NewTicker(200 * time.Millisecond)
	go func() { // ends with ctx
		defer ticker.Stop()
		for os.Getppid() == parent {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
		cancel(errParentEnded)
	}()
	return ctx, func() { cancel(nil) }
}
