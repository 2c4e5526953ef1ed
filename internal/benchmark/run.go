package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"time"
)

// bench is one run of the program.
type bench struct {
	options
	server   *server
	progress io.Writer
}

// measure does it all.
func measure(ctx context.Context, o options, progress io.Writer) (rep *report, err error) {
	s, err := startServer(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.stop(ctx)) }()
	b := &bench{options: o, server: s, progress: progress}
	rep = newReport(o, s)
	for _, group := range groupsOf(o.run) {
		begin := time.Now()
		name := namesOf(group)
		series, err := b.measure(ctx, group)
		if err != nil {
			return nil, fmt.Errorf("workload %s: %w", name, err)
		}
		rep.add(series)
		_, _ = fmt.Fprintf(progress, "%-14s %2d peers, %v\n", name, len(series), time.Since(begin).Round(100*time.Millisecond))
	}
	if rep.harness, err = harness(); err != nil {
		return nil, err
	}
	if o.run.MatchString("memory") && o.peers.MatchString("pgprod") {
		if rep.memory, err = b.memory(ctx); err != nil {
			return nil, fmt.Errorf("memory: %w", err)
		}
	}
	if o.run.MatchString("memory") {
		if rep.long, err = b.longRuns(ctx); err != nil {
			return nil, fmt.Errorf("memory: %w", err)
		}
	}
	rep.took = time.Since(rep.date)
	return rep, nil
}

// measure measures a workload, or several that take turns.
func (b *bench) measure(ctx context.Context, group []workload) ([]*series, error) {
	if group[0].storm != 0 {
		return b.storms(ctx, group[0])
	}
	series, err := b.rounds(ctx, group)
	if err != nil {
		return nil, err
	}
	return series, b.countTrips(ctx, series)
}

// rounds lets all peers work in turn, many times. The workloads of a group have the first one's workers, turns and rounds.
func (b *bench) rounds(ctx context.Context, group []workload) (done []*series, err error) {
	first := group[0]
	g := newGang(first.workers)
	defer g.close()
	var all []*entry
	defer func() {
		for _, e := range all {
			err = errors.Join(err, e.close())
		}
	}()
	for _, w := range group {
		for _, who := range w.participants(b.options) {
			e, err := b.enter(ctx, w, who, g)
			if errors.Is(err, errors.ErrUnsupported) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("%v: %w", who, err)
			}
			all = append(all, e)
			done = append(done, e.series)
		}
	}
	for range b.options.rounds * max(first.weight, 1) {
		if err := b.round(ctx, first, all, g); err != nil {
			return nil, err
		}
	}
	return done, b.weigh(all)
}

// round lets each peer work once, or several times for a short while each; the peer's sample is the sum.
func (b *bench) round(ctx context.Context, w workload, all []*entry, g *gang) error {
	sums := make([]sample, len(all))
	length, passes := b.length(w)
	for pass := range passes {
		// A new order each time: who comes first after which other makes a difference.
		for _, i := range rand.Perm(len(all)) {
			turn := length
			if all[i].dropsConnections() { // one long turn: the server is busy after each
				turn *= time.Duration(passes)
				if pass > 0 {
					continue
				}
			}
			s, err := b.turn(ctx, all[i], g, turn)
			if err != nil {
				return fmt.Errorf("%v: %w", all[i].who, err)
			}
			sums[i] = sums[i].plus(s)
		}
	}
	for i, e := range all {
		e.samples = append(e.samples, sums[i])
	}
	return nil
}

// turn lets one peer work for a block.
func (b *bench) turn(ctx context.Context, e *entry, g *gang, length time.Duration) (sample, error) {
	if err := ctx.Err(); err != nil {
		return sample{}, err
	}
	if e.workload.inserts {
		if err := b.server.empty(ctx); err != nil {
			return sample{}, err
		}
	}
	s, err := g.run(e.block(), length, e.latency)
	if e.dropsConnections() {
		time.Sleep(10 * time.Millisecond) // the server is still busy ending the connections that it dropped
	}
	return s, err
}

// length is how long a turn is, and how many there are in a round.
func (b *bench) length(w workload) (turn time.Duration, passes int) {
	switch {
	case b.options.block != 0:
		return b.options.block, 1
	case w.block != 0:
		return w.block, 1
	}
	return defaultBlock, defaultPasses
}

// entry is a peer's pool in a workload.
type entry struct {
	*series
	client   client
	op       op
	name     string // of its connections
	requests [][]context.Context
	first    []int
	cancel   context.CancelFunc
}

// warmUp is time enough for all workers to have had a connection and prepared their statement.
const warmUp = 50 * time.Millisecond

// dropsConnections says that the peer keeps two idle connections only, and has more workers than that.
func (e *entry) dropsConnections() bool { return e.who.peer.unbounded && e.workload.workers > 2 }

// enter opens a peer's pool and warms it up.
func (b *bench) enter(ctx context.Context, w workload, p who, g *gang) (_ *entry, err error) {
	name, dsn := b.server.clientDSN()
	if w.remote {
		if dsn, err = b.server.road.through(dsn); err != nil {
			return nil, err
		}
	}
	e, err := open(ctx, w, p, dsn)
	if err != nil {
		return nil, err
	}
	e.name = name
	length := warmUp
	if b.options.block != 0 {
		length = b.options.block
	}
	if _, err := b.turn(ctx, e, g, length); err != nil {
		return nil, errors.Join(err, e.close())
	}
	e.latency.Reset()
	return e, nil
}

// open opens a peer's pool.
func open(ctx context.Context, w workload, p who, dsn string) (*entry, error) {
	t := newTelemetry(p.level)
	c, err := p.peer.open(ctx, target{dsn: dsn, conns: w.limit(), plain: w.plain, telemetry: t})
	if err != nil {
		return nil, err
	}
	e := &entry{series: &series{workload: w, who: p, latency: newLatencies()}, client: c, first: make([]int, w.workers), cancel: func() {}}
	requests := context.Background()
	if w.cancellable {
		requests, e.cancel = context.WithCancel(requests)
	}
	for range w.workers {
		own := []context.Context{requests}
		if w.levels != nil {
			own = t.requests(requests)
		}
		e.requests = append(e.requests, own)
	}
	if e.op, err = w.make(ctx, c); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

func (e *entry) block() block {
	return block{op: e.op, requests: e.requests, first: e.first, pause: e.workload.pause}
}

// close closes the pool; a second time it does nothing.
func (e *entry) close() error {
	if e.client == nil {
		return nil
	}
	e.cancel()
	err := e.client.close()
	e.client, e.op, e.requests = nil, nil, nil
	return err
}

// weigh closes the pools one after another, and looks how much of the heap each sets free.
func (b *bench) weigh(all []*entry) error {
	before := heap()
	for _, e := range all {
		if err := e.close(); err != nil {
			return fmt.Errorf("%v: %w", e.who, err)
		}
		after := heap()
		e.heap = before - after
		before = after
		var err error
		if e.connects, err = b.server.connections(e.name); err != nil {
			return err
		}
	}
	return nil
}

// heap is how much is in use after a collection. The second one frees what sync.Pools had kept.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// harness measures what the workers themselves cost, by letting one do nothing for as short as that takes.
func harness() (sample, error) {
	g := newGang(1)
	defer g.close()
	nothing := func(context.Context, int, int) error { return nil }
	return g.run(block{op: nothing, requests: [][]context.Context{{context.Background()}}, first: []int{0}}, longBlock, newLatencies())
}
