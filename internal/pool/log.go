package pool

import (
	"context"
	"sync"
	"time"
)

// An outage is from the first dial that fails to the next that succeeds. Each gives two lines of log, not one for every
// attempt.
type outage struct {
	mu       sync.Mutex // guards what follows
	since    time.Time  // zero: there is none
	failures int
}

func (p *Pool) dialFailed(ctx context.Context, err error) {
	if p.closed.Load() || ctx.Err() == context.Canceled {
		return // Close ended the dial
	}
	o := &p.outage
	o.mu.Lock()
	o.failures++
	first := o.since.IsZero()
	if first {
		o.since = time.Now()
	}
	o.mu.Unlock()
	if first {
		what := "pgprod: can't connect, callers wait and dialling goes on"
		if hopeless(err) {
			what = "pgprod: the server refuses to be connected to, repeating is of no use"
		}
		p.log().Error(what, "pool", p.cfg.PoolName, "error", err.Error())
	}
}

func (p *Pool) dialSucceeded() {
	o := &p.outage
	o.mu.Lock()
	since, failures := o.since, o.failures
	o.since, o.failures = time.Time{}, 0
	o.mu.Unlock()
	if !since.IsZero() {
		p.log().Info("pgprod: connected again", "pool", p.cfg.PoolName,
			"after", time.Since(since).Round(time.Millisecond), "failed_attempts", failures)
	}
}

// lost is called once for each generation.
func (p *Pool) lost(cause error) {
	p.log().Warn("pgprod: the server closed a connection, idle ones are replaced", "pool", p.cfg.PoolName,
		"error", cause.Error())
}
