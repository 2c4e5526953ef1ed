//go:build linux

package lab

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// figures has what all runs have seen.
var figures table

// A row is what a fault has cost a client, in all runs.
type row struct {
	fault, client string
	seen          []observation
	verdict       verdict
}

// A table is rows, in the order in which the first of their runs has ended.
type table struct {
	mu   sync.Mutex // guards rows
	rows []*row
}

func (t *table) add(f fault, c client, o observation, v verdict) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := slices.IndexFunc(t.rows, func(r *row) bool { return r.fault == f.name && r.client == c.name })
	if at < 0 {
		at = len(t.rows)
		t.rows = append(t.rows, &row{fault: f.name, client: c.name})
	}
	r := t.rows[at]
	r.seen = append(r.seen, o)
	r.verdict.add(v)
}

// print writes the table in Markdown.
func (t *table) print(w io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.rows) == 0 {
		return
	}
	_, _ = fmt.Fprint(w, "\nMedian / 99th percentile. The outage is from the last reply to the next success, of any worker. –: not "+
		"while it was watched, 15 s for pgx and pgxpool.\n\n",
		"| fault | client | runs | outage | after the promotion | first error | each worker's first error by "+
			"| calls | errors | unknown | hung | doubled | lost |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range t.rows {
		v := r.verdict
		_, _ = fmt.Fprintf(w, "| %s | %s | %d | %s | %s | %s | %s | %d | %d | %d | %d | %d | %d |\n", r.fault, r.client, len(r.seen),
			r.quantiles(func(o observation) time.Duration { return o.outage }),
			r.quantiles(func(o observation) time.Duration { return o.promoted }),
			r.quantiles(func(o observation) time.Duration { return o.firstError }),
			r.quantiles(func(o observation) time.Duration { return o.lastFirst }),
			v.calls, v.errors, v.unknown, v.hung, v.doubled, v.lost)
	}
}

// quantiles are those of what has happened, and in how many runs it hasn't.
func (r *row) quantiles(of func(observation) time.Duration) string {
	var all []time.Duration
	for _, o := range r.seen {
		if d := of(o); d != absent {
			all = append(all, d)
		}
	}
	text := quantiles(all, shown)
	if never := len(r.seen) - len(all); never > 0 && len(all) > 0 {
		text += fmt.Sprintf(" (in %d never)", never)
	}
	return text
}

// quantiles are the median and the 99th percentile.
func quantiles(all []time.Duration, shown func(time.Duration) string) string {
	if len(all) == 0 {
		return "–"
	}
	slices.Sort(all)
	return shown(all[len(all)/2]) + " / " + shown(all[(len(all)*99+99)/100-1])
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// dials has how long dials have taken.
var dials durations

// durations are of two kinds, by what they were measured under.
type durations struct {
	mu    sync.Mutex // guards names and pairs
	names []string
	pairs map[string][2][]time.Duration
}

func (d *durations) add(name string, first, later time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pairs == nil {
		d.pairs = map[string][2][]time.Duration{}
	}
	pair, known := d.pairs[name]
	if !known {
		d.names = append(d.names, name)
	}
	d.pairs[name] = [2][]time.Duration{append(pair[0], first), append(pair[1], later)}
}

// print writes them in Markdown.
func (d *durations) print(w io.Writer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.names) == 0 {
		return
	}
	_, _ = fmt.Fprint(w, "\nFrom the beginning of a dial to the first reply; median / 99th percentile.\n\n",
		"| | pools | a pool's first | the longest of the others |\n|---|---|---|---|\n")
	for _, name := range d.names {
		pair := d.pairs[name]
		_, _ = fmt.Fprintf(w, "| %s | %d | %s | %s |\n", name, len(pair[0]), quantiles(pair[0], milliseconds), quantiles(pair[1], milliseconds))
	}
}
