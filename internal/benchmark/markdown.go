package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"
)

// writeMarkdown writes the page for the repository.
func (r *report) writeMarkdown(w io.Writer) error {
	out := bufio.NewWriter(w)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) } // Flush tells the error
	line("# What pgprod costs and gains\n")
	line("Written by the command below; don't edit. Figures are of one noisy machine: compare them with each other only.\n")
	for _, fact := range r.facts() {
		line("- %s: %s", fact[0], fact[1])
	}
	line("\n## Headlines\n\n| workload | pgprod | others |\n|---|---|---|\n%s", strings.Join(r.headlines(), "\n"))
	line("\n## Goals\n\n| | what | figure |\n|---|---|---|")
	for _, b := range r.goals() {
		line("| %s | %s | %s |", b.verdict(), b.what, b.figure)
	}
	line("\n![Each workload's peers](results.svg)\n\n## Workloads\n")
	seen := map[string]bool{}
	for _, s := range r.series {
		if !seen[s.workload.name] {
			seen[s.workload.name] = true
			line("- `%s`: %s", s.workload.name, s.workload.about)
		}
	}
	line("\n## Heap held after a long run\n")
	for _, l := range r.long {
		line("- %v", l)
	}
	line("\n## Method\n\n%s", r.method())
	line("## Results\n\n%s\n%s", markdownRow(titles()), markdownRow(make([]string, len(titles()))))
	for _, s := range r.series {
		line("%s", markdownRow(r.row(s)))
	}
	return out.Flush()
}

// markdownRow is a row of a table; one of empty cells is the line below the header.
func markdownRow(cells []string) string {
	if strings.Join(cells, "") == "" {
		return strings.Repeat("|---", len(cells)) + "|"
	}
	return "| " + strings.Join(cells, " | ") + " |"
}

func (r *report) method() string {
	perOp := time.Duration(r.harness.perOp(float64(r.harness.cpu)))
	return fmt.Sprintf(`All peers of a workload work in turn, in turns of %v, %d of which make a round (longer ones for slower work), in a new order each
time. A figure is the median of the rounds, with quartiles in brackets; latencies are of all rounds together. CPU is user and system time of the
client's process; "÷ tuned" is the median of the rounds' ratios to hand-tuned pgx in the same round. The workers
themselves use %v and %.2f allocations for each operation, which are contained in all figures. Round trips are counted
in a pass of their own, by a proxy; "connects" are all connections that were made, in a storm those of one round; "heap"
is what closing the pool set free. In remote workloads a proxy holds back what either side sends for %v; its share of
CPU and heap can't be told from the client's, so neither is shown there, nor in a storm. Every pool is limited to %d
connections unless the workload says otherwise, and every operation checks what the server returned.
`, defaultBlock, defaultPasses, perOp, r.harness.perOp(float64(r.harness.mallocs)), oneWay, defaultConns)
}
