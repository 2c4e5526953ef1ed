package activity

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/pgprod/pgprod/internal/histogram"
)

const (
	// window is how long durations are kept apart: what is shown is the current window and the one before.
	window = 5 * time.Minute
	// maxStatements bounds the summaries that are told apart.
	maxStatements = 500
	others        = "(other statements)"
)

// Statements keeps durations, rows and errors by summary. It is safe for concurrent use.
type Statements struct {
	mu    sync.Mutex // guards m; each entry has a lock of its own
	m     map[string]*entry
	clock func() time.Time // time.Now, but in tests
}

// NewStatements returns an empty one.
func NewStatements() *Statements { return &Statements{m: map[string]*entry{}, clock: time.Now} }

// entry is one summary's.
type entry struct {
	mu       sync.Mutex // guards the fields below
	began    time.Time  // of the current window
	now, old sums
}

// sums are those of one window.
type sums struct {
	errors, rows int64
	total        time.Duration
	took         *histogram.Histogram
}

// precision makes quantiles that are a quarter too long at worst, and histograms of about a kilobyte.
const precision = 2

func newSums() sums { return sums{took: histogram.New(precision)} }

// Record adds a statement that took a duration.
func (s *Statements) Record(summary string, took time.Duration, rows int64, failed bool) {
	e := s.entry(summary)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.turnLocked(s.clock())
	if failed {
		e.now.errors++
	}
	e.now.rows += rows
	e.now.total += took
	e.now.took.Record(took)
}

func (s *Statements) entry(summary string) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.m[summary]
	if e == nil && len(s.m) >= maxStatements {
		summary = others
		e = s.m[summary]
	}
	if e == nil {
		e = &entry{began: s.clock(), now: newSums(), old: newSums()}
		s.m[summary] = e
	}
	return e
}

// turnLocked begins another window when it is time.
func (e *entry) turnLocked(now time.Time) {
	switch age := now.Sub(e.began); {
	case age < window:
		return
	case age < 2*window:
		e.old, e.began = e.now, e.began.Add(window)
	default:
		e.old, e.began = newSums(), now
	}
	e.now = newSums()
}

// List returns what was recorded in the last one to two windows, by the time spent in all, the most first. Summaries
// that weren't used in that time are forgotten, which makes room for others.
func (s *Statements) List() []Statement {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Statement, 0, len(s.m))
	for summary, e := range s.m {
		e.mu.Lock()
		e.turnLocked(s.clock())
		if both := e.old.plus(e.now); both.took.Count() > 0 {
			all = append(all, both.statement(summary))
		} else {
			delete(s.m, summary)
		}
		e.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b Statement) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(a.Summary, b.Summary))
	})
	return all
}

// plus is a sum of its own: neither s nor o changes with it.
func (s sums) plus(o sums) sums {
	both := newSums()
	both.errors, both.rows, both.total = s.errors+o.errors, s.rows+o.rows, s.total+o.total
	both.took.Add(s.took)
	both.took.Add(o.took)
	return both
}

func (s sums) statement(summary string) Statement {
	return Statement{
		Summary: summary, Count: s.took.Count(), Errors: s.errors, Rows: s.rows, Total: s.total, Max: s.took.Longest(),
		P50: s.took.Quantile(0.50), P95: s.took.Quantile(0.95), P99: s.took.Quantile(0.99),
	}
}
