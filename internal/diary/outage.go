package diary

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// An outage lasts from the first failure to the next success. It is worth two lines of log, one at its beginning and one at
// its end, instead of one for each failure. If outages follow each other closely, only the first few of them are logged, and
// those that last for long. The zero value is ready for use. It is safe for concurrent use.
type outage struct {
	mu       sync.Mutex // guards what follows
	since    time.Time  // when the outage began; zero: there is none
	failures int        // since then
	logged   bool       // the beginning of the outage was logged, so that its end will be
	recent   int        // how many outages were logged since it was calm for a minute
	calm     time.Time  // from when on recent begins anew: a minute after the last outage that was logged
	unlogged int        // how many outages were not logged since the last one that was
}

const (
	// outagesAtOnce is how many outages are logged, however short they are, before a minute passes without one.
	outagesAtOnce = 3
	// longOutage is how long an outage lasts that is logged in any case.
	longOutage = 5 * time.Second
)

// begin notes a failure. log says that the caller has to log the beginning of the outage now; then unlogged is how many
// outages were not logged since the last one that was.
func (o *outage) begin(now time.Time) (log bool, unlogged int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failures++
	if o.since.IsZero() {
		o.since = now
	}
	return o.mayLogLocked(now)
}

// goesOn is begin for an outage that has begun before, without another failure. If there is none any more it does nothing.
func (o *outage) goesOn(now time.Time) (log bool, unlogged int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		return false, 0
	}
	return o.mayLogLocked(now)
}

// mayLogLocked decides whether the beginning of the outage is logged now. mu must be held.
func (o *outage) mayLogLocked(now time.Time) (log bool, unlogged int) {
	if now.After(o.calm) {
		o.recent = 0
	}
	if o.logged || o.recent >= outagesAtOnce && now.Sub(o.since) < longOutage {
		return false, 0
	}
	unlogged, o.unlogged = o.unlogged, 0
	o.logged, o.recent, o.calm = true, o.recent+1, now.Add(time.Minute)
	return true, unlogged
}

// end notes a success. logged says that it ends an outage whose beginning was logged; then after is how long the outage was,
// and failures is how many failures there were.
func (o *outage) end(now time.Time) (logged bool, after time.Duration, failures int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		return false, 0, 0
	}
	logged, after, failures = o.logged, now.Sub(o.since), o.failures
	if !logged {
		o.unlogged++
	}
	o.since, o.failures, o.logged = time.Time{}, 0, false
	return logged, after, failures
}

// outageGoesOn notes a failure at the given time, which begins an outage or is part of one. Each is kept for the live page as
// an error of this kind; the first of an outage is logged.
func (d *Diary) outageGoesOn(ctx context.Context, o *outage, at time.Time, kind string, f Failure, level slog.Level, message string) {
	d.errors.Add(kind, f.Sort, f.Text)
	if log, unlogged := o.begin(at); log {
		d.write(ctx, level, message, unlogged, slog.String("error", f.Text))
	}
}

// outageIsOver notes that something has succeeded at the given time. If that ends an outage which was logged, a line says how
// long it lasted, and how many failures there were, under the key count.
func (d *Diary) outageIsOver(ctx context.Context, o *outage, at time.Time, message, count string) {
	if logged, after, failures := o.end(at); logged {
		d.ofPool.Flush() // lines about repetitions that were written after this one would look as if the outage went on
		d.write(ctx, slog.LevelInfo, message, 0,
			slog.Duration("after", after.Round(time.Millisecond)), slog.Int(count, failures))
	}
}
