package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

const (
	tripsWarmUp  = 10 // enough for each text of the small workloads to be prepared
	tripsCounted = 20
)

// countTrips counts round trips on the wire, with a proxy between. That is done apart: the proxy lives in this process,
// and would use its CPU.
func (b *bench) countTrips(ctx context.Context, all []*series) error {
	for _, s := range all {
		if err := b.countTripsOf(ctx, s); err != nil {
			return fmt.Errorf("%s: %v, round trips: %w", s.workload.name, s.who, err)
		}
	}
	return nil
}

func (b *bench) countTripsOf(ctx context.Context, s *series) (err error) {
	proxy, done, err := b.proxy()
	if err != nil {
		return err
	}
	defer done()
	e, err := open(ctx, s.workload, s.who, proxy.DSN())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	warmUp, counted := tripsWarmUp, tripsCounted
	if s.workload.heavy {
		warmUp, counted = 2, 1 // pgx/stdlib pings a connection when it is used again for the first time
	}
	for i := range warmUp + counted {
		if i == warmUp {
			proxy.Reset()
		}
		if err := e.op(e.requests[0][0], 0, i); err != nil {
			return err
		}
	}
	s.trips = float64(proxy.Stats().RoundTrips) / float64(counted)
	return nil
}

// proxy starts a proxy on a unix socket, as the server's own.
func (b *bench) proxy() (_ *faultproxy.Proxy, done func(), err error) {
	dir, err := os.MkdirTemp("", "pgbench")
	if err != nil {
		return nil, nil, err
	}
	p, err := faultproxy.StartUnix(b.server.dsn("proxied"), dir)
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	return p, func() {
		_ = p.Close()
		_ = os.RemoveAll(dir)
	}, nil
}
