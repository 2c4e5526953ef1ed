package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/histogram"
)

// report is what the program prints at the end, and serves with -addr.
func (l *load) report() (string, error) {
	s, err := l.pool.status()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(l.requestTable())
	b.WriteString("\nOn purpose\n" + indent(l.demos.String()))
	b.WriteString("Errors\n" + indent(l.failures.String()))
	b.WriteString("Pool " + s.PoolName + "\n" + indent(poolText(s)))
	return b.String(), nil
}

// String describes the load in a sentence.
func (l *load) String() string {
	o := l.options
	return fmt.Sprintf("%d users for %v, each thinking %v in between: point reads (prepared), lists,\ntransfers (transactions).",
		o.users, o.duration, o.think)
}

// requestTable is a table with a line for each kind of request, and one for all.
func (l *load) requestTable() string {
	var b strings.Builder
	elapsed := time.Since(l.began)
	fmt.Fprintf(&b, "%-10s%10s%9s%8s%8s%8s%8s\n", "", "requests", "per s", "p50", "p95", "p99", "max")
	for _, k := range l.kinds {
		b.WriteString(requestLine(k.name, k.took, elapsed))
	}
	b.WriteString(requestLine("all", l.all(), elapsed))
	return b.String()
}

func requestLine(name string, l *histogram.Histogram, elapsed time.Duration) string {
	n := l.Count()
	return fmt.Sprintf("%-10s%10s%9s%8s%8s%8s%8s\n", name, thousands(n), thousands(int64(float64(n)/elapsed.Seconds())),
		short(l.Quantile(0.50)), short(l.Quantile(0.95)), short(l.Quantile(0.99)), short(l.Quantile(1)))
}

// poolText is a pool's status for people.
func poolText(s pgprod.PoolStatus) string {
	var b strings.Builder
	fmt.Fprintf(&b, "size        %d, overflow up to %s\n", s.PoolSize, overflowLimit(s))
	fmt.Fprintf(&b, "now         %d checked out, %d idle, %d overflow, %d callers waiting\n",
		s.CheckedOut, s.CheckedIn, s.Overflow, s.Waiting)
	fmt.Fprintf(&b, "peak        %d checked out, utilisation %s\n", s.PeakCheckedOut, percent(s.PeakUtilisation))
	fmt.Fprintf(&b, "waits       %s, %s each on average; %s timeouts\n",
		thousands(s.Waits), short(s.WaitTime/time.Duration(max(1, s.Waits))), thousands(s.Timeouts))
	fmt.Fprintf(&b, "connections %s failed attempts; closed: %s\n", thousands(s.FailedConnects), closings(s.Closed))
	return b.String()
}

// capacity is the most connections that there may be, as text.
func capacity(s pgprod.PoolStatus) string {
	if s.MaxOverflow < 0 {
		return "any"
	}
	return strconv.Itoa(s.PoolSize + s.MaxOverflow)
}

func overflowLimit(s pgprod.PoolStatus) string {
	if s.MaxOverflow < 0 {
		return "any number"
	}
	return strconv.Itoa(s.MaxOverflow)
}

// closings lists how many connections were closed for each reason.
func closings(counts map[string]int64) string {
	var all []string
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, thousands(counts[reason])+" "+reason)
	}
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("  " + line)
	}
	return b.String()
}
