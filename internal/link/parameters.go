package link

import "sync"

// parameterCounts remembers how many parameters a text has, which depends on nothing else. It is safe for concurrent use.
type parameterCounts struct {
	mu sync.RWMutex // guards of; nothing else is locked under it
	of map[string]int
}

// maxCounts bounds parameterCounts. A program that prepares more texts than that pays a round trip for some of them.
const maxCounts = 4096

// Parameters is how many parameters a text has, if that is known.
func (d *Dialer) Parameters(query string) (n int, known bool) {
	p := &d.parameters
	p.mu.RLock()
	defer p.mu.RUnlock()
	n, known = p.of[query]
	return n, known
}

// RememberParameters notes how many parameters a text has, unless it is too long to be kept.
func (d *Dialer) RememberParameters(query string, n int) {
	if len(query) >= longText {
		return
	}
	p := &d.parameters
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil {
		p.of = map[string]int{}
	}
	if len(p.of) >= maxCounts {
		for any := range p.of {
			delete(p.of, any)
			break
		}
	}
	p.of[query] = n
}
