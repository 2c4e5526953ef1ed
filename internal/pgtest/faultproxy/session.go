package faultproxy

import "sync"

// session follows the protocol on one connection: which statement belongs to which round trip.
//
// Round trips are numbered from 0, the startup. The server ends each with one ReadyForQuery, so that its n-th one ends
// trip n-1, however many trips the client sends ahead.
type session struct {
	statements map[string]string // text by the name of a prepared statement
	portals    map[string]string // text by the name of a portal
	asked      int               // the trip that the client's next message belongs to, but for the startup

	mu      sync.Mutex    // guards the fields below, which the server's side reads
	pending map[int]*rule // by trip
}

func newSession() *session {
	return &session{statements: map[string]string{}, portals: map[string]string{}, asked: 1, pending: map[int]*rule{}}
}

// request looks at a message of the client. It returns the rule for its trip, if one has met its statement.
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

// execute notes a statement, and a rule that it meets, before the server can see it.
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

// rule is the rule for a trip, or nil.
func (s *session) rule(trip int) *rule {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending[trip]
}
