package faultproxy

import (
	"strings"
	"time"
)

// End is how a connection ends.
type End int

const (
	// FIN closes the connection in order: the client reads EOF.
	FIN End = iota
	// RST resets it: the client gets ECONNRESET.
	RST
	// Hold doesn't end it: the client waits.
	Hold
)

// Direction is one of a connection's two.
type Direction int

const (
	ToServer Direction = iota
	ToClient
)

// faults are those of a direction each, indexed by Direction.
type faults struct {
	latency   [2]time.Duration
	blackHole [2]bool
}

// greeting is what a new connection meets.
type greeting struct {
	delay  time.Duration
	silent bool
}

// DelayConnect makes new connections wait before the proxy connects them to the server. Zero ends it.
func (p *Proxy) DelayConnect(delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.greeting.delay = delay
}

// SilenceNew accepts new connections and never answers them, nor tells the server.
func (p *Proxy) SilenceNew(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.greeting.silent = on
}

// SetLatency delays all bytes in a direction, on connections that exist and new ones. Zero ends it.
func (p *Proxy) SetLatency(d Direction, latency time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults.latency[d] = latency
	for c := range p.conns {
		c.SetLatency(d, latency)
	}
}

// BlackHole swallows all that goes in a direction, the end of a connection included, on connections that exist and new
// ones. What was swallowed is lost: a connection is of no use afterwards.
func (p *Proxy) BlackHole(d Direction, on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults.blackHole[d] = on
	for c := range p.conns {
		c.BlackHole(d, on)
	}
}

// Statement is what a client asks the server to execute.
type Statement struct {
	SQL string
	// Extended says that it came by Parse, Bind and Execute, not by a simple Query.
	Extended bool
}

// Containing matches statements by a part of their text, in any case.
func Containing(part string) func(Statement) bool {
	part = strings.ToLower(part)
	return func(s Statement) bool { return strings.Contains(strings.ToLower(s.SQL), part) }
}

// Rule is a fault that waits for its statement.
type Rule struct {
	// Match says which statements. It must not call the Proxy. Default: nil, all.
	Match func(Statement) bool
	// Times is how many statements in a row meet the fault; those in one round trip count once. Default: 0, one.
	Times int
	// Pass is how many messages of the reply the client still gets, such as a row description and some rows. Default: 0.
	Pass int
	// Unsent keeps the statement from the server: it isn't executed. Default: false, it is executed to its end.
	Unsent bool
	// End is what happens to the connection then. Default: FIN.
	End End
}

// rule is a Rule with what is left of it.
type rule struct {
	Rule
	left int
}

// Inject adds a rule. Where several match, the oldest counts.
func (p *Proxy) Inject(r Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append(p.rules, &rule{Rule: r, left: max(r.Times, 1)})
}

// SwallowReply lets the server execute the next statements that match, each to its end (ReadyForQuery), swallows the
// reply and ends the connection.
func (p *Proxy) SwallowReply(how End, times int, match func(Statement) bool) {
	p.Inject(Rule{Match: match, Times: times, End: how})
}

// ClearRules drops the rules that still wait.
func (p *Proxy) ClearRules() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = nil
}

// trigger finds the rule for a statement and uses it up by one.
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
