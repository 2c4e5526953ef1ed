package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// storms start all workers at once on a new pool, each for one operation, whose connects take long. As the delay is made
// by a proxy in this process, no CPU is told.
func (b *bench) storms(ctx context.Context, w workload) ([]*series, error) {
	g := newGang(w.workers)
	defer g.close()
	var all []*series
	for _, p := range w.participants(b.options) {
		all = append(all, &series{workload: w, who: p, latency: newLatencies(), trips: math.NaN()})
	}
	for range max(b.options.rounds/2, 1) {
		for _, i := range rand.Perm(len(all)) {
			if err := b.storm(ctx, w, all[i], g); err != nil {
				return nil, fmt.Errorf("%v: %w", all[i].who, err)
			}
		}
	}
	for _, s := range all {
		connects := s.spread(figure{of: func(s sample) float64 { return float64(s.connects) }})
		s.connects = int(connects.median)
	}
	return all, nil
}

func (b *bench) storm(ctx context.Context, w workload, s *series, g *gang) (err error) {
	proxy, done, err := b.proxy()
	if err != nil {
		return err
	}
	defer done()
	proxy.DelayConnect(w.storm)
	e, err := open(ctx, w, s.who, proxy.DSN())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	// The first operation of each is the last: the time is over by its end.
	result, err := g.run(e.block(), time.Nanosecond, s.latency)
	result.connects = proxy.Stats().Startups
	result.cpu, result.mallocs, result.bytes = 0, 0, 0
	s.samples = append(s.samples, result)
	return err
}
