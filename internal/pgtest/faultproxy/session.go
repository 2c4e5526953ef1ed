package faultproxy

import "sync"

// A session follows the protocol on one connection, to know which statement belongs to which round trip.
//
// Round trips are numbered. Trip 0 is the startup. The server ends each trip with one ReadyForQuery, so that its n-th
// ReadyForQuery ends trip n-1, even if the client sends several trips ahead.
type session struct {
	// The goroutine that reads from the client uses these fields, and no other.

	statements map[string]string // texts by the name of a prepared statement
	portals    map[string]string // texts by the name of a portal
	asked      int               // the trip to which the client's next message belongs, from 1 on

	mu      sync.Mutex    // guards pending, which the goroutine that reads from the server uses too
	pending map[int]*rule // the rules that statements have met, by trip
}

func newSession() *session {
	return &session{statements: map[string]string{}, portals: map[string]string{}, asked: 1, pending: map[int]*rule{}}
}

// request is called with each message of the client. It returns the rule for the message's trip; nil: there is none.
func (s *session) request(p *Proxy, m message) *rule {
	switch m.kind {
	case 'P':
		name, rest := cString(m.body())
		s.statements[name], _ = cString(rest)
	case 'B':
		portal, rest := cString(m.body())
		name, _ := cString(rest)
		s.portals[portal] = s.statements[name]
	case 'E':
		portal, _ := cString(m.body())
		s.execute(p, Statement{SQL: s.portals[portal], Extended: true})
	case 'Q':
		text, _ := cString(m.body())
		s.execute(p, Statement{SQL: text})
	}
	rule := s.rule(s.asked)
	ends := m.kind == 'Q' || m.kind == 'S' || m.kind == 'F'
	p.count(func(stats *Stats) {
		stats.Messages[m.kind]++
		if ends {
			stats.RoundTrips++
		}
	})
	if ends {
		s.asked++
	}
	return rule
}

// execute is called with each statement, before it is sent to the server. If a rule matches, it counts for the whole trip.
func (s *session) execute(p *Proxy, statement Statement) {
	p.count(func(stats *Stats) { stats.Statements = append(stats.Statements, statement.SQL) })
	if s.rule(s.asked) != nil {
		return
	}
	if rule := p.trigger(statement); rule != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.pending[s.asked] = rule
	}
}

// rule returns the rule for a trip; nil: there is none.
func (s *session) rule(trip int) *rule {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending[trip]
}
