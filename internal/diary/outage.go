package diary

import (
	"sync"
	"time"
)

// An outage lasts from the first failure to the next success. It gives two lines of log, one at its beginning and one at its
// end, and not one for each failure. Of outages that follow each other closely only the first few, and those that last, are
// told. The zero value is ready.
type outage struct {
	mu       sync.Mutex // guards what follows
	since    time.Time  // zero: there is none
	failures int
	told     bool      // its beginning was logged, so its end will be
	recent   int       // how many were told until calm
	calm     time.Time // at which the count of recent ones begins anew
	untold   int       // that were too short to be told, since the last that was
}

const (
	// outagesAtOnce is how many outages a minute are told however short they are.
	outagesAtOnce = 3
	// longOutage is how long one lasts that is told in any case.
	longOutage = 5 * time.Second
)

// begin notes a failure. It reports whether the caller has to tell of the outage now, and how many outages were not told
// since the last that was.
func (o *outage) begin(now time.Time) (tell bool, untold int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failures++
	if o.since.IsZero() {
		o.since = now
	}
	if now.After(o.calm) {
		o.recent = 0
	}
	if o.told || o.recent >= outagesAtOnce && now.Sub(o.since) < longOutage {
		return false, 0
	}
	untold, o.untold = o.untold, 0
	o.told, o.recent, o.calm = true, o.recent+1, now.Add(time.Minute)
	return true, untold
}

// end notes a success. It reports whether that ends an outage that was told, how long it was and how often something failed.
func (o *outage) end(now time.Time) (told bool, after time.Duration, failures int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		return false, 0, 0
	}
	told, after, failures = o.told, now.Sub(o.since), o.failures
	if !told {
		o.untold++
	}
	o.since, o.failures, o.told = time.Time{}, 0, false
	return told, after, failures
}
