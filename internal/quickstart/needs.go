package main

import (
	"math"
	"time"
)

// observed is what was measured of a load, from which the advice on the pool's size is made.
type observed struct {
	users    int
	think    time.Duration
	lasted   time.Duration
	lent     int64         // how often a connection was lent and given back in that time
	hold     time.Duration // how long a caller had a connection, on average
	waits    int64         // callers that had to wait for one
	waitP99  time.Duration // how long 99 % of those waited at most
	timeouts int64         // callers that got none

	size, overflow int     // the pool's settings; overflow -1: unlimited
	most           int     // the most connections that were seen in use at once
	full           float64 // the share of samples, from 0 to 1, in which all connections were in use
	limits         limits
	cpu            float64 // how busy this machine's processors were, from 0 to 1; 0: not known
}

// observe adds up the timeline without its first tenth, in which the connections are made.
func (l *load) observe(limits limits) observed {
	points := l.timeline.all()
	all := merge(points[len(points)/10:])
	o := observed{
		users: l.options.users, think: l.options.think, lasted: all.lasted, lent: all.lent,
		hold: all.held / time.Duration(max(1, all.lent)), waits: all.waits.Count(), waitP99: all.waits.Quantile(0.99),
		most: all.mostInUse, full: float64(all.full) / float64(max(1, all.samples)), limits: limits, cpu: readCPU().share(l.cpu),
	}
	if s, err := l.pool.status(); err == nil {
		o.size, o.overflow, o.timeouts = s.PoolSize, s.MaxOverflow, s.Timeouts
	}
	return o
}

// busy is how many connections were in use on average, by Little's law.
func (o observed) busy() float64 { return o.rate() * o.hold.Seconds() }

// rate is how many connections were lent per second.
func (o observed) rate() float64 {
	if o.lasted <= 0 {
		return 0
	}
	return float64(o.lent) / o.lasted.Seconds()
}

// wanted is how many connections would be in use on average if no caller had to wait, and if the server didn't become slower
// by that: each user has one for hold, and then none while it thinks.
func (o observed) wanted() float64 {
	return float64(o.users) * o.hold.Seconds() / (o.hold + o.think).Seconds()
}

// withReserve is n and a reserve for bursts: if users act independently of each other and n connections are in use on
// average, the standard deviation is √n. The reserve is two of them.
func withReserve(n float64) int { return int(math.Ceil(n + 2*math.Sqrt(n))) }

// waiting reports whether more than a few callers had to wait for a connection.
func (o observed) waiting() bool { return o.timeouts > 0 || float64(o.waits) > 0.01*float64(o.lent) }

// seldomFull reports whether the pool was almost never full. Callers that waited then waited for a connection to be made,
// and not for one to be given back.
func (o observed) seldomFull() bool { return o.timeouts == 0 && o.full < 0.02 }

// saturated reports whether the server's processors have no time left, however many connections are in use.
func (o observed) saturated() bool { return o.limits.cores > 0 && o.cpu >= 0.9 }

// enough is how many connections keep this number of cores busy, by the rule of thumb in PostgreSQL's wiki.
func enough(cores int) int { return 2*cores + 1 }

// overloaded reports whether more connections are in use than the processors can serve, so that statements wait for them.
func (o observed) overloaded() bool {
	return o.saturated() && o.busy() > float64(enough(o.limits.cores))
}
