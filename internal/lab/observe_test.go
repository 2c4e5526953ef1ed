//go:build linux

package lab

import (
	"fmt"
	"time"

	"github.com/pgprod/pgprod/internal/lab/known"
)

// An observation is what a fault has cost in one run. What hasn't happened is absent, -1.
type observation struct {
	outage     time.Duration // from the last reply before the longest time without any to the next
	promoted   time.Duration // from the promotion to that next reply
	firstError time.Duration // from that last reply to the first error
	lastFirst  time.Duration // from it to the first error of the worker who got its first one last, of those who got one
}

const absent = time.Duration(-1)

// observe looks at the deeds around a fault, which were watched until a time.
func observe(deeds []deed, injected, promoted, until time.Time) observation {
	o := observation{outage: absent, promoted: absent, firstError: absent, lastFirst: absent}
	last, next := longestGap(deeds, injected, until)
	if !next.IsZero() {
		o.outage = next.Sub(last)
		o.promoted = max(0, next.Sub(promoted))
	}
	first := map[int]bool{}
	for _, d := range deeds {
		if d.told == known.Acknowledged || d.ended.Before(injected) || first[d.worker] {
			continue
		}
		first[d.worker] = true
		if o.firstError == absent {
			o.firstError = max(0, d.ended.Sub(last))
		}
		o.lastFirst = max(0, d.ended.Sub(last))
	}
	return o
}

// longestGap returns the two successes of all workers, one after the other, with the most time between them after a fault. next is
// zero if there was an even longer time in the end, without any success.
func longestGap(deeds []deed, injected, until time.Time) (last, next time.Time) {
	var before time.Time
	for _, d := range deeds {
		if d.told != known.Acknowledged {
			continue
		}
		if !before.IsZero() && d.ended.After(injected) && d.ended.Sub(before) > next.Sub(last) {
			last, next = before, d.ended
		}
		before = d.ended
	}
	if until.Sub(before) > next.Sub(last) {
		return before, time.Time{}
	}
	return last, next
}

func (o observation) String() string {
	return fmt.Sprintf("outage %s, after the promotion %s, first error %s, last worker's %s",
		shown(o.outage), shown(o.promoted), shown(o.firstError), shown(o.lastFirst))
}

// shown is a duration for people.
func shown(d time.Duration) string {
	if d == absent {
		return "–"
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}
