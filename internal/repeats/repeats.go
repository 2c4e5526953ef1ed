// Package repeats finds a statement that a program runs again and again where one would do: the same summary many times in a
// row under one parent, as in a loop that asks for the relatives of each row (N+1). It is for development only.
//
//	repeats.go   Detector: counts statements in a row, and keeps what it has found
//	parent.go    what statements have in common that run for the same purpose
package repeats

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/stack"
)

const (
	// Enough is how many times a statement has to run in a row to be found.
	Enough = 10
	// maxPause is the longest time between the end of a statement and the begin of the next one in the same row. A loop over
	// rows makes shorter pauses; what polls or ticks makes longer ones.
	maxPause = 100 * time.Millisecond
	// maxParents bounds the parents that are remembered, twice: those of now, and those of before.
	maxParents = 1000
	// maxFound bounds what is kept of what was found. The one that was not found for the longest time makes room.
	maxFound = 100
)

// A Detector counts the statements of one pool. It is safe for concurrent use.
type Detector struct {
	// tell is called for each new finding: the first time that a summary and a line of code are found together.
	tell func(context.Context, activity.Repetition)

	mu  sync.Mutex // guards what follows; nothing else is locked under it
	now map[parent]*row
	old map[parent]*row // what now was before it was full
	all []*activity.Repetition
}

// New returns a Detector that calls tell, without a lock, for each new finding.
func New(tell func(context.Context, activity.Repetition)) *Detector {
	return &Detector{tell: tell, now: map[parent]*row{}}
}

// A row is the statements that ran one after another under one parent, as long as they have the same summary.
type row struct {
	last atomic.Int64 // by package clock: when the last one has begun, or ended

	// Guarded by Detector.mu:
	summary string
	times   int
	found   *activity.Repetition // nil: it was not found yet
}

// Rows are those that a statement is part of. The zero value is none.
type Rows struct{ of [parents]*row }

// Ended is called at now, by package clock, when the statement has ended.
func (r Rows) Ended(now int64) {
	for _, one := range r.of {
		if one != nil {
			one.last.Store(now)
		}
	}
}

// Began is called at now, by package clock, in the goroutine of the caller, when a statement begins that has this summary.
// ctx is the statement's, without a span of its own.
func (d *Detector) Began(ctx context.Context, summary string, now int64) Rows {
	of := parentsOf(ctx)
	r, enough := d.count(of, summary, now)
	if enough {
		d.note(ctx, r, summary)
	}
	return r
}

// count adds a statement to the rows of its parents. enough reports that one of them has just become long enough to be
// found.
func (d *Detector) count(of [parents]parent, summary string, now int64) (r Rows, enough bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, p := range of {
		if p != (parent{}) {
			r.of[i] = d.rowLocked(p)
			enough = r.of[i].addLocked(summary, now) || enough
		}
	}
	return r, enough
}

// addLocked adds a statement. It reports whether the row has become long enough to be found.
func (r *row) addLocked(summary string, now int64) bool {
	if r.summary != summary || now-r.last.Load() > int64(maxPause) {
		r.summary, r.times, r.found = summary, 0, nil
	}
	r.last.Store(now)
	r.times++
	if r.found != nil {
		r.found.Times = max(r.found.Times, r.times)
		return false
	}
	return r.times == Enough
}

// rowLocked finds or makes the row of a parent. If there are too many, those are forgotten that were not used for the
// longest time: half of them, or more.
func (d *Detector) rowLocked(p parent) *row {
	if r := d.now[p]; r != nil {
		return r
	}
	r := d.old[p]
	if r == nil {
		r = &row{}
	}
	if len(d.now) >= maxParents {
		d.old, d.now = d.now, map[parent]*row{}
	}
	d.now[p] = r
	return r
}

// note notes that a row is long enough, with the line of code that has called, and tells if that is new.
func (d *Detector) note(ctx context.Context, rows Rows, summary string) {
	var trace stack.Deep
	trace.Take()
	caller, frames := trace.Caller(), trace.Frames()
	found := activity.Repetition{Summary: summary, Caller: caller, Stack: frames, First: time.Now()}
	if isNew := d.keep(&found, rows); isNew {
		d.tell(ctx, found)
	}
}

// keep keeps a finding, or counts it up if it is there already, and connects it with its rows, so that it grows with them.
// found is set to what is kept.
func (d *Detector) keep(found *activity.Repetition, rows Rows) (isNew bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	kept := d.keptLocked(found)
	isNew = kept.Found == 0
	kept.Found++
	kept.Last = found.First
	for _, r := range rows.of {
		if r != nil && r.summary == found.Summary { // another goroutine may have begun another row meanwhile
			r.found = kept
			kept.Times = max(kept.Times, r.times)
		}
	}
	kept.Times = max(kept.Times, Enough)
	*found = *kept
	return isNew
}

// keptLocked returns what is kept with the same summary and line, or a copy of found that is kept from now on.
func (d *Detector) keptLocked(found *activity.Repetition) *activity.Repetition {
	for _, kept := range d.all {
		if kept.Summary == found.Summary && kept.Caller == found.Caller {
			return kept
		}
	}
	if len(d.all) >= maxFound {
		oldest := slices.MinFunc(d.all, func(a, b *activity.Repetition) int { return a.Last.Compare(b.Last) })
		d.all = slices.DeleteFunc(d.all, func(r *activity.Repetition) bool { return r == oldest })
	}
	kept := *found
	d.all = append(d.all, &kept)
	return &kept
}

// List returns what was found, the most in a row first. A nil Detector has found nothing.
func (d *Detector) List() []activity.Repetition {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]activity.Repetition, len(d.all))
	for i, kept := range d.all {
		all[i] = *kept
	}
	slices.SortStableFunc(all, func(a, b activity.Repetition) int {
		return cmp.Or(cmp.Compare(b.Times, a.Times), cmp.Compare(a.Summary, b.Summary))
	})
	return all
}
