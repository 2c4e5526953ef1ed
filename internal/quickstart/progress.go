package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// terminal is where the program writes.
type terminal struct {
	*os.File
	redraws bool // it is a screen, where a line can be written over
}

// printf writes. Nobody can be told of an error; where the reader has gone the signal ends the program.
func (t terminal) printf(format string, args ...any) { _, _ = fmt.Fprintf(t.File, format, args...) }

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// showProgress shows how the load does until it ends.
func showProgress(until context.Context, l *load, out terminal) {
	interval, format := time.Second, "%s\n"
	switch {
	case out.redraws:
		interval, format = 200*time.Millisecond, "\r\x1b[K%s"
		defer out.printf("\n")
	case l.options.addr != "":
		interval = time.Minute
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for lines := 0; ; lines++ {
		select {
		case <-ticker.C:
			out.printf(format, l.progress())
		case <-until.Done():
			if lines == 0 { // that short a run
				out.printf(format, l.progress())
			}
			return
		}
	}
}

// progress is one line on the state of things, short enough for a narrow screen.
func (l *load) progress() string {
	s, err := l.status()
	if err != nil {
		return err.Error()
	}
	all, elapsed := l.all(), time.Since(l.began)
	n := all.count()
	return fmt.Sprintf("%4.0fs %9s requests %7s/s  p99 %-6s in use %2d of %s, %d waiting, %d errors",
		elapsed.Seconds(), thousands(n), thousands(int64(float64(n)/elapsed.Seconds())), short(all.percentile(0.99)),
		s.CheckedOut, capacity(s), s.Waiting, l.failures.count())
}
