package main

import (
	"math"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// TestEveryWorkloadRunsOnEveryPeer is one tiny round of everything. Each operation checks what the server returned; here
// it is checked that all took part, and that the server saw what was counted.
func TestEveryWorkloadRunsOnEveryPeer(t *testing.T) {
	o, err := parseFlags([]string{"-rounds", "1", "-out", t.TempDir()}, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	o.block, o.texts, o.queries = time.Millisecond, 1000, 1000
	rep, err := measure(t.Context(), o, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range workloads {
		for _, p := range w.participants(o) {
			s := rep.find(w.name, p.peer.name, p.level)
			if s == nil {
				if w.name == "copy/1000" && p.peer.wraps {
					continue // most wrappers keep the connection to themselves
				}
				if w.name == "remote/gorm" && p.peer.name == "pgxpool native" {
					continue // GORM needs a *sql.DB
				}
				t.Errorf("%s: %v is missing", w.name, p)
				continue
			}
			checkSeries(t, s)
		}
	}
	for _, b := range rep.goals() {
		if !b.run || b.figure == "" {
			t.Errorf("goal %q was not checked", b.what)
		}
	}
	if len(rep.long) != 6 || rep.long[0].queries < o.queries { // the heap of so few is noise
		t.Errorf("long runs: %v", rep.long)
	}
	if rep.harness.ops < 1000 || rep.harness.perOp(float64(rep.harness.mallocs)) > 0.1 {
		t.Errorf("the workers themselves: %+v", rep.harness)
	}
	if err := rep.writeFiles(o.out); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"RESULTS.md", "results.csv", "results.svg"} {
		if info, err := os.Stat(filepath.Join(o.out, name)); err != nil || info.Size() < 1000 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

func checkSeries(t *testing.T, s *series) {
	t.Helper()
	name := s.workload.name + ", " + s.who.String()
	ops := 0
	for _, sample := range s.samples {
		ops += sample.ops
	}
	if ops < s.workload.workers || int64(ops) != s.latency.Count() {
		t.Errorf("%s: %d operations of %d workers, %d latencies", name, ops, s.workload.workers, s.latency.Count())
	}
	if s.latency.Quantile(0.5) <= 0 || s.latency.Quantile(0.5) > s.latency.Quantile(0.999) {
		t.Errorf("%s: p50 %v, p99.9 %v", name, s.latency.Quantile(0.5), s.latency.Quantile(0.999))
	}
	if s.connects < 1 {
		t.Errorf("%s: %d connections were made", name, s.connects)
	}
	if limit := s.workload.limit(); !s.who.peer.unbounded && s.connects > limit {
		t.Errorf("%s: %d connections were made, where the limit is %d", name, s.connects, limit)
	}
	if s.workload.remote && s.latency.Quantile(0.001) < 2*oneWay {
		t.Errorf("%s: an operation of %v", name, s.latency.Quantile(0.001))
	}
	if s.workload.storm == 0 && !(s.trips >= 1) {
		t.Errorf("%s: %v round trips for each operation", name, s.trips)
	}
	if v := s.spread(throughput); math.IsNaN(v.median) || v.median <= 0 {
		t.Errorf("%s: throughput %v", name, v)
	}
}

// TestOperationsDoTheirWork looks at the server after operations of each kind that changes something.
func TestOperationsDoTheirWork(t *testing.T) {
	s := serverTB(t)
	for _, p := range peers {
		for _, c := range []struct {
			workload, question string
			before, after      int64
		}{
			{"insert/1000", "select count(*) from sink where id between 0 and 999 and name = 'name of row ' || id", 0, insertRows},
			{"copy/1000", "select count(distinct name) + count(*) from sink", 0, 2 * insertRows},
			{"tx/1", "select balance from accounts where id = 1", 0, 1},
			{"tx/1", "select sum(balance)::bigint from accounts", 0, 0},
			{"remote/tx1", "select count(*) from sink where id = 0 and name = 'one row'", 0, 1},
			{"remote/gorm", "select count(*) from notes where name = 'a note'", 0, 1},
		} {
			if c.workload == "copy/1000" && p.wraps && p.name != "XSAM otelsql" && p.name != "otelpgx" {
				continue
			}
			if c.workload == "remote/gorm" && p.name == "pgxpool native" {
				continue
			}
			if err := s.empty(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := s.conn.Exec(t.Context(), "update accounts set balance = 0"); err != nil {
				t.Fatal(err)
			}
			if got := ask(t, s, c.question); got != c.before {
				t.Errorf("%s, before %s: %d", p.name, c.workload, got)
			}
			once(t, s, who{p, none}, c.workload)
			if got := ask(t, s, c.question); got != c.after {
				t.Errorf("%s, after %s: %s: got %d, want %d", p.name, c.workload, c.question, got, c.after)
			}
		}
	}
}

// TestWorkloadsThatTakeTurnsAreAlike: a group has its first workload's workers, turns and rounds.
func TestWorkloadsThatTakeTurnsAreAlike(t *testing.T) {
	together := 0
	for _, group := range groupsOf(regexp.MustCompile("")) {
		first := group[0]
		if first.beside != "" {
			t.Errorf("%s is not just after %s", first.name, first.beside)
		}
		for _, w := range group[1:] {
			together++
			if w.workers != first.workers || w.limit() != first.limit() || w.block != first.block || w.weight != first.weight {
				t.Errorf("%s and %s differ", first.name, w.name)
			}
			if w.storm != 0 || w.remote != first.remote {
				t.Errorf("%s and %s are measured in different ways", first.name, w.name)
			}
		}
	}
	if together == 0 {
		t.Error("no workloads take turns")
	}
	alone := groupsOf(regexp.MustCompile("^remote/session$"))
	if len(alone) != 1 || len(alone[0]) != 1 {
		t.Errorf("one that was asked for by itself: %v", alone)
	}
}

func ask(t *testing.T, s *server, question string) (n int64) {
	t.Helper()
	if err := s.conn.QueryRow(t.Context(), question).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// once does one operation of a workload.
func once(t *testing.T, s *server, p who, name string) {
	t.Helper()
	for _, w := range workloads {
		if w.name != name {
			continue
		}
		_, dsn := s.clientDSN()
		e, err := open(t.Context(), w, p, dsn)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.op(t.Context(), 0, 0); err != nil {
			t.Errorf("%v: %s: %v", p, name, err)
		}
		if err := e.close(); err != nil {
			t.Error(err)
		}
		return
	}
	t.Fatalf("there is no workload %s", name)
}
