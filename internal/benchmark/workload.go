package main

import (
	"context"
	"fmt"
	"time"
)

// op is one operation of a worker, its i-th. It checks what the server returned.
type op func(ctx context.Context, worker, i int) error

// A workload is what is done, by how many at once, on how large a pool.
type workload struct {
	name    string
	about   string
	workers int
	conns   int // the pool's limit; 0: 20
	make    func(ctx context.Context, c client) (op, error)

	pause       time.Duration // of each worker after each operation
	block       time.Duration // how long a peer works before the next has its turn; 0: 15ms, five times in a round
	weight      int           // how many times the usual rounds; 0: 1
	heavy       bool          // one operation is a lot of work
	cancellable bool          // contexts can be cancelled, as a request's; else they can't
	plain       bool          // pgprod is opened by sql.Open with nothing set
	limited     bool          // makes no sense without a limit
	inserts     bool          // the sink is emptied before each block
	levels      []string      // of telemetry; nil: each peer as it is
	storm       time.Duration // not 0: a new pool for each round, whose connects take this long
	chart       figure        // what the chart shows
}

const (
	defaultConns = 20
	// defaultBlock is as short as the noise of a shared machine demands, and defaultPasses so many in a round that each
	// round has the garbage collector's share.
	defaultBlock  = 15 * time.Millisecond
	defaultPasses = 5
	longBlock     = 75 * time.Millisecond // for statements that take a while themselves
)

const (
	short      = "select $1::int"
	twoMillis  = "select $1::int from pg_sleep(0.002)"
	oneMilli   = "select $1::int from pg_sleep(0.001)"
	insertRows = 1000
)

var workloads = []workload{
	{name: "query/1", about: "one short query at a time", workers: 1, make: query(short), weight: 4, chart: cpuPerOp},
	{name: "query/2", about: "short queries, 2 workers", workers: 2, make: query(short), chart: cpuPerOp},
	{name: "query/16", about: "short queries, 16 workers", workers: 16, make: query(short), weight: 4, chart: cpuPerOp},
	{name: "query/100", about: "short queries, 100 workers", workers: 100, make: query(short), chart: cpuPerOp},
	{name: "request/1", about: "one short query at a time, in a context that can be cancelled", workers: 1, make: query(short), cancellable: true, chart: cpuPerOp},
	{name: "request/16", about: "the same, 16 workers", workers: 16, make: query(short), cancellable: true, chart: cpuPerOp},
	{name: "2ms/1", about: "one query of 2 ms at a time", workers: 1, make: query(twoMillis), block: longBlock, chart: p50},
	{name: "2ms/2", about: "queries of 2 ms, 2 workers", workers: 2, make: query(twoMillis), block: longBlock, chart: p50},
	{name: "2ms/16", about: "queries of 2 ms, 16 workers", workers: 16, make: query(twoMillis), block: longBlock, chart: throughput},
	{name: "2ms/100", about: "queries of 2 ms, 100 workers", workers: 100, make: query(twoMillis), chart: throughput, block: 120 * time.Millisecond},
	{name: "plain", about: "nothing tuned (pgprod too): 20 workers, queries of 2 ms, 1 ms between", workers: 20, make: query(twoMillis), conns: 30, plain: true, pause: time.Millisecond, block: 200 * time.Millisecond, chart: throughput},
	{name: "overload", about: "100 workers on 10 connections, queries of 1 ms", workers: 100, conns: 10, make: query(oneMilli), limited: true, block: 500 * time.Millisecond, chart: p99},
	{name: "prepared/1", about: "a *sql.Stmt, one at a time", workers: 1, make: prepared(short), chart: cpuPerOp},
	{name: "prepared/16", about: "one *sql.Stmt, 16 workers", workers: 16, make: prepared(short), chart: cpuPerOp},
	{name: "tx/1", about: "transactions of five statements, one at a time", workers: 1, make: transaction, chart: cpuPerOp},
	{name: "tx/16", about: "transactions of five statements, 16 workers", workers: 16, make: transaction, chart: cpuPerOp},
	{name: "rows/10000", about: "10 000 rows of a number and a text read", workers: 1, make: rows, heavy: true, weight: 4, chart: cpuPerOp},
	{name: "insert/1000", about: "one insert of 1 000 rows", workers: 1, make: multiRow, heavy: true, inserts: true, chart: cpuPerOp},
	{name: "copy/1000", about: "a COPY of 1 000 rows", workers: 1, make: copyIn, heavy: true, inserts: true, chart: cpuPerOp},
	{name: "storm/5ms", about: "50 workers start at once on a new pool, connects of 5 ms, queries of 2 ms", workers: 50, make: query(twoMillis), storm: 5 * time.Millisecond, chart: p99},
	{name: "storm/100ms", about: "the same, connects of 100 ms", workers: 50, make: query(twoMillis), storm: 100 * time.Millisecond, chart: p99},
	{name: "texts/1", about: "1 text, 2 workers", workers: 2, make: texts(1), weight: 2, chart: cpuPerOp},
	{name: "texts/10", about: "10 distinct texts", workers: 2, make: texts(10), chart: cpuPerOp},
	{name: "texts/1000", about: "1 000 distinct texts, in turn: more than a connection keeps prepared", workers: 2, make: texts(1000), chart: cpuPerOp},
	{name: "texts/100000", about: "100 000 distinct texts, in turn", workers: 2, make: texts(100_000), weight: 2, chart: cpuPerOp},
	{name: "pool/10", about: "a limit of 10 connections, 8 workers", workers: 8, conns: 10, make: query(short), weight: 2, chart: cpuPerOp},
	{name: "pool/1000", about: "a limit of 1 000 connections, 8 workers", workers: 8, conns: 1000, make: query(short), weight: 2, chart: cpuPerOp},
	{name: "telemetry/1", about: "one short query at a time, in a request with a span", workers: 1, make: query(short), levels: levels, weight: 3, chart: cpuPerOp},
	{name: "telemetry/16", about: "the same, 16 workers", workers: 16, make: query(short), levels: levels, weight: 2, chart: cpuPerOp},
}

func (w workload) limit() int {
	if w.conns == 0 {
		return defaultConns
	}
	return w.conns
}

// participants lists who takes part, at which level of telemetry.
func (w workload) participants(o options) []who {
	var all []who
	for _, p := range peers {
		switch {
		case !o.peers.MatchString(p.name), w.limited && p.unbounded:
		case w.levels == nil && p.wraps:
			if !o.short { // without an SDK they are what is below, and a little more
				all = append(all, who{p, noSDK})
			}
		case w.levels == nil:
			all = append(all, who{p, none})
		case p.reports:
			for _, level := range w.levels {
				all = append(all, who{p, level})
			}
		case p.name == base:
			all = append(all, who{p, none})
		}
	}
	return all
}

// who is a peer that takes part, at a level of telemetry.
type who struct {
	peer  peer
	level string
}

func (w who) String() string { return fmt.Sprintf("%s (%s)", w.peer.name, w.level) }
