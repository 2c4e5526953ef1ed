package main

import (
	"context"
	"errors"

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
