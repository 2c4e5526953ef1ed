package faultproxy

import (
	"maps"
	"slices"
)

// Stats is a snapshot of what the proxy has counted since its start or the last Reset.
type Stats struct {
	// Accepted counts connections. Open counts those that neither the client nor the proxy has closed.
	Accepted, Open int
	// Startups counts startup messages, TLSRequests requests for TLS or GSS encryption, and Cancels cancel requests.
	Startups, TLSRequests, Cancels int
	// Messages counts the client's other messages by their type: 'Q', 'P' (Parse), 'B', 'E', 'D', 'C', 'S', 'X', …
	Messages map[byte]int
	// RoundTrips counts the messages that the server answers with ReadyForQuery: Query, Sync and FunctionCall.
	RoundTrips int
	// Injected counts the statements that a rule has matched.
	Injected int
	// Statements are the texts of the statements that the client has sent, in order.
	Statements []string
}

// Stats returns a snapshot, which is safe to keep.
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

// count calls change with the counters.
func (p *Proxy) count(change func(*Stats)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.stats)
}
