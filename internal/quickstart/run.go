package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// cleanupTimeout limits each step of cleaning up.
const cleanupTimeout = 10 * time.Second

// run runs the program in the mode of the options. It removes what it has made, also when ctx ends.
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

// cleanup calls f with a context that has time left, also when ctx has ended.
func cleanup(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	return f(ctx)
}

// runLoad is the mode without a flag: it runs the load, shows its progress, and prints the report and the advice on the
// size.
func runLoad(ctx context.Context, o options, limits limits, p *pool, b *bank, out *terminal) error {
	l := newLoad(p, b, o)
	l.demos, l.timeline = newDemos(b, o.duration), newTimeline(o.duration, columns(out.width))
	out.printf("%s\n\n", l)
	l.work(ctx, out)
	out.printf("\n%s", l.chart(out.width))
	err := l.conclude(ctx, out)
	out.printf("\n%s", l.observe(limits).advise().text(out.width))
	return err
}

// runSite is the mode -addr: it runs a light load until it is interrupted, and serves the pool's status.
func runSite(ctx context.Context, o options, p *pool, b *bank, out *terminal) error {
	l := newLoad(p, b, o)
	l.demos = newDemos(b, o.duration)
	site, err := serve(o.addr, l)
	if err != nil {
		return err
	}
	defer site.close()
	out.printf("Serving http://%s/, /status, /readyz, /livez and /debug/pgprod until interrupted, under a light load.\n\n", site.addr)
	l.work(ctx, out)
	return l.conclude(ctx, out)
}

// work starts the load, shows its progress, and returns when all users have ended. It is no error if ctx ends early.
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

// conclude prints the report. It returns an error if a request of a user has failed, or if the sum of the balances is wrong.
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
