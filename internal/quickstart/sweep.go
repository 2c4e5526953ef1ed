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

// rounds is how often each size is tried, so that a bad moment of the machine doesn't condemn one.
const rounds = 3

// trial is one pool size, and what came of it.
type trial struct {
	size   int
	lasted time.Duration
	took   *histogram.Histogram
	failed int
}

func (t trial) perS() float64 { return float64(t.took.Count()) / max(t.lasted.Seconds(), 1e-9) }

func (t trial) p99() time.Duration { return t.took.Quantile(0.99) }

// sweepSizes doubles from 2, and ends at what the server leaves, or where each user has a connection.
func sweepSizes(free, users int) (sizes []int) {
	for n := 2; n <= 64 && n <= free; n *= 2 {
		sizes = append(sizes, n)
		if n >= users {
			break
		}
	}
	return sizes
}

// runSweep puts the load on pools of one size after the other, and tells which is best.
func runSweep(ctx context.Context, o options, s server, limits limits, b *bank, out *terminal) error {
	sizes := sweepSizes(limits.free-1, o.users) // one is the pool's that cleans up
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

// tryAll tries the sizes in turn, a few rounds of that. What was being tried when ctx ended would mislead and is left
// out.
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

// sizesLine heads the columns of the rounds.
func sizesLine(sizes []int) string {
	line := fmt.Sprintf("%-8s", "size")
	for _, size := range sizes {
		line += fmt.Sprintf("%9d", size)
	}
	return line + "\n"
}

// tryPool works on a pool of a size of its own until the time is over.
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

// fill makes all connections, so that making them isn't measured.
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
