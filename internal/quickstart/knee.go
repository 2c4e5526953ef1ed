package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A size is about as good as the best if it has this much of the best throughput, and this many times the least p99, or
// better.
const (
	goodThroughput = 0.9
	goodP99        = 1.5
)

// knee returns the trial with the smallest size that is about as good as the best: of those with good throughput, the first
// with a good p99.
func knee(trials []trial) trial {
	best := bestTrial(trials)
	var good []trial
	for _, t := range trials {
		if t.perS() >= goodThroughput*best.perS() {
			good = append(good, t)
		}
	}
	least := slices.MinFunc(good, func(a, b trial) int { return int(a.p99() - b.p99()) })
	for _, t := range good {
		if float64(t.p99()) <= goodP99*float64(least.p99()) {
			return t
		}
	}
	return least
}

// bestTrial returns the trial with the highest throughput.
func bestTrial(trials []trial) trial {
	best := trials[0]
	for _, t := range trials {
		if t.perS() > best.perS() {
			best = t
		}
	}
	return best
}

// adviseSweep advises the size of the knee, and says why. It is a pure function.
func adviseSweep(trials []trial, limits limits) advice {
	k, best := knee(trials), bestTrial(trials)
	if best.took.Count() == 0 {
		return advice{why: []string{"Nothing was measured: let it work for longer."}}
	}
	a := advice{size: k.size, overflow: half(k.size)}
	a.say("%d is the knee: the smallest pool with at least %s of the best throughput (%s/s, with %d) and a p99 of at most "+
		"%.1f times the least of those.", k.size, percent(goodThroughput), thousands(int64(best.perS())), best.size, goodP99)
	i := slices.IndexFunc(trials, func(t trial) bool { return t.size == k.size })
	if i == 0 {
		a.say("No smaller one was tried: the users want no more than that.")
	} else {
		a.say("%s", compare(trials[i-1], k, "Half as many"))
	}
	if i == len(trials)-1 {
		a.say("No larger one was tried.")
	} else {
		a.say("%s", compare(trials[i+1], k, "Twice as many"))
	}
	a.say("The overflow is for bursts: half as many.")
	a.keepWithin(limits)
	return a
}

// compare says in a sentence what another size gives in comparison with the knee.
func compare(other, k trial, name string) string {
	change := 0.0
	if k.perS() > 0 {
		change = 100 * (other.perS()/k.perS() - 1)
	}
	return fmt.Sprintf("%s give %+.0f %% throughput, with a p99 of %s instead of %s.", name, change, short(other.p99()), short(k.p99()))
}

// sweepTable returns a table with a line for each trial, which has bars for throughput and p99.
func sweepTable(trials []trial, width int) string {
	const figures = 46 // columns that aren't bars
	room := max(10, (width-figures)/2)
	k, best := knee(trials), bestTrial(trials)
	var slowest time.Duration
	for _, t := range trials {
		slowest = max(slowest, t.p99())
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%5s%12s  %-*s%8s%8s\n", "size", "requests/s", room, "", "p50", "p99")
	for _, t := range trials {
		line := fmt.Sprintf("%5d%12s  %-*s%8s%8s  %-*s  %s", t.size, thousands(int64(t.perS())), room, bar(t.perS()/max(1, best.perS()), room),
			short(t.took.Quantile(0.5)), short(t.p99()), room, bar(float64(t.p99())/float64(max(1, slowest)), room), t.note(k))
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

// note is what the table shows at the end of a trial's line.
func (t trial) note(knee trial) string {
	var notes []string
	if t.size == knee.size {
		notes = append(notes, "◄ knee")
	}
	if t.failed > 0 {
		notes = append(notes, fmt.Sprintf("%d failed", t.failed))
	}
	return strings.Join(notes, ", ")
}
