package pool

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestStacksAreTakenOfAllButInABusyPool(t *testing.T) {
	var b stackBudget
	now := int64(time.Hour)
	taken := func(checkouts int, every time.Duration) (n int) {
		for range checkouts {
			now += int64(every)
			if b.allows(now) {
				n++
			}
		}
		return n
	}
	assert.Equal(t, 1000, taken(1000, stackEvery), "four thousand a second")
	now += int64(time.Second)
	assert.Equal(t, stackBurst, taken(1000, 0), "a burst")
	assert.InDelta(t, 4000, taken(100_000, 10*time.Microsecond), 200, "a hundred thousand in a second")

	b.unbound.Store(now + int64(time.Second))
	assert.Equal(t, 1000, taken(1000, 0), "after a leak whose own is missing")
	now += int64(time.Second)
	taken(2*stackBurst, 0)
	assert.Zero(t, taken(1000, 0))
}
