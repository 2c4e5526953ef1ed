package pgtest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
)

// live has the servers that this process has started and not stopped, for StopAll.
var live registry

// A registry is a set of servers. It is safe for concurrent use.
type registry struct {
	mu      sync.Mutex // guards servers
	servers map[*Server]bool
}

func (r *registry) add(s *Server) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.servers == nil {
		r.servers = map[*Server]bool{}
	}
	r.servers[s] = true
}

func (r *registry) remove(s *Server) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.servers, s)
}

func (r *registry) all() []*Server {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.servers))
}

// StopAll stops all servers of this process, including those that are starting. It is for a program that a signal ends,
// before it calls os.Exit.
func StopAll(ctx context.Context) error {
	var errs []error
	for _, s := range live.all() {
		errs = append(errs, s.Stop(ctx))
	}
	return errors.Join(errs...)
}
