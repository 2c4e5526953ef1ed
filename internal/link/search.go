package link

import (
	"context"
	"fmt"
	"sync"
)

// searches let one dial look for a host, when none is known that would do, while others wait for what it finds. It is safe for
// concurrent use.
type searches struct {
	mu  sync.Mutex // guards now; nothing else is locked under it
	now *search    // the search under way; nil: there is none
}

// A search is one dial that asks all hosts.
type search struct {
	done chan struct{} // closed when a host was found, or the dial has failed
	err  error         // why it has failed; nil: another dial is worth while. Set before done is closed
}

// join returns the search under way, or begins one. leads: the caller is to search, and calls end.
func (s *searches) join() (found *search, leads bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != nil {
		return s.now, false
	}
	s.now = &search{done: make(chan struct{})}
	return s.now, true
}

// end ends a search. It does nothing if the search has ended already.
func (s *searches) end(of *search, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == of {
		s.now = nil
		of.err = err
		close(of.done)
	}
}

// wait waits for the end of a search. It returns an error if no host was found, or ctx ends first.
func (f *search) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return fmt.Errorf("while another dial asks all hosts: %w", ctx.Err())
	}
}
