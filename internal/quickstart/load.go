package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/pgprod/pgprod/internal/histogram"
)

// load is the work of many users on the bank, with what is measured of it.
type load struct {
	pool    *pool
	bank    *bank
	options options
	began   time.Time
	users   sync.WaitGroup // the goroutines that start has started

	kinds    []*kind
	failures failures
	gaps     gaps
	cpu      cpuTime   // when the load began
	demos    *demos    // nil: none
	ledger   *ledger   // nil: transfers aren't numbered and checked
	timeline *timeline // nil: none
}

// newLatencies returns a histogram whose quantiles are at most 1.6 % too long.
func newLatencies() *histogram.Histogram { return histogram.New(6) }

// kind is one kind of request.
type kind struct {
	name  string
	share float64 // of all requests, from 0 to 1
	do    func(context.Context) error
	took  *histogram.Histogram // how long those took that succeeded
}

// newLoad returns a load on a bank, which start starts.
func newLoad(p *pool, b *bank, o options) *load {
	l := &load{pool: p, bank: b, options: o}
	l.kinds = []*kind{
		{name: "read", share: 0.65, do: func(ctx context.Context) error { return b.read(ctx, anyAccount()) }, took: newLatencies()},
		{name: "list", share: 0.15, do: func(ctx context.Context) error { return b.list(ctx, anyAccount()) }, took: newLatencies()},
		{name: "transfer", share: 0.20, do: l.transfer, took: newLatencies()},
	}
	return l
}

// transfer is a request that moves an amount between two random accounts. If there is a ledger it keeps the outcome.
func (l *load) transfer(ctx context.Context) error {
	t := transfer{from: anyAccount(), to: anyAccount(), amount: 1 + rand.Int64N(9)}
	if l.ledger == nil {
		return l.bank.transfer(ctx, t)
	}
	t.number = l.ledger.next()
	err := l.bank.transfer(ctx, t)
	l.ledger.book(t.number, err)
	return err
}

func anyAccount() int { return 1 + rand.IntN(accounts) }

// deadline returns a context that ends when the users are to begin no further request: after the duration, or with -addr
// when ctx ends.
func (l *load) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if l.options.addr != "" {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, l.options.duration)
}

// start starts the users, which make requests until the context until ends. The end of ctx ends a request under way.
func (l *load) start(ctx, until context.Context) {
	l.began, l.cpu = time.Now(), readCPU()
	for range l.options.users {
		l.users.Go(func() { // ends with until
			for rest(until, l.options.think) {
				l.request(ctx, l.pick(rand.Float64()))
			}
		})
	}
	if l.demos != nil {
		l.users.Go(func() { l.demos.run(ctx) }) // ends by itself, or with ctx
	}
	if l.timeline != nil {
		l.users.Go(func() { l.watch(until) }) // ends with until
	}
}

// wait returns when all users have ended.
func (l *load) wait() { l.users.Wait() }

// rest waits for a random time, of this mean, and reports whether another request may begin.
func rest(until context.Context, mean time.Duration) bool {
	if mean == 0 {
		return until.Err() == nil
	}
	t := time.NewTimer(time.Duration(rand.Int64N(int64(2 * mean))))
	defer t.Stop()
	select {
	case <-t.C:
		return until.Err() == nil
	case <-until.Done():
		return false
	}
}

// pick returns the kind of a request for a random number from 0 to 1.
func (l *load) pick(x float64) *kind {
	for _, k := range l.kinds {
		if x -= k.share; x < 0 {
			return k
		}
	}
	return l.kinds[0]
}

// request makes one request, and keeps how long it took, or its error.
func (l *load) request(ctx context.Context, k *kind) {
	start := time.Now()
	err := k.do(ctx)
	if err == nil {
		k.took.Record(time.Since(start))
		l.gaps.success()
		return
	}
	if ctx.Err() == nil { // else the request was interrupted, and didn't fail
		l.failures.add(k.name, err)
	}
}

// all returns how long the requests of all kinds took.
func (l *load) all() *histogram.Histogram {
	sum := newLatencies()
	for _, k := range l.kinds {
		sum.Add(k.took)
	}
	return sum
}
