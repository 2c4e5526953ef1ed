package main

import (
	"context"
	"fmt"
	"time"
)

// showProgress prints the state of the load at intervals until it ends. On a screen it does so in one place, which it clears
// at the end.
func showProgress(until context.Context, l *load, out *terminal) {
	interval := time.Second
	switch {
	case out.redraws:
		interval = 200 * time.Millisecond
	case l.options.addr != "":
		interval = time.Minute
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for ticks := 0; ; ticks++ {
		select {
		case <-ticker.C:
		case <-until.Done():
			if ticks > 0 {
				out.erase()
				return
			}
		}
		if out.redraws {
			out.redraw(l.picture(out.width))
		} else {
			out.printf("%s\n", l.progress())
		}
	}
}

// picture is what is shown on a screen while the load runs.
func (l *load) picture(width int) string {
	if l.timeline == nil {
		return l.progress() + "\n"
	}
	return l.chart(width) + l.progress() + "\n"
}

// progress is the state of the load in one line, which is short enough for a narrow screen.
func (l *load) progress() string {
	s, err := l.pool.status()
	if err != nil {
		return err.Error()
	}
	all, elapsed := l.all(), time.Since(l.began)
	n := all.Count()
	line := fmt.Sprintf("%4.0fs%10s requests%8s/s  p99 %-6s %d/%s in use, %d queued", elapsed.Seconds(), thousands(n),
		thousands(int64(float64(n)/elapsed.Seconds())), short(all.Quantile(0.99)), s.CheckedOut, capacity(s), s.Waiting)
	if failed := l.failures.count(); failed > 0 {
		line += fmt.Sprintf(", %d errors", failed)
	}
	return line
}
