package main

import (
	"fmt"
	"math"
	"strings"
)

// A goal is a figure that pgprod is to reach.
type goal struct {
	what   string
	figure string
	met    bool
	run    bool // false: what it needs was not measured
}

func (g goal) verdict() string {
	switch {
	case !g.run:
		return "not run"
	case g.met:
		return "pass"
	}
	return "FAIL"
}

// goals are checked on what was measured.
func (r *report) goals() []goal {
	var all []goal
	all = append(all, r.plainGoals()...)
	all = append(all, r.cpuGoals()...)
	all = append(all, r.telemetryGoals("telemetry/1")...)
	all = append(all, r.telemetryGoals("telemetry/16")...)
	all = append(all, r.overloadGoals()...)
	all = append(all, r.tripsGoal())
	all = append(all, r.remoteGoals()...)
	all = append(all, r.rowsGoals()...)
	return append(all, r.growthGoals()...)
}

// pair finds pgprod and a peer in a workload.
func (r *report) pair(workload, peer string) (pgprod, other *series, ok bool) {
	pgprod, other = r.find(workload, "pgprod", none), r.find(workload, peer, none)
	return pgprod, other, pgprod != nil && other != nil
}

func (r *report) plainGoals() []goal {
	var all []goal
	for _, b := range []struct {
		peer  string
		least float64
	}{{"pgx plain", 3.5}, {base, 0.97}} {
		goal := goal{what: fmt.Sprintf("plain: throughput ≥ %v × %s", b.least, b.peer)}
		if mine, other, ok := r.pair("plain", b.peer); ok {
			s := mine.against(other, throughput, ratio)
			goal.run, goal.met, goal.figure = true, s.median >= b.least, fmt.Sprintf("%.3f (%.3f–%.3f)", s.median, s.q1, s.q3)
		}
		all = append(all, goal)
	}
	return all
}

func (r *report) cpuGoals() []goal {
	var all []goal
	for _, w := range []string{"query/1", "query/16"} {
		mine, other, ok := r.pair(w, base)
		cpu := goal{what: w + ", no telemetry: CPU ≤ 1.08 × " + base, run: ok}
		more := goal{what: w + ", no telemetry: at most 3 allocations more than " + base, run: ok}
		if ok {
			s := mine.against(other, cpuPerOp, ratio)
			cpu.met, cpu.figure = s.median <= 1.08, fmt.Sprintf("%.3f (%.3f–%.3f)", s.median, s.q1, s.q3)
			extra := mine.spread(allocs).median - other.spread(allocs).median
			more.met, more.figure = extra <= 3.05, fmt.Sprintf("%.1f", extra) // the runtime allocates now and then
		}
		all = append(all, cpu, more)
	}
	return all
}

// added is the CPU that a peer's telemetry adds, in µs: to pgprod without an SDK, or to the pgx that a peer wraps.
func (r *report) added(workload, peer, level string) (float64, bool) {
	with, without := r.find(workload, peer, level), r.find(workload, base, none)
	if peer == "pgprod" {
		without = r.find(workload, peer, noSDK)
	}
	if with == nil || without == nil {
		return math.NaN(), false
	}
	return with.against(without, cpuPerOp, difference).median, true
}

// cheapest is the peer whose telemetry adds least.
func (r *report) cheapest(workload, level string) (name string, added float64) {
	added = math.NaN()
	for _, p := range peers {
		if v, ok := r.added(workload, p.name, level); ok && p.wraps && !(v >= added) {
			name, added = p.name, v
		}
	}
	return name, added
}

func (r *report) telemetryGoals(workload string) []goal {
	cheapest, least := r.cheapest(workload, everything)
	all := []goal{r.addedGoal(workload, everything, "the cheapest peer's ("+cheapest+")", 0.8, least)}
	for _, peer := range []string{"XSAM otelsql", "otelpgx"} {
		v, _ := r.added(workload, peer, everything)
		all = append(all, r.addedGoal(workload, everything, peer+"'s", 0.4, v))
	}
	cheapest, least = r.cheapest(workload, never)
	return append(all, r.addedGoal(workload, never, "the cheapest peer's ("+cheapest+")", 0.5, least))
}

func (r *report) addedGoal(workload, level, whose string, most, theirs float64) goal {
	mine, ok := r.added(workload, "pgprod", level)
	b := goal{
		what: fmt.Sprintf("%s, sampled %s: added CPU ≤ %v × %s", workload, level, most, whose),
		run:  ok && !math.IsNaN(theirs),
	}
	if b.run {
		b.met = mine <= most*theirs
		b.figure = fmt.Sprintf("%.3f (%.2f µs ÷ %.2f µs)", mine/theirs, mine, theirs)
		if theirs < 0.1 { // nothing that could be told from noise
			b.figure = fmt.Sprintf("%.2f µs, %.2f µs", mine, theirs)
		}
	}
	return b
}

func (r *report) overloadGoals() []goal {
	mine, other, ok := r.pair("overload", base)
	queue := goal{what: "overload: p99 ≤ 0.35 × database/sql's (" + base + ")", run: ok}
	even := goal{what: "overload: p99 ÷ p50 ≤ 1.3", run: mine != nil}
	if ok {
		a, b := mine.spread(p99).median, other.spread(p99).median
		queue.met, queue.figure = a <= 0.35*b, fmt.Sprintf("%.3f (%.1f ms ÷ %.1f ms)", a/b, a, b)
	}
	if mine != nil {
		v := mine.spread(p99).median / mine.spread(p50).median
		even.met, even.figure = v <= 1.3, fmt.Sprintf("%.3f", v)
	}
	return []goal{queue, even}
}

// tripsGoal compares the round trips of every workload, those of *sql.Stmt among them.
func (r *report) tripsGoal() goal {
	b := goal{what: "no more round trips than " + base + " in any workload, *sql.Stmt included"}
	var more, fewer []string
	for _, s := range r.series {
		other := r.baseOf(s)
		if s.who.peer.name != "pgprod" || other == nil || math.IsNaN(s.trips) {
			continue
		}
		b.run = true
		text := fmt.Sprintf("%s: %v, %v", s.workload.name, s.trips, other.trips)
		switch {
		case s.trips > other.trips:
			more = append(more, text)
		case s.trips < other.trips:
			fewer = append(fewer, text)
		}
	}
	b.met = len(more) == 0
	switch {
	case !b.run:
	case !b.met:
		b.figure = "more in " + strings.Join(more, "; ")
	case len(fewer) > 0:
		b.figure = "fewer in " + strings.Join(fewer, "; ")
	default:
		b.figure = "the same in all"
	}
	return b
}

func (r *report) rowsGoals() []goal {
	mine, other, ok := r.pair("rows/10000", base)
	cpu := goal{what: "10 000 rows: CPU within 2 % of " + base, run: ok}
	more := goal{what: "10 000 rows: no more allocations per row", run: ok}
	if ok {
		s := mine.against(other, cpuPerOp, ratio)
		cpu.met, cpu.figure = s.median <= 1.02, fmt.Sprintf("%.3f (%.3f–%.3f)", s.median, s.q1, s.q3)
		extra := (mine.spread(allocs).median - other.spread(allocs).median) / itemCount
		more.met, more.figure = extra < 0.001, fmt.Sprintf("%+.5f per row", extra) // a few per query are not one per row
	}
	return []goal{cpu, more}
}
