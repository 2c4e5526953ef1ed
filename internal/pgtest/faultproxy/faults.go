package faultproxy

import (
	"strings"
	"time"
)

// An End says how a connection ends for the client.
type End int

const (
	// FIN closes the connection: the client reads EOF.
	FIN End = iota
	// RST resets the connection: the client gets ECONNRESET.
	RST
	// Hold doesn't end the connection: the client gets nothing any more, and waits.
	Hold
)

// A Direction is one of the two directions of a connection.
type Direction int

// The directions.
const (
	ToServer Direction = iota // what the client sends
	ToClient                  // what the server sends
)

// faults are the faults of both directions, indexed by Direction.
type faults struct {
	latency   [2]time.Duration
	blackHole [2]bool
}

// A greeting says what happens to a new connection.
type greeting struct {
	delay  time.Duration // before it is connected to the server
	silent bool          // it isn't connected to the server, and gets no answer
}

// DelayConnect sets how long the proxy waits before it connects a new connection to the server. Default: 0.
func (p *Proxy) DelayConnect(delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.greeting.delay = delay
}

// SilenceNew sets whether new connections are accepted, but neither answered nor connected to the server.
func (p *Proxy) SilenceNew(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.greeting.silent = on
}

// SetLatency delays all bytes in a direction, of connections that exist and of new ones. 0 ends it.
func (p *Proxy) SetLatency(d Direction, latency time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults.latency[d] = latency
	for c := range p.conns {
		c.SetLatency(d, latency)
	}
}

// BlackHole sets whether all that is sent in a direction is swallowed, the end of a connection too, of connections that
// exist and of new ones. What was swallowed is lost, so that the connection can't be used afterwards.
func (p *Proxy) BlackHole(d Direction, on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults.blackHole[d] = on
	for c := range p.conns {
		c.BlackHole(d, on)
	}
}

// A Statement is what a client asks the server to execute.
type Statement struct {
	SQL string
	// Extended says that the client used Parse, Bind and Execute, and not a simple Query.
	Extended bool
}

// Containing returns a function for Rule.Match that matches statements whose text has this part, whatever the case.
func Containing(part string) func(Statement) bool {
	part = strings.ToLower(part)
	return func(s Statement) bool { return strings.Contains(strings.ToLower(s.SQL), part) }
}

// A Rule is a fault that happens to the next statements that match.
type Rule struct {
	// Match says which statements match. It must not call the Proxy. Default: nil, all match.
	Match func(Statement) bool
	// Times is how many statements get the fault; those of one round trip count as one. Default: 0, which means one.
	Times int
	// Pass is how many messages of the reply the client still gets, such as a row description and some rows. Default: 0.
	Pass int
	// Unsent says that the statement isn't sent to the server, although what comes before it in the same round trip is. Default:
	// false, the server executes it to its end.
	Unsent bool
	// Unsynced says that the Sync behind the statement isn't sent to the server, which executes the statement, but neither
	// commits it nor answers. A simple Query has none, and is sent. Default: false.
	Unsynced bool
	// End is how the connection ends afterwards. Default: FIN.
	End End
}

// rule is a Rule that was injected.
type rule struct {
	Rule
	left int // how many statements it still waits for
}

// Inject adds a rule. If several rules match a statement, the oldest counts.
func (p *Proxy) Inject(r Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append(p.rules, &rule{Rule: r, left: max(r.Times, 1)})
}

// SwallowReply adds a rule for the next statements that match, as many as times: the server executes each to its end
// (ReadyForQuery), its reply is swallowed, and the connection ends.
func (p *Proxy) SwallowReply(how End, times int, match func(Statement) bool) {
	p.Inject(Rule{Match: match, Times: times, End: how})
}

// ClearRules removes all rules.
func (p *Proxy) ClearRules() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = nil
}

// trigger returns the rule for a statement, which then waits for one statement less; nil: there is none.
func (p *Proxy) trigger(s Statement) *rule {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.rules {
		if r.left > 0 && (r.Match == nil || r.Match(s)) {
			r.left--
			p.stats.Injected++
			return r
		}
	}
	return nil
}
