package main

import (
	"math"
	"time"
)

// observed is what the advice on a pool's size rests on.
type observed struct {
	users    int
	think    time.Duration
	lasted   time.Duration
	lent     int64         // connections lent and given back in that time
	hold     time.Duration // for how long, on average
	waits    int64         // callers that had to wait
	waitP99  time.Duration // of those
	timeouts int64

	size, overflow int     // the pool's; overflow -1: unlimited
	most           int     // connections seen in use at once
	full           float64 // in what part of the looks at it all were in use
	limits         limits
	cpu            float64 // how busy this machine's processors were, from 0 to 1; 0: not known
}

// observe sums up what the timeline has, without the first tenth, in which the connections are made.
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

// wanted is how many connections the users would keep busy on average if nobody had to wait, and if the server took no
// longer for that: each user holds one for hold, then thinks.
func (o observed) wanted() float64 {
	return float64(o.users) * o.hold.Seconds() / (o.hold + o.think).Seconds()
}

// withReserve adds what chance adds: of arrivals that know nothing of each other, a mean of n has a spread of √n.
func withReserve(n float64) int { return int(math.Ceil(n + 2*math.Sqrt(n))) }

// waiting reports whether callers waited for connections in earnest.
func (o observed) waiting() bool { return o.timeouts > 0 || float64(o.waits) > 0.01*float64(o.lent) }

// seldomFull reports whether more connections could have been made almost always, so that whoever waited did so for a
// dial and not in a queue.
func (o observed) seldomFull() bool { return o.timeouts == 0 && o.full < 0.02 }

// saturated reports whether the processors have no time left, however few connections keep them busy.
func (o observed) saturated() bool { return o.limits.cores > 0 && o.cpu >= 0.9 }

// enough is how many connections keep so many cores at work, by the rule of thumb of PostgreSQL's wiki.
func enough(cores int) int { return 2*cores + 1 }

// overloaded reports whether the processors are the limit, so that connections queue there.
func (o observed) overloaded() bool {
	return o.saturated() && o.busy() > float64(enough(o.limits.cores))
}
