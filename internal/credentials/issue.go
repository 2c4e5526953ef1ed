package credentials

import (
	"sync/atomic"
	"time"

	"github.com/pgprod/pgprod/internal/clock"
)

// An Issue is credentials that were received. It is safe for concurrent use.
type Issue struct {
	Credentials // not changed; Expires is that of the first answer, see ends

	since int64 // by package clock: when they were received
	// ends is when they end, by package clock; 0: never. The function may give the same ones again with a later end.
	ends     atomic.Int64
	replaced atomic.Int64 // by package clock: when others were received; 0: they are the present ones
}

// newIssue returns credentials that were received at now.
func newIssue(c Credentials, now int64) *Issue {
	i := &Issue{Credentials: c, since: now}
	i.extend(c.Expires, now)
	return i
}

// extend notes when the credentials end, as was learnt at now. Zero stands for never.
func (i *Issue) extend(expires time.Time, now int64) {
	if expires.IsZero() {
		i.ends.Store(0)
		return
	}
	i.ends.Store(now + int64(time.Until(expires)))
}

// Left returns how long the credentials are still valid at a time by package clock: 0 if they have ended. If they don't end,
// ends is false.
func (i *Issue) Left(now int64) (left time.Duration, ends bool) {
	at := i.ends.Load()
	return time.Duration(max(at-now, 0)), at != 0
}

// Ended reports whether the credentials have ended at a time by package clock.
func (i *Issue) Ended(now int64) bool {
	at := i.ends.Load()
	return at != 0 && now >= at
}

// RetireAt returns when a connection should be replaced that was made with the credentials at made, by package clock; 0:
// never. share is a number from 0 to 1 that belongs to the connection: connections with different shares are not replaced at
// the same time.
//
// Once there are other credentials, the connections are replaced between three quarters and nineteen twentieths of the time
// from the receipt to the end. As long as there are none, a new connection would log in with the same ones, so they stay
// until shortly before the end. In either case a connection stays for half of what was left when it was made: otherwise one
// that is made late would be replaced at once, again and again.
func (i *Issue) RetireAt(made int64, share float64) int64 {
	ends := i.ends.Load()
	if ends == 0 {
		return 0
	}
	life := ends - i.since
	from, to := ends-life/20, ends-life/40
	if replaced := i.replaced.Load(); replaced != 0 {
		from = max(ends-life/4, replaced)
		to = max(ends-life/20, from+(ends-from)/2)
	}
	at := between(from, to, share)
	at = max(at, between(made+(ends-made)/2, ends-(ends-made)/8, share))
	return min(at, ends)
}

// between returns a time from the one to the other.
func between(from, to int64, share float64) int64 { return from + int64(share*float64(to-from)) }

// usable reports whether a dial may log in with the credentials.
func (i *Issue) usable() bool { return i != nil && !i.Ended(clock.Now()) }
