package main

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/pgprod/pgprod"
)

// How long a user thinks between two requests, on average.
const (
	busyPause  = 10 * time.Millisecond
	lightPause = 500 * time.Millisecond
)

// load is many users at work on the bank, and what is known of their requests.
type load struct {
	db      *sql.DB
	bank    *bank
	options options
	pause   time.Duration
	began   time.Time
	users   sync.WaitGroup

	kinds    []*kind
	failures failures
	orders   *orders
}

// kind is one sort of request.
type kind struct {
	name  string
	share float64 // of all requests
	do    func(context.Context) error
	took  latencies
}

func newLoad(db *sql.DB, b *bank, o options) *load {
	l := &load{db: db, bank: b, options: o, pause: busyPause, began: time.Now()}
	if o.addr != "" {
		l.pause = lightPause
	}
	l.kinds = []*kind{
		{name: "read", share: 0.65, do: func(ctx context.Context) error { return b.read(ctx, anyAccount()) }},
		{name: "list", share: 0.15, do: func(ctx context.Context) error { return b.list(ctx, anyAccount()) }},
		{name: "transfer", share: 0.20, do: func(ctx context.Context) error {
			return b.transfer(ctx, anyAccount(), anyAccount(), 1+rand.Int64N(9))
		}},
	}
	l.orders = newOrders(b, o.duration)
	return l
}

func anyAccount() int { return 1 + rand.IntN(accounts) }

// deadline is when the users go home: they finish what they are at.
func (l *load) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if l.options.addr != "" {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, l.options.duration)
}

// start lets the users work until the deadline; ctx ends what they are at.
func (l *load) start(ctx, until context.Context) {
	l.began = time.Now()
	for range l.options.users {
		l.users.Go(func() { // ends with until
			for rest(until, time.Duration(rand.Int64N(int64(2*l.pause)))) {
				l.request(ctx, l.pick(rand.Float64()))
			}
		})
	}
	l.users.Go(func() { l.orders.give(ctx) }) // ends by itself, or with ctx
}

// wait returns when all users have gone home.
func (l *load) wait() { l.users.Wait() }

// rest waits and reports whether there is time for another request.
func rest(until context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return until.Err() == nil
	case <-until.Done():
		return false
	}
}

// pick chooses the kind of a request by a number from 0 to 1.
func (l *load) pick(x float64) *kind {
	for _, k := range l.kinds {
		if x -= k.share; x < 0 {
			return k
		}
	}
	return l.kinds[0]
}

func (l *load) request(ctx context.Context, k *kind) {
	start := time.Now()
	err := k.do(ctx)
	if err == nil {
		k.took.record(time.Since(start))
		return
	}
	if ctx.Err() == nil { // else it is an interruption, no failure
		l.failures.add(k.name, err)
	}
}

// all is every request taken together.
func (l *load) all() *latencies {
	sum := new(latencies)
	for _, k := range l.kinds {
		sum.add(&k.took)
	}
	return sum
}

func (l *load) status() (pgprod.PoolStatus, error) { return pgprod.Status(l.db) }
