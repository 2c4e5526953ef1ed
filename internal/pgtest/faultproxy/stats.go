package faultproxy

import (
	"maps"
	"slices"
)

// Stats is a snapshot of what the proxy has seen since its start or Reset.
type Stats struct {
	// Accepted counts connections, Open those that the client has not closed and we neither.
	Accepted, Open int
	// Startups counts startup messages, TLSRequests requests for TLS or GSS encryption, Cancels cancel requests.
	Startups, TLSRequests, Cancels int
	// Messages counts the client's later messages by their type byte: 'Q', 'P' (Parse), 'B', 'E', 'D', 'C', 'S', 'X', …
	Messages map[byte]int
	// RoundTrips counts those that the server answers with ReadyForQuery: Query, Sync and FunctionCall.
	RoundTrips int
	// Injected counts how often a rule met its statement.
	Injected int
	// Statements are the texts of what was executed, in order.
	Statements []string
}

// Stats returns a copy, safe to keep.
func (p *Proxy) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Messages = maps.Clone(s.Messages)
	s.Statements = slices.Clone(s.Statements)
	return s
}

// Reset sets all counters but Open to zero.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats = Stats{Open: p.stats.Open, Messages: map[byte]int{}}
}

// count changes the counters.
func (p *Proxy) count(change func(*Stats)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.stats)
}
