package link

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestTheTextsThatAreUsedMostComeFirst(t *testing.T) {
	var u uses
	for text, n := range map[string]int{"rare": 1, "often": 40, "seldom": 3} {
		for range n {
			u.add(text, 1)
		}
	}
	assert.Equal(t, []string{"often", "seldom", "rare"}, u.most(10, 100))
	assert.Equal(t, []string{"often", "seldom"}, u.most(2, 100))
	assert.Equal(t, []string{"often", "seldom"}, u.most(10, len("oftenseldomrar")))
	u.forget("often", "unknown")
	assert.Equal(t, []string{"seldom", "rare"}, u.most(10, 100))
}

func TestTextsThatComeOnceDontDriveOutThoseThatAreUsed(t *testing.T) {
	var u uses
	u.add("used", sample)
	for i := range 4 * maxUses {
		u.add(fmt.Sprintf("once %d", i), 1)
		assert.LessOrEqual(t, len(u.of), maxUses)
	}
	assert.Equal(t, []string{"used"}, u.most(1, 100))
}

func TestWhatWasUsedLongAgoCountsForLess(t *testing.T) {
	var u uses
	u.add("past", 1000)
	for range 20 * halveAfter / sample {
		u.add("present", sample)
	}
	assert.Equal(t, []string{"present"}, u.most(10, 100))
}

func TestCountingAKnownTextAllocatesNothing(t *testing.T) {
	var u uses
	u.add("text", 1)
	assert.Zero(t, testing.AllocsPerRun(100, func() { u.add("text", sample) }))
}
