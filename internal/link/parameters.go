package link

import "sync"

// parameterCounts remembers how many parameters texts have. The number depends on the text alone, so that it holds for all
// connections, and after a change of the schema too. It is safe for concurrent use.
type parameterCounts struct {
	mu sync.RWMutex   // guards of; nothing else is locked under it
	of map[string]int // by text
}

// maxCounts is how many texts are remembered at most. A program that prepares more than that pays a round trip for some.
const maxCounts = 4096

// Parameters returns how many parameters a text has, if that is known.
func (d *Dialer) Parameters(query string) (n int, known bool) {
	p := &d.parameters
	p.mu.RLock()
	defer p.mu.RUnlock()
	n, known = p.of[query]
	return n, known
}

// RememberParameters notes how many parameters a text has, unless the text is too long to be kept. If there is no room it
// forgets another text.
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
		for text := range p.of {
			delete(p.of, text)
			break
		}
	}
	p.of[query] = n
}
