package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"
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
	inserts     bool          // what inserts go into is emptied before each block
	levels      []string      // of telemetry; nil: each peer as it is
	storm       time.Duration // not 0: a new pool for each round, whose connects take this long
	remote      bool          // the server is oneWay away
	own         bool          // only pgprod takes part: it is held against itself
	beside      string        // the workload just before this one, with which it takes turns; "": it is measured by itself
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
	toTenant   = "set search_path to tenant"
	ofTenant   = "select id from here where id = $1" // which no other schema has
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
	{name: "remote/query", about: "the server is 0.5 ms away each way: one short query at a time", workers: 1, make: query(seesSettings), remote: true, block: longBlock, weight: 2, chart: p50},
	{name: "remote/settings", about: "the same, with two settings of the context", workers: 1, make: querySettings, remote: true, own: true, beside: "remote/query", block: longBlock, weight: 2, chart: p50},
	{name: "remote/tx1", about: "the same, transactions of one insert", workers: 1, make: insertTransaction, remote: true, inserts: true, block: longBlock, weight: 2, chart: p50},
	{name: "remote/tx5", about: "the same, transactions of five statements", workers: 1, make: transaction, remote: true, block: longBlock, weight: 2, chart: p50},
	{name: "remote/gorm", about: "the same, gorm.Create in its default transaction", workers: 1, make: gormCreate, remote: true, inserts: true, block: longBlock, weight: 2, chart: p50},
	{name: "remote/busy", about: "the same, transactions of one insert, 32 workers on 4 connections", workers: 32, conns: 4, make: insertTransaction, remote: true, inserts: true, limited: true, block: 2 * longBlock, weight: 2, chart: throughput},
	{name: "remote/conn", about: "the same, requests with a *sql.Conn of their own: select 1, a query", workers: 1, make: session("select 1", "select id from tenant.here where id = $1"), remote: true, own: true, block: longBlock, weight: 6, chart: p50},
	{name: "remote/session", about: "the same, but SET search_path in place of select 1, never taken back", workers: 1, make: session(toTenant, ofTenant), remote: true, own: true, beside: "remote/conn", block: longBlock, weight: 6, chart: p50},
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

// proxied says that there is a proxy in this process while the workload is measured, which would have its share of the
// CPU and the heap.
func (w workload) proxied() bool { return w.remote || w.storm != 0 }

// groupsOf lists the workloads that were asked for; those that take turns are together.
func groupsOf(run *regexp.Regexp) [][]workload {
	var groups [][]workload
	for _, w := range workloads {
		last := len(groups) - 1
		switch {
		case !run.MatchString(w.name):
		case w.beside != "" && last >= 0 && groups[last][0].name == w.beside:
			groups[last] = append(groups[last], w)
		default:
			groups = append(groups, []workload{w})
		}
	}
	return groups
}

func namesOf(group []workload) string {
	names := make([]string, len(group))
	for i, w := range group {
		names[i] = w.name
	}
	return strings.Join(names, ", ")
}

// participants lists who takes part, at which level of telemetry.
func (w workload) participants(o options) []who {
	var all []who
	for _, p := range peers {
		switch {
		case !o.peers.MatchString(p.name), w.limited && p.unbounded, w.own && p.name != "pgprod":
		case w.remote && p.unbounded: // with one caller it is what base is
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
