package activity

import (
	"cmp"
	"math/bits"
	"slices"
	"sync"
	"time"
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
	count, errors, rows int64
	total, max          time.Duration
	buckets             [buckets]uint32
}

// Buckets of durations: four for each power of two of nanoseconds, from 2^shortest, which is about a microsecond, to
// 2^longest, which is 18 minutes. What is shorter or longer is in the first or the last.
const (
	shortest = 10
	longest  = 40
	buckets  = 4 * (longest - shortest)
)

func bucketOf(d time.Duration) int {
	n := uint64(max(d, 1<<shortest))
	power := bits.Len64(n) - 1
	return min(4*(power-shortest)+int(n>>(power-2)&3), buckets-1)
}

// upper is the longest duration of a bucket.
func upper(bucket int) time.Duration {
	power, part := shortest+bucket/4, bucket%4
	return time.Duration(5+part) << (power - 2)
}

// Record adds a statement that took a duration.
func (s *Statements) Record(summary string, took time.Duration, rows int64, failed bool) {
	e := s.entry(summary)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.turnLocked(s.clock())
	e.now.count++
	if failed {
		e.now.errors++
	}
	e.now.rows += rows
	e.now.total += took
	e.now.max = max(e.now.max, took)
	e.now.buckets[bucketOf(took)]++
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
		e = &entry{began: s.clock()}
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
		e.old, e.began = sums{}, now
	}
	e.now = sums{}
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
		if both := e.old.plus(&e.now); both.count > 0 {
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

func (s sums) plus(o *sums) sums {
	s.count += o.count
	s.errors += o.errors
	s.rows += o.rows
	s.total += o.total
	s.max = max(s.max, o.max)
	for i, n := range o.buckets {
		s.buckets[i] += n
	}
	return s
}

func (s *sums) statement(summary string) Statement {
	return Statement{
		Summary: summary, Count: s.count, Errors: s.errors, Rows: s.rows, Total: s.total, Max: s.max,
		P50: s.quantile(50), P95: s.quantile(95), P99: s.quantile(99),
	}
}

// quantile is a duration that percent of the statements didn't exceed, a quarter too long at worst.
func (s *sums) quantile(percent int64) time.Duration {
	rank, seen := (s.count*percent+99)/100, int64(0)
	for i, n := range s.buckets {
		if seen += int64(n); seen >= rank {
			return min(upper(i), s.max)
		}
	}
	return s.max
}
