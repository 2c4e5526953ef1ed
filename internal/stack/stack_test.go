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

// borrow takes a stack as the pool does: two functions above it is that of the application.
func borrow() (t Trace) {
	func() { t.Take() }()
	return t
}

// holder borrows, and then again in a statement beside the first.
func holder() (first, second Trace) {
	first = borrow()
	second = borrow()
	return first, second
}

func TestAStackMayFollowAnotherOneOfTheSameFunction(t *testing.T) {
	first, second := holder()
	assert.True(t, second.MayFollow(&first))
	again := first
	assert.False(t, again.MayFollow(&first), "the same line, as in another goroutine")
	later := borrow()
	assert.True(t, later.MayFollow(&first), "in the function that has called the one which borrowed")
	elsewhere := make(chan Trace)
	go func() { elsewhere <- borrow() }() // ends when its stack is received
	other := <-elsewhere
	assert.False(t, other.MayFollow(&first), "another goroutine, which another function has begun")
	assert.False(t, other.MayFollow(&Trace{}), "a stack that was not taken")
	empty := Trace{}
	assert.False(t, empty.MayFollow(&first))
}
