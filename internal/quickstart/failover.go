package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// gaps measures the longest time in which no request succeeded, after begin was called. It is safe for concurrent use.
type gaps struct {
	last    atomic.Int64 // when a request last succeeded, in Unix nanoseconds
	begun   atomic.Bool
	longest atomic.Int64 // nanoseconds
}

// begin begins the measurement.
func (g *gaps) begin() { g.begun.Store(true) }

// success is called when a request has succeeded.
func (g *gaps) success() { g.successAt(time.Now().UnixNano()) }

// successAt is success at a time, in Unix nanoseconds.
func (g *gaps) successAt(now int64) {
	last := g.last.Swap(now)
	if last == 0 || !g.begun.Load() {
		return
	}
	for longest := g.longest.Load(); now-last > longest; longest = g.longest.Load() {
		if g.longest.CompareAndSwap(longest, now-last) {
			return
		}
	}
}

// outage is what is known of the restart of the server.
type outage struct {
	away  time.Duration // how long the restart took; 0: there was none
	err   error         // why the restart failed
	whole bool          // the load went on for as long as planned after the restart
	audit audit         // of the transfers
}

// runFailover runs the load, restarts the server after half of the time, and prints what that meant for the requests. Some
// of them may fail. It returns an error if a transfer was lost or doubled, or was done although its caller got an error.
func runFailover(ctx context.Context, o options, s server, p *pool, b *bank, out *terminal) error {
	l := newLoad(p, b, o)
	l.ledger, l.timeline = new(ledger), newTimeline(o.duration, columns(out.width))
	out.printf("%s\nThe server is restarted after %v.\n\n", l, short(o.duration/2))
	until, stop := context.WithCancel(ctx)
	defer stop()
	l.start(ctx, until)
	restarted := make(chan outage, 1)
	go func() { // ends with ctx, or after the restart and the second half of the time
		defer stop()
		restarted <- l.restartMidway(ctx, s)
	}()
	showProgress(until, l, out)
	l.wait()
	outage := <-restarted
	if ctx.Err() != nil {
		out.printf("Stopped: %v.\n", context.Cause(ctx))
	}
	return errors.Join(outage.err, l.concludeFailover(ctx, outage, out))
}

// restartMidway waits for half of the time, restarts the server, and waits for the other half. If ctx ends during the
// restart it is finished nevertheless, since cleaning up needs the server.
func (l *load) restartMidway(ctx context.Context, s server) (o outage) {
	if !sleep(ctx, l.options.duration/2) {
		return o
	}
	l.gaps.begin()
	start := time.Now()
	o.err = s.restart(context.WithoutCancel(ctx))
	o.away = time.Since(start)
	o.whole = sleep(ctx, l.options.duration/2)
	return o
}

// sleep waits for d, and reports whether it could: not if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// concludeFailover checks the transfers, prints the report, and returns what the check found.
func (l *load) concludeFailover(ctx context.Context, o outage, out *terminal) error {
	out.printf("\n%s\n%s\n", l.chart(out.width), l.requestTable())
	err := cleanup(ctx, func(ctx context.Context) error {
		times, err := l.bank.committed(ctx)
		if err != nil {
			return fmt.Errorf("read what was committed: %w", err)
		}
		o.audit = l.ledger.compare(times)
		return errors.Join(o.audit.err(), l.bank.check(ctx))
	})
	out.printf("%s", l.failoverText(o))
	return err
}

// failoverText is the report on the restart.
func (l *load) failoverText(o outage) string {
	var b strings.Builder
	b.WriteString("Failover\n" + indent(l.outageText(o)))
	failed, done := int64(l.failures.count()), l.all().Count()
	fmt.Fprintf(&b, "Failed: %s of %s requests\n%s", thousands(failed), thousands(failed+done), indent(l.failures.byReason()))
	b.WriteString("Transfers\n" + indent(o.audit.String()))
	return b.String()
}

// outageText says how long the server was away, for itself and for its callers.
func (l *load) outageText(o outage) string {
	if o.away == 0 {
		return "the server was not restarted, it was too early for that\n"
	}
	text := fmt.Sprintf("the server was away for %s (fast shutdown and start)\n", short(o.away))
	longest := time.Duration(l.gaps.longest.Load())
	if !o.whole || longest == 0 {
		return text + "it ended too early to tell how long that was for its callers\n"
	}
	return text + fmt.Sprintf("for its callers %s passed without a success; the slowest success took %s\n",
		short(longest), short(l.all().Quantile(1)))
}
