package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// cleanupTimeout bounds each step of leaving nothing behind.
const cleanupTimeout = 10 * time.Second

// run does it all. What it made it removes, also when ctx ends.
func run(ctx context.Context, o options, out *terminal) (err error) {
	server, err := findServer(ctx, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanup(ctx, server.stop)) }()

	p, err := openPool(server.dsn, o, server.opening()...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()

	limits, err := askLimits(ctx, p)
	if err != nil {
		return err
	}
	b, err := openBank(ctx, p.DB)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanup(ctx, b.drop)) }()

	switch {
	case o.sweep:
		return runSweep(ctx, o, server, limits, b, out)
	case o.failover:
		return runFailover(ctx, o, server, p, b, out)
	case o.addr != "":
		return runSite(ctx, o, p, b, out)
	}
	return runLoad(ctx, o, limits, p, b, out)
}

// cleanup calls f with time to do its work, though ctx may have ended.
func cleanup(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	return f(ctx)
}

// runLoad puts the load on the bank, shows how it goes, reports, and says what the pool should be.
func runLoad(ctx context.Context, o options, limits limits, p *pool, b *bank, out *terminal) error {
	l := newLoad(p, b, o)
	l.orders, l.timeline = newOrders(b, o.duration), newTimeline(o.duration, columns(out.width))
	out.printf("%s\n\n", l)
	l.work(ctx, out)
	out.printf("\n%s", l.chart(out.width))
	err := l.conclude(ctx, out)
	out.printf("\n%s", l.observe(limits).advise().text(out.width))
	return err
}

// runSite works until interrupted, and serves the status.
func runSite(ctx context.Context, o options, p *pool, b *bank, out *terminal) error {
	l := newLoad(p, b, o)
	l.orders = newOrders(b, o.duration)
	site, err := serve(o.addr, l)
	if err != nil {
		return err
	}
	defer site.close()
	out.printf("Serving http://%s/, /status, /readyz, /livez and /debug/pgprod until interrupted, under a light load.\n\n", site.addr)
	l.work(ctx, out)
	return l.conclude(ctx, out)
}

// work returns when the users have gone home. If ctx ends early that is no error.
func (l *load) work(ctx context.Context, out *terminal) {
	until, stop := l.deadline(ctx)
	defer stop()
	l.start(ctx, until)
	showProgress(until, l, out)
	l.wait()
	if ctx.Err() != nil {
		out.printf("Stopped: %v.\n", context.Cause(ctx))
	}
}

// conclude prints the report; an error that nobody ordered makes the program fail.
func (l *load) conclude(ctx context.Context, out *terminal) error {
	text, err := l.report()
	if err != nil {
		return err
	}
	out.printf("\n%s", text)
	if err := cleanup(ctx, l.bank.check); err != nil {
		return err
	}
	if n := l.failures.count(); n > 0 {
		return fmt.Errorf("%d requests failed", n)
	}
	return nil
}
