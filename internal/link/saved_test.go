package link

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/wire"
)

func TestEachKindOfRiderIsCounted(t *testing.T) {
	var d Dialer
	rider := &wire.Rider{}
	d.saved.note(&ride{begin: rider})
	assert.Equal(t, activity.Saved{Begin: 1}, d.Saved())
	d.saved.note(&ride{begin: rider, set: rider, clean: rider, once: rider, trace: rider, raise: raise{rider: rider}})
	assert.Equal(t, activity.Saved{Begin: 2, Settings: 1, Cleaning: 1, Keys: 1, Limits: 1, TraceContext: 1}, d.Saved())
	assert.EqualValues(t, 7, d.Saved().Total())
}

func BenchmarkCountingRiders(b *testing.B) {
	var d Dialer
	r := &ride{begin: &wire.Rider{}}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			d.saved.note(r)
		}
	})
}
