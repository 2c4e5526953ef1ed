package stack

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestStacksAreTakenOfAllButInABusyPool(t *testing.T) {
	var b Budget
	now := int64(time.Hour)
	taken := func(checkouts int, pause time.Duration) (n int) {
		for range checkouts {
			now += int64(pause)
			if b.Allows(now) {
				n++
			}
		}
		return n
	}
	assert.Equal(t, 1000, taken(1000, interval), "four thousand a second")
	now += int64(time.Second)
	assert.Equal(t, burst, taken(1000, 0), "a burst")
	assert.InDelta(t, 4000, taken(100_000, 10*time.Microsecond), 200, "a hundred thousand in a second")

	b.Missed(now)
	assert.Equal(t, 1000, taken(1000, 0), "after a leak whose own is missing")
	now += int64(unlimitedFor)
	taken(2*burst, 0)
	assert.Zero(t, taken(1000, 0))
}
