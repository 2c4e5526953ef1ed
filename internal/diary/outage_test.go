package diary

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestShortOutagesInARowAreCountedAndTheLastWordIsRight(t *testing.T) {
	var o outage
	now := time.Now()
	told, ended := 0, 0
	for range 100 { // a connection that flaps
		now = now.Add(100 * time.Millisecond)
		if tell, _ := o.begin(now); tell {
			told++
		}
		now = now.Add(100 * time.Millisecond)
		if tell, _, _ := o.end(now); tell {
			ended++
		}
	}
	assert.Equal(t, outagesAtOnce, told)
	assert.Equal(t, told, ended, "each that was told has an end")

	tell, _ := o.begin(now)
	assert.False(t, tell)
	tell, untold := o.begin(now.Add(longOutage))
	assert.True(t, tell, "it lasts")
	assert.Equal(t, 97, untold)
	tell, after, failures := o.end(now.Add(2 * longOutage))
	assert.True(t, tell)
	assert.Equal(t, 2*longOutage, after)
	assert.Equal(t, 2, failures)

	tell, _, _ = o.end(now)
	assert.False(t, tell, "there was none")
	tell, untold = o.begin(now.Add(10 * time.Minute))
	assert.True(t, tell, "after a calm minute it begins anew")
	assert.Zero(t, untold)
}
