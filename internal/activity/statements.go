package activity

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/pgprod/pgprod/internal/histogram"
)

const (
	// window is how long sums are collected before new ones are begun. The current window and the one before are shown.
	window = 5 * time.Minute
	// maxStatements bounds the summaries that are kept apart. Statements with further ones are added up as others.
	maxStatements = 500
	others        = "(other statements)"
)

// Statements collects durations, rows and errors of statements by summary. It is safe for concurrent use.
type Statements struct {
	mu    sync.Mutex // guards m; an entry's own mutex may be locked under it
	m     map[string]*entry
	clock func() time.Time // time.Now; tests have another
}

// NewStatements returns empty Statements.
func NewStatements() *Statements { return &Statements{m: map[string]*entry{}, clock: time.Now} }

// An entry has the sums of one summary.
type entry struct {
	mu    sync.Mutex // guards what follows
	began time.Time  // when the current window began
	now   sums       // of the current window
	old   sums       // of the window before
}

// sums are what the statements of one summary add up to in one window.
type sums struct {
	errors, rows         int64
	total                time.Duration
	waited, server, read time.Duration // see Execution
	took                 *histogram.Histogram
}

// precision is that of the histograms: quantiles are at most a quarter too long, and a histogram takes about a kilobyte.
const precision = 2

// newSums returns sums of nothing.
func newSums() sums { return sums{took: histogram.New(precision)} }

// An Execution is one execution of a statement.
type Execution struct {
	Took   time.Duration
	Waited time.Duration // for the connection, before
	Server time.Duration // the part of Took in which the server was awaited
	Read   time.Duration // the part of Took in which the result was read
	Rows   int64         // rows returned or affected
	Failed bool
}

// Record adds one execution of a statement.
func (s *Statements) Record(summary string, x Execution) {
	e := s.entry(summary)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.turnLocked(s.clock())
	e.now.add(x)
}

// add adds one execution.
func (s *sums) add(x Execution) {
	if x.Failed {
		s.errors++
	}
	s.rows += x.Rows
	s.total += x.Took
	s.waited, s.server, s.read = s.waited+x.Waited, s.server+x.Server, s.read+x.Read
	s.took.Record(x.Took)
}

// entry finds or makes the entry of a summary, or that of others if there are too many.
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

// turnLocked begins a new window if the current one is over. If nothing was recorded for two windows both are empty.
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

// List returns what was recorded in the current window and the one before, by total time, the most first. Summaries that
// weren't recorded in that time are removed, which makes room for others.
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

// plus returns the sum of both, which shares no memory with them.
func (s sums) plus(o sums) sums {
	both := newSums()
	both.errors, both.rows, both.total = s.errors+o.errors, s.rows+o.rows, s.total+o.total
	both.waited, both.server, both.read = s.waited+o.waited, s.server+o.server, s.read+o.read
	both.took.Add(s.took)
	both.took.Add(o.took)
	return both
}

// statement returns the sums as a Statement.
func (s sums) statement(summary string) Statement {
	return Statement{
		Summary: summary, Count: s.took.Count(), Errors: s.errors, Rows: s.rows, Total: s.total, Max: s.took.Longest(),
		Waited: s.waited, Server: s.server, Read: s.read,
		P50: s.took.Quantile(0.50), P95: s.took.Quantile(0.95), P99: s.took.Quantile(0.99),
	}
}
