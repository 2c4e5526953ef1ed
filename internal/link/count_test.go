package link

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestWhatBeginsAndEndsTransactionsDoesNotCount(t *testing.T) {
	for _, sql := range []string{
		"begin", "BEGIN isolation level serializable", "start transaction", "commit", "/* tag */ commit", "end", "abort", "rollback",
		"prepare transaction 'x'", "rollback prepared 'x'", "commit;",
	} {
		assert.True(t, bounds(sql), sql)
	}
	for _, sql := range []string{
		"", "select 1", "savepoint a", "rollback to a", "rollback to savepoint a", "release a", "prepare p as select 1",
		"begin; delete from items; commit", "commit; select 1",
	} {
		assert.False(t, bounds(sql), sql)
	}
}

func TestACountIsWithinItselfAndItsOuterOnes(t *testing.T) {
	outerCtx, outer := WithCount(t.Context())
	_, inner := WithCount(outerCtx)
	_, other := WithCount(t.Context())
	assert.True(t, inner.isWithin(inner))
	assert.True(t, inner.isWithin(outer))
	assert.False(t, outer.isWithin(inner))
	assert.False(t, inner.isWithin(other))
	assert.False(t, (*Count)(nil).isWithin(other))
}

// BenchmarkNobodyCounts is what a statement costs more in production than if there were no counts.
func BenchmarkNobodyCounts(b *testing.B) {
	was := anyCount.Swap(false)
	defer anyCount.Store(was)
	c, carried := &Conn{dialer: &Dialer{}}, Carried{}
	b.ReportAllocs()
	for b.Loop() {
		c.attempt.counted = carried.counted
		if c.isCounting() {
			c.noteCounted(context.Background(), "")
		}
		c.attempt.counted.ended(0)
	}
}
