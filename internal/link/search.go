package link

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/pgprod/pgprod/internal/hosts"
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

// dialHosts is Dial with the given credentials. If no host is known that would do, one dial of the pool's asks all of them, and the
// others wait for what that finds.
func (d *Dialer) dialHosts(ctx context.Context, why purpose) (*Conn, error) {
	for {
		p := d.plan(why.check)
		if !p.Seek || why.check != nil {
			return d.newRace(ctx, p, why).run(func() {})
		}
		s, leads := d.found.join()
		if leads {
			return d.lead(ctx, s, p, why)
		}
		if err := s.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// lead is a dial that asks all hosts, for which others wait.
func (d *Dialer) lead(ctx context.Context, s *search, p hosts.Plan, why purpose) (*Conn, error) {
	c, err := d.newRace(ctx, p, why).run(func() { d.found.end(s, nil) })
	if isOver(ctx) {
		d.found.end(s, nil) // its error says nothing of the hosts: another dial asks them
	}
	d.found.end(s, err)
	return c, err
}

// isOver reports whether a context has ended, or is about to: those that were made from it may have ended a moment earlier.
func isOver(ctx context.Context) bool {
	deadline, limited := ctx.Deadline()
	return ctx.Err() != nil || limited && !time.Now().Before(deadline)
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
