package link

import (
	"context"
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/trace"

	"github.com/pgprod/pgprod/internal/repeats"
	"github.com/pgprod/pgprod/internal/sqlsummary"
)

// A Count counts the statements that run under a context. It is safe for concurrent use.
type Count struct {
	outer *Count // of the context that this one's was made from; nil: there is none

	mu        sync.Mutex // guards what follows; nothing else is locked under it
	bySummary map[string]int
}

type countKey struct{}

// anyCount is true once WithCount was called. Programs that don't use it are spared to look into each context.
var anyCount atomic.Bool

// WithCount returns a context whose statements are counted, also by the counts that ctx brings.
func WithCount(ctx context.Context) (context.Context, *Count) {
	anyCount.Store(true)
	c := &Count{outer: countOf(ctx), bySummary: map[string]int{}}
	return context.WithValue(ctx, countKey{}, c), c
}

// countOf returns the innermost count that a context brings, nil for none.
func countOf(ctx context.Context) *Count {
	if ctx == nil {
		return nil
	}
	c, _ := ctx.Value(countKey{}).(*Count)
	return c
}

// BySummary returns how many statements were counted, by their summary. The map is the caller's.
func (c *Count) BySummary() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.bySummary)
}

// Reset begins to count at 0 again. It doesn't concern other counts.
func (c *Count) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.bySummary)
}

// add counts a statement here and in all outer counts, but not in a count that has it already because it is also among those
// from done on.
func (c *Count) add(summary string, done *Count) {
	for ; c != nil && !done.isWithin(c); c = c.outer {
		c.mu.Lock()
		c.bySummary[summary]++
		c.mu.Unlock()
	}
}

// isWithin reports whether c is other, or within it.
func (c *Count) isWithin(other *Count) bool {
	for ; c != nil; c = c.outer {
		if c == other {
			return true
		}
	}
	return false
}

// counted is what is known of a statement that was counted, through all its attempts.
type counted struct {
	rows repeats.Rows // those that it is part of, in development
}

// ended is called at now, by package clock, when the statement has ended. k is nil if it was not counted.
func (k *counted) ended(now int64) {
	if k != nil {
		k.rows.Ended(now)
	}
}

// isCounting reports whether somebody may want to know of each statement.
func (c *Conn) isCounting() bool { return anyCount.Load() || c.dialer.hooks.Repeats != nil }

// noteCounted is called when isCounting and a statement has begun, with its context, in which it has no span yet. It counts
// the statement for its context and for that of its transaction. A statement that is tried again was counted before.
func (c *Conn) noteCounted(ctx context.Context, summary string) {
	if c.attempt.undecided && c.attempt.counted != nil {
		return
	}
	c.attempt.counted = &counted{}
	if anyCount.Load() {
		own := countOf(ctx)
		own.add(summary, nil)
		if c.tx.active {
			countOf(c.tx.ctx).add(summary, own)
		}
	}
	if d := c.dialer.hooks.Repeats; d != nil {
		c.attempt.counted.rows = d.Began(c.purpose(ctx), summary, c.stmt.began)
	}
}

// purpose returns the context that says what a statement runs for: its own, or, if that says nothing because the statement
// was called without one, that of its transaction.
func (c *Conn) purpose(ctx context.Context) context.Context {
	if c.tx.active && (ctx == nil || ctx.Done() == nil && !trace.SpanContextFromContext(ctx).IsValid()) {
		return c.tx.ctx
	}
	return ctx
}

// bounds reports whether a text is a single statement that begins or ends a transaction, which isn't counted: whether a
// BEGIN is a statement of its own depends on settings.
func bounds(sql string) bool {
	first, second := sqlsummary.FirstWords(sql)
	switch strings.ToLower(first) {
	case "begin", "commit", "end", "abort":
	case "start", "prepare":
		if !strings.EqualFold(second, "transaction") {
			return false
		}
	case "rollback":
		if strings.EqualFold(second, "to") {
			return false
		}
	default:
		return false
	}
	return isOne(sql)
}
