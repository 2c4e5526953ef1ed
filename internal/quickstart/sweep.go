package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/histogram"
)

// rounds is how often each size is tried, so that a short disturbance of the machine doesn't decide.
const rounds = 3

// trial is what was measured with one pool size, in all rounds together.
type trial struct {
	size   int
	lasted time.Duration
	took   *histogram.Histogram // how long the requests took that succeeded
	failed int                  // requests
}

// perS is how many requests succeeded per second.
func (t trial) perS() float64 { return float64(t.took.Count()) / max(t.lasted.Seconds(), 1e-9) }

func (t trial) p99() time.Duration { return t.took.Quantile(0.99) }

// sweepSizes returns the sizes to try: 2, and the double of the one before, up to 64 or what the server leaves (free), or
// until each user has a connection.
func sweepSizes(free, users int) (sizes []int) {
	for n := 2; n <= 64 && n <= free; n *= 2 {
		sizes = append(sizes, n)
		if n >= users {
			break
		}
	}
	return sizes
}

// runSweep is the mode -sweep: it runs the load on pools of one size after the other, and prints which is best.
func runSweep(ctx context.Context, o options, s server, limits limits, b *bank, out *terminal) error {
	sizes := sweepSizes(limits.free-1, o.users) // one connection is for the pool of the bank
	if len(sizes) == 0 {
		return fmt.Errorf("max_connections is %d and leaves %d: too few to try pool sizes", limits.max, limits.free)
	}
	each := o
	each.duration = max(o.duration/time.Duration(rounds*len(sizes)), time.Millisecond)
	out.printf("%s\nEach pool size is tried %d times for %s, without overflow. Requests/s:\n\n%s",
		&load{options: o}, rounds, short(each.duration), sizesLine(sizes))
	trials, err := tryAll(ctx, sizes, out, func(size int) (trial, error) { return tryPool(ctx, each, s.dsn, b, size) })
	if ctx.Err() != nil {
		out.printf("Stopped: %v.\n", context.Cause(ctx))
	} else if err != nil {
		return err
	}
	if len(trials) > 0 {
		out.printf("\n%s\n%s", sweepTable(trials, out.width), adviseSweep(trials, limits).text(out.width))
	}
	return errors.Join(cleanup(ctx, b.check), failedTrials(trials))
}

// tryAll tries all sizes, in several rounds. The result of a try during which ctx ends is left out, since it would mislead.
func tryAll(ctx context.Context, sizes []int, out *terminal, try func(size int) (trial, error)) (trials []trial, err error) {
	for round := range rounds {
		out.printf("round %d ", round+1)
		for i, size := range sizes {
			t, err := try(size)
			if err != nil || ctx.Err() != nil {
				out.printf("\n")
				return trials, err
			}
			out.printf("%9s", thousands(int64(t.perS())))
			if round == 0 {
				trials = append(trials, t)
				continue
			}
			trials[i].took.Add(t.took)
			trials[i].lasted += t.lasted
			trials[i].failed += t.failed
		}
		out.printf("\n")
	}
	return trials, nil
}

// sizesLine is the head of the table of rounds.
func sizesLine(sizes []int) string {
	line := fmt.Sprintf("%-8s", "size")
	for _, size := range sizes {
		line += fmt.Sprintf("%9d", size)
	}
	return line + "\n"
}

// tryPool runs the load on a new pool of one size, for the duration in the options.
func tryPool(ctx context.Context, o options, dsn string, b *bank, size int) (t trial, err error) {
	p, err := openPool(dsn, o, pgprod.WithPoolSize(size), pgprod.WithMaxOverflow(0), pgprod.WithPreflight(false))
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	if err := p.fill(ctx, size); err != nil {
		return t, err
	}
	b, err = b.through(ctx, p.DB)
	if err != nil {
		return t, err
	}
	defer b.close()
	l := newLoad(p, b, o)
	until, stop := l.deadline(ctx)
	defer stop()
	l.start(ctx, until)
	l.wait()
	return trial{size: size, lasted: time.Since(l.began), took: l.all(), failed: l.failures.count()}, nil
}

// fill has all connections of the pool made, so that making them isn't part of the measurement.
func (p *pool) fill(ctx context.Context, size int) error {
	var all, done sync.WaitGroup
	all.Add(size)
	errs := make([]error, size)
	for i := range size {
		done.Go(func() { // ends when all have a connection, or can't have one
			var once sync.Once
			ready := func() { once.Do(all.Done) }
			defer ready()
			conn, err := p.Conn(ctx)
			if err != nil {
				errs[i] = err
				return
			}
			defer func() { _ = conn.Close() }()
			tx, err := conn.BeginTx(ctx, nil)
			if err != nil {
				errs[i] = err
				return
			}
			ready()
			all.Wait()
			errs[i] = tx.Rollback()
		})
	}
	done.Wait()
	return errors.Join(errs...)
}

// failedTrials returns an error if requests have failed.
func failedTrials(trials []trial) error {
	failed := 0
	for _, t := range trials {
		failed += t.failed
	}
	if failed > 0 {
		return fmt.Errorf("%d requests failed", failed)
	}
	return nil
}
