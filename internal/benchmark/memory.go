package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/pgprod/pgprod"
)

// memory is how much of the heap pgprod holds after it has reported a number of distinct texts.
type memory struct {
	texts []int
	heap  []int64
}

// memory lets pgprod report ever more texts, all of them sampled. Nothing is prepared: what the server and pgx keep for
// a prepared statement is not what is asked.
func (b *bench) memory(ctx context.Context) (m *memory, err error) {
	_, dsn := b.server.clientDSN()
	t := newTelemetry(everything)
	distinctTexts() // made before the heap is looked at
	before := heap()
	db, err := pgprod.Open(dsn+"&default_query_exec_mode=exec",
		pgprod.WithTracerProvider(t.tracer), pgprod.WithMeterProvider(t.meter))
	if err != nil {
		return nil, err
	}
	c := &sqlClient{db: db}
	defer func() { err = errors.Join(err, c.close()) }()
	m = &memory{}
	next := 0
	for _, until := range []int{b.texts / 100, b.texts / 2, b.texts} {
		for ; next < until; next++ {
			n, err := c.query(ctx, distinctTexts()[next], 7)
			if err := expect(distinctTexts()[next], n, 7, err); err != nil {
				return nil, err
			}
		}
		m.texts = append(m.texts, until)
		m.heap = append(m.heap, heap()-before)
	}
	return m, nil
}

// longRun is what a peer holds of the heap after many queries.
type longRun struct {
	peer    string
	queries int
	heap    int64
}

// longRuns lets the peers run very many queries each; with -short only pgprod and what it is held against do.
func (b *bench) longRuns(ctx context.Context) (all []longRun, err error) {
	for _, p := range peers {
		if p.wraps || !b.options.peers.MatchString(p.name) || b.short && p.name != "pgprod" && p.name != base {
			continue
		}
		held, err := b.longRun(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		all = append(all, held)
	}
	return all, nil
}

func (b *bench) longRun(ctx context.Context, p peer) (r longRun, err error) {
	w := workload{name: "memory", workers: 16, make: query(short)}
	g := newGang(w.workers)
	defer g.close()
	r.peer = p.name
	_, dsn := b.server.clientDSN()
	before := heap()
	e, err := open(ctx, w, who{p, none}, dsn)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	for r.queries < b.queries {
		s, err := b.turn(ctx, e, g, longBlock)
		if err != nil {
			return r, err
		}
		r.queries += s.ops
	}
	r.heap = heap() - before
	return r, nil
}

func (r longRun) String() string {
	return fmt.Sprintf("%s: %d kB after %d queries of 16 workers", r.peer, r.heap/1000, r.queries)
}
