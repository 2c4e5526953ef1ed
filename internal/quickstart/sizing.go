package main

import (
	"fmt"
	"strings"
)

// advice is the size that a pool should have, and why.
type advice struct {
	size, overflow int      // size 0: there is no advice
	why            []string // sentences
}

// advise returns the advice for what was observed. It is a pure function.
func (o observed) advise() advice {
	if o.lent == 0 {
		return advice{why: []string{"Nothing was measured: let it work for longer."}}
	}
	var a advice
	a.say("Little's law: %s connections lent per second, held for %s on average, are %.1f busy on average. %s",
		thousands(int64(o.rate())), short(o.hold), o.busy(), o.peakAndWaits())
	switch {
	case o.overloaded():
		o.adviseOverloaded(&a)
	case o.saturated():
		o.adviseNoMore(&a)
	case o.waiting() && o.seldomFull():
		o.adviseKeeping(&a)
	case o.waiting():
		o.adviseMore(&a)
	default:
		o.adviseFitting(&a)
	}
	if o.saturated() && o.overflow >= 0 {
		a.atMost(o.size + o.overflow)
	}
	a.keepWithin(o.limits)
	return a
}

// atMost reduces the size and the overflow to n connections in all.
func (a *advice) atMost(n int) {
	a.size = min(a.size, n)
	a.overflow = min(a.overflow, n-a.size)
}

// say adds a sentence.
func (a *advice) say(format string, args ...any) { a.why = append(a.why, fmt.Sprintf(format, args...)) }

// peakAndWaits says how many connections were in use at most, and how many callers waited.
func (o observed) peakAndWaits() string {
	text := fmt.Sprintf("At most %d were seen in use at once, of %s. ", o.most, o.capacity())
	if o.waits == 0 {
		return text + "Once they were made, nobody waited for one."
	}
	text += fmt.Sprintf("%s waits for one, 99 %% of them for less than %s", thousands(o.waits), short(o.waitP99))
	if o.timeouts > 0 {
		text += fmt.Sprintf(", and %s in vain (ErrPoolTimeout)", thousands(o.timeouts))
	}
	return text + "."
}

func (o observed) capacity() string {
	if o.overflow < 0 {
		return "any number"
	}
	return fmt.Sprint(o.size + o.overflow)
}

// adviseOverloaded is for a server whose processors can't serve as many connections as are in use.
func (o observed) adviseOverloaded(a *advice) {
	a.size = enough(o.limits.cores)
	a.overflow = half(a.size)
	a.say("The processors are the limit: this machine's %d cores, on which the server and this load run, were %s busy. "+
		"More connections would not make them quicker, they would wait for each other in the server instead of in the pool. "+
		"%d is the rule of thumb of PostgreSQL's wiki, 2 × cores + 1; -sweep measures it.",
		o.limits.cores, percent(o.cpu), a.size)
}

// adviseNoMore is for a server whose processors are busy with the connections that are in use, though these are few.
func (o observed) adviseNoMore(a *advice) {
	total := withReserve(o.busy())
	if o.overflow >= 0 {
		total = min(total, o.size+o.overflow)
	}
	a.overflow = total / 3
	a.size = max(1, total-a.overflow)
	a.say("The processors are the limit: this machine's %d cores, on which the server and this load run, were %s busy. "+
		"That mean and two standard deviations are enough, or what there is: more connections would wait for each other in the "+
		"server instead of in the pool. -sweep measures it.", o.limits.cores, percent(o.cpu))
}

// adviseKeeping is for a pool in which callers waited for connections to be made, since too few are kept.
func (o observed) adviseKeeping(a *advice) {
	a.size = max(2, withReserve(o.busy()), o.most)
	a.overflow = half(a.size)
	a.say("The pool was hardly ever full, so those waits were for connections being made: what is beyond pool_size, %d, is closed "+
		"when it is given back. Keep as many as were in use.", o.size)
}

// adviseMore is for a pool that is too small for its users.
func (o observed) adviseMore(a *advice) {
	total := withReserve(o.wanted())
	a.say("%d users who hold a connection for %s and then think for %v would keep %.1f busy if nobody had to wait; "+
		"bursts take two standard deviations more, %d.", o.users, short(o.hold), o.think, o.wanted(), total)
	if present := o.size + max(0, o.overflow); total <= present {
		total = present + half(present)
		a.say("That is no more than there are, yet callers waited: they come in bursts, so half as many again.")
	}
	total = min(total, max(o.users, 1)) // a user needs only one at a time
	a.overflow = total / 3
	a.size = total - a.overflow
	a.say("%s", o.headroom())
}

// headroom says in a sentence whether the server's processors have time for more connections.
func (o observed) headroom() string {
	cores := fmt.Sprintf("This machine's %d cores were %s busy", o.limits.cores, percent(o.cpu))
	switch {
	case o.limits.cores == 0:
		return "The server is elsewhere: watch its processors, and add connections only while they have time."
	case o.cpu == 0:
		return "How busy the processors were isn't known here: add connections only while they have time."
	}
	return cores + ", so there is time for more."
}

// adviseFitting is for a pool in which no caller waited. It may be larger than needed.
func (o observed) adviseFitting(a *advice) {
	a.size = max(2, withReserve(o.busy()))
	a.overflow = max(half(a.size), o.most-a.size)
	a.say("That mean and two standard deviations for bursts make %d to keep; the overflow covers the peak, or half as much again.", a.size)
	switch {
	case o.overflow < 0 || a.size+a.overflow > o.size+o.overflow:
	case a.size < o.size:
		a.say("The present pool is larger than this load needs, which costs the server memory and nothing else.")
	default:
		a.say("The present pool fits.")
	}
}

// keepWithin reduces the size and the overflow to what max_connections leaves, and adds a sentence about it.
func (a *advice) keepWithin(l limits) {
	if wanted := a.size + a.overflow; wanted > l.free {
		a.size = min(a.size, l.free)
		a.overflow = l.free - a.size
		a.say("max_connections is %d and leaves %d, which is less than %d: raise it, or put a pooler such as PgBouncer in between.",
			l.max, l.free, wanted)
		return
	}
	a.say("max_connections is %d and leaves %d: enough for %d instances with such a pool.",
		l.max, l.free, l.free/max(1, a.size+a.overflow))
}

// half is half of n, rounded up.
func half(n int) int { return (n + 1) / 2 }

// text is the advice as it is printed.
func (a advice) text(width int) string {
	var b strings.Builder
	if a.size > 0 {
		fmt.Fprintf(&b, "The pool should be: DB_POOL_SIZE=%d DB_MAX_OVERFLOW=%d\n", a.size, a.overflow)
	}
	for _, sentence := range a.why {
		b.WriteString(indent(wrap(sentence, width-2)))
	}
	return b.String()
}
