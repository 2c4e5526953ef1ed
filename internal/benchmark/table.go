package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
)

// A column is one figure of each series.
type column struct {
	name   string // in the CSV file
	title  string // in the table; "": only in the CSV file
	value  func(*report, *series) float64
	digits int
}

func of(m figure, pick func(spread) float64) func(*report, *series) float64 {
	return func(_ *report, s *series) float64 { return pick(s.spread(m)) }
}

func first(s spread) float64  { return s.q1 }
func median(s spread) float64 { return s.median }
func third(s spread) float64  { return s.q3 }

// cpuRatio is what the CPU is of the base's, by round.
func cpuRatio(r *report, s *series) float64 {
	if b := r.baseOf(s); b != nil {
		return s.against(b, cpuPerOp, ratio).median
	}
	return math.NaN()
}

// told is NaN for what a proxy has its share of.
func told(value func(*report, *series) float64) func(*report, *series) float64 {
	return func(r *report, s *series) float64 {
		if s.workload.proxied() {
			return math.NaN()
		}
		return value(r, s)
	}
}

var columns = []column{
	{"rounds", "", func(_ *report, s *series) float64 { return float64(len(s.samples)) }, 0},
	{"operations", "", func(_ *report, s *series) float64 { return float64(s.latency.Count()) }, 0},
	{"ops_per_s_q1", "", of(throughput, first), 1},
	{"ops_per_s", "op/s", of(throughput, median), 0},
	{"ops_per_s_q3", "", of(throughput, third), 1},
	{"p50_ms", "p50 ms", of(p50, median), 3},
	{"p99_ms", "p99 ms", of(p99, median), 3},
	{"p999_ms", "p99.9 ms", of(p999, median), 3},
	{"cpu_us_q1", "", told(of(cpuPerOp, first)), 3},
	{"cpu_us", "CPU µs/op", told(of(cpuPerOp, median)), 2},
	{"cpu_us_q3", "", told(of(cpuPerOp, third)), 3},
	{"cpu_ratio", "÷ tuned", told(cpuRatio), 3},
	{"allocs", "allocs/op", told(of(allocs, median)), 1},
	{"bytes", "bytes/op", told(of(allocBytes, median)), 0},
	{"round_trips", "trips/op", func(_ *report, s *series) float64 { return s.trips }, 2},
	{"connects", "connects", func(_ *report, s *series) float64 { return float64(s.connects) }, 0},
	{"heap_kb", "heap kB", told(func(_ *report, s *series) float64 { return float64(s.heap) / 1000 }), 0},
}

func format(v float64, digits int) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return ""
	}
	return strconv.FormatFloat(v, 'f', digits, 64)
}

// shown formats a column for people: the three that tell how much the rounds differ carry their quartiles.
func (c column) shown(r *report, s *series) string {
	text := format(c.value(r, s), c.digits)
	var sp spread
	switch {
	case text == "":
		return text
	case c.name == "ops_per_s":
		sp = s.spread(throughput)
	case c.name == "cpu_us":
		sp = s.spread(cpuPerOp)
	case c.name == "cpu_ratio":
		sp = s.against(r.baseOf(s), cpuPerOp, ratio)
	default:
		return text
	}
	return fmt.Sprintf("%s (%s–%s)", text, format(sp.q1, c.digits), format(sp.q3, c.digits))
}

func titles() []string {
	row := []string{"workload", "peer", "telemetry"}
	for _, c := range columns {
		if c.title != "" {
			row = append(row, c.title)
		}
	}
	return row
}

func (r *report) row(s *series) []string {
	row := []string{s.workload.name, s.who.peer.name, s.who.level}
	for _, c := range columns {
		if c.title != "" {
			row = append(row, c.shown(r, s))
		}
	}
	return row
}

// print writes the table and the goals for a terminal.
func (r *report) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, fact := range r.facts() {
		_, _ = fmt.Fprintf(w, "%s: %s\n", fact[0], fact[1])
	}
	_, _ = fmt.Fprintf(w, "\n")
	_, _ = fmt.Fprintln(t, strings.Join(titles(), "\t"))
	for _, s := range r.series {
		_, _ = fmt.Fprintln(t, strings.Join(r.row(s), "\t"))
	}
	_ = t.Flush()
	_, _ = fmt.Fprintf(w, "\n")
	for _, l := range r.long {
		_, _ = fmt.Fprintf(w, "heap held by %v\n", l)
	}
	for _, b := range r.goals() {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\n", b.verdict(), b.what, b.figure)
	}
	_ = t.Flush()
}

// writeCSV writes every column of every series.
func (r *report) writeCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	header := []string{"workload", "peer", "telemetry"}
	for _, c := range columns {
		header = append(header, c.name)
	}
	rows := [][]string{header}
	for _, s := range r.series {
		row := []string{s.workload.name, s.who.peer.name, s.who.level}
		for _, c := range columns {
			row = append(row, format(c.value(r, s), c.digits+1))
		}
		rows = append(rows, row)
	}
	return out.WriteAll(rows)
}
