package main

import (
	"encoding/csv"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgprod/pgprod/internal/docs"
)

// sampleReport has two peers, of which pgprod costs a tenth more.
func sampleReport(t *testing.T) *report {
	t.Helper()
	o, err := parseFlags([]string{"-short", "-run", "a|b"}, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	r := newReport(o, &server{version: "15"})
	for i, p := range peers[:2] {
		s := &series{workload: workloads[0], who: who{p, none}, latency: newLatencies(), trips: 1, connects: 2, heap: 3000}
		for round := range 4 {
			cpu := time.Duration(10+round) * time.Millisecond
			if i == 0 {
				cpu = cpu * 11 / 10
			}
			s.samples = append(s.samples, sample{ops: 1000, elapsed: time.Second, cpu: cpu, mallocs: uint64(18000 - 2000*i), bytes: 1 << 20})
			s.latency.Record(time.Millisecond)
		}
		r.add([]*series{s})
	}
	return r
}

func TestTheCSVFileReadsBack(t *testing.T) {
	r := sampleReport(t)
	var out strings.Builder
	if err := r.writeCSV(&out); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(out.String())).ReadAll()
	if err != nil || len(rows) != 3 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	want := map[string]float64{
		"ops_per_s": 1000, "cpu_us": 12.65, "cpu_ratio": 1.1, "allocs": 18, "round_trips": 1, "connects": 2, "heap_kb": 3,
		"rounds": 4, "operations": 4, "p99_ms": 1,
	}
	for i, name := range rows[0][3:] {
		got, err := strconv.ParseFloat(rows[1][i+3], 64)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if w, ok := want[name]; ok && math.Abs(got-w) > 0.01*w {
			t.Errorf("%s: got %v, want %v", name, got, w)
		}
	}
	if strings.Join(rows[2][:3], " ") != "query/1 pgx tuned none" {
		t.Errorf("second series: %q", rows[2])
	}
}

func TestTheChartIsWellFormed(t *testing.T) {
	panels := sampleReport(t).panels()
	panels[0].title += ` <&"`
	panels[0].bars = append(panels[0].bars, svgBar{label: "nothing", spread: spread{math.NaN(), math.NaN(), math.NaN()}})
	var out strings.Builder
	if err := writeSVG(&out, panels); err != nil {
		t.Fatal(err)
	}
	decoder := xml.NewDecoder(strings.NewReader(out.String()))
	elements := map[string]int{}
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if start, ok := token.(xml.StartElement); ok {
			elements[start.Name.Local]++
		}
	}
	if elements["svg"] != 1 || elements["rect"] != 3 || elements["line"] != 2 {
		t.Errorf("elements: %v", elements)
	}
	if strings.Contains(out.String(), "NaN") {
		t.Error("a figure that wasn't measured is drawn")
	}
}

func TestThePageHasEveryBarAndSeries(t *testing.T) {
	r := sampleReport(t)
	var out strings.Builder
	if err := r.writeMarkdown(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"`go -C internal/benchmark run . -short -run 'a|b'`", "| FAIL | query/1, no telemetry: CPU ≤ 1.08 × pgx tuned | 1.100 (1.100–1.100) |",
		"| pass | query/1, no telemetry: at most 3 allocations more than pgx tuned | 2.0 |", "| not run | overload",
		"| query/1 | pgprod | none | 1000 (1000–1000) |",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("missing: %s", want)
		}
	}
	var terminal strings.Builder
	r.print(&terminal)
	if !strings.Contains(terminal.String(), "not run  plain") {
		t.Errorf("on the terminal:\n%s", terminal.String())
	}
}

// TestTheGoalOfRoundTripsSaysWhereTheyDiffer for pgprod with more, as many and fewer of them than base.
func TestTheGoalOfRoundTripsSaysWhereTheyDiffer(t *testing.T) {
	for trips, want := range map[float64]goal{
		2:   {figure: "more in query/1: 2, 1"},
		1:   {figure: "the same in all", met: true},
		0.5: {figure: "fewer in query/1: 0.5, 1", met: true},
	} {
		r := sampleReport(t)
		r.series[0].trips = trips
		if got := r.tripsGoal(); got.figure != want.figure || got.met != want.met || !got.run {
			t.Errorf("%v round trips: %+v", trips, got)
		}
	}
}

// TestGoalsOfARemoteServer are met by a pgprod that waits half as long as base, or as long as without what it is asked
// for, and by no other.
func TestGoalsOfARemoteServer(t *testing.T) {
	for _, c := range []struct {
		took     time.Duration // by pgprod, where base and pgprod without SET take 10ms
		connects int           // by pgprod with SET
		met      []bool
	}{
		{5 * time.Millisecond, 1, []bool{true, true, true, true, true, true, true, true}},
		{8 * time.Millisecond, 1, []bool{false, true, false, false, true, true, true, true}},
		{12 * time.Millisecond, 2, []bool{false, false, false, false, false, false, false, false}},
	} {
		r := sampleReport(t)
		r.series = nil
		for _, w := range workloads {
			for _, p := range w.participants(r.options) {
				took, connects := 10*time.Millisecond, 1
				if p.peer.name == "pgprod" && w.name != "remote/conn" && w.name != "remote/query" {
					took, connects = c.took, c.connects
				}
				s := &series{workload: w, who: p, latency: newLatencies(), trips: float64(connects), connects: connects}
				s.samples = []sample{{ops: 100, elapsed: 100 * took}}
				s.latency.Record(took)
				r.add([]*series{s})
			}
		}
		for i, g := range r.remoteGoals() {
			if !g.run || g.met != c.met[i] {
				t.Errorf("pgprod took %v: %+v", c.took, g)
			}
		}
	}
}

// TestTheREADMEShowsTheHeadlinesOfTheResults holds the README against the page that was committed.
func TestTheREADMEShowsTheHeadlinesOfTheResults(t *testing.T) {
	results, err := os.ReadFile("RESULTS.md")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := docs.Read("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, headlines, _ := strings.Cut(string(results), "## Headlines\n\n")
	headlines, _, found := strings.Cut(headlines, "\n\n")
	if !found || strings.Count(headlines, "\n") != 4 {
		t.Fatalf("headlines: %q", headlines)
	}
	if !strings.Contains(readme, headlines) {
		t.Errorf("the README lacks\n%s", headlines)
	}
}

func TestWrongFlagsAreRefused(t *testing.T) {
	for _, args := range [][]string{{"-run", "("}, {"-peers", "["}, {"-rounds", "-1"}, {"extra"}, {"-nonsense"}} {
		if _, err := parseFlags(args, io.Discard); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}
