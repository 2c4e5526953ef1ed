package link

import (
	"sync/atomic"

	"github.com/pgprod/pgprod/internal/activity"
)

// saved counts the riders of a pool that have travelled with a statement and so saved a round trip each.
type saved struct {
	begin, settings, cleaning, keys, limits, trace atomic.Int64
}

// note counts the riders of a statement that have arrived.
func (s *saved) note(r *ride) {
	for _, one := range [...]struct {
		went bool
		n    *atomic.Int64
	}{
		{r.begin != nil, &s.begin}, {r.set != nil, &s.settings}, {r.clean != nil, &s.cleaning}, {r.once != nil, &s.keys},
		{r.raise.rider != nil, &s.limits}, {r.trace != nil, &s.trace},
	} {
		if one.went {
			one.n.Add(1)
		}
	}
}

// Saved returns how many round trips were saved since the dialer was made, because something travelled in front of a
// statement.
func (d *Dialer) Saved() activity.Saved {
	s := &d.saved
	return activity.Saved{
		Begin: s.begin.Load(), Settings: s.settings.Load(), Cleaning: s.cleaning.Load(), Keys: s.keys.Load(),
		Limits: s.limits.Load(), TraceContext: s.trace.Load(),
	}
}
