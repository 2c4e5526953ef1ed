package main

import (
	"fmt"
	"strings"
)

// other is whom a headline compares with.
type other struct{ label, peer, level string }

// headlines are the rows that the README shows.
func (r *report) headlines() []string {
	var rows []string
	for _, h := range []struct {
		what, workload, level string
		m                     figure
		digits                int
		others                []other
	}{
		{"20 workers, queries of 2 ms, nothing tuned: queries per second", "plain", none, throughput, 0, []other{
			{"pgx", "pgx plain", none}, {"pgx with hand-tuned limits", base, none},
		}},
		{"100 workers on 10 connections, queries of 1 ms: p99 in ms", "overload", none, p99, 1, []other{
			{"pgx with hand-tuned limits", base, none},
		}},
		{"16 workers, short queries, all sampled: CPU of the client per query in µs", "telemetry/16", everything, cpuPerOp, 1, []other{
			{"otelpgx", "otelpgx", everything}, {"XSAM/otelsql", "XSAM otelsql", everything}, {"pgx without telemetry", base, none},
		}},
	} {
		var others []string
		for _, o := range h.others {
			others = append(others, o.label+" "+r.headline(h.workload, o.peer, o.level, h.m, h.digits))
		}
		mine := r.headline(h.workload, "pgprod", h.level, h.m, h.digits)
		rows = append(rows, markdownRow([]string{h.what, fmt.Sprintf("**%s**", mine), strings.Join(others, ", ")}))
	}
	return rows
}

// headline is one figure, "" where it wasn't measured.
func (r *report) headline(workload, peer, level string, m figure, digits int) string {
	s := r.find(workload, peer, level)
	if s == nil {
		return ""
	}
	return format(s.spread(m).median, digits)
}
