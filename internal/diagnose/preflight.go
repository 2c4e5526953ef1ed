package diagnose

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/link"
)

// A Preflight looks once, soon after the pool's first connection was made, for what is wrong with the server, the role or
// their settings. It is safe for concurrent use.
type Preflight struct {
	Pool
	once sync.Once // the first call of Plan
	slow int       // how often the questions took too long; used by ask only, whose calls come one after the other

	mu       sync.Mutex  // guards what follows; nothing else is locked under it
	timer    *time.Timer // calls ask; nil before Plan
	closed   bool        // Close was called: the timer is not set any more
	warnings []string    // what was found
	limit    int64       // what Limit returns
}

// NewPreflight returns a preflight for a pool. It does nothing before Plan is called.
func NewPreflight(p Pool) *Preflight { return &Preflight{Pool: p} }

// Warnings returns what the preflight has found, one sentence each. There is nothing before it is over.
func (f *Preflight) Warnings() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.warnings)
}

// Limit returns for how many connections the server has room at most, whosever they are: max_connections less what is
// reserved. It is 0 if that isn't known: before the preflight is over, and behind a pooler, which has limits of its own.
func (f *Preflight) Limit() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.limit
}

// found keeps the warnings, for Warnings to return, and the server's limit.
func (f *Preflight) found(warnings []string, limit int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.warnings, f.limit = warnings, limit
}

const (
	// preflightDelay is the pause between the first connection and the preflight, which leaves the connection to the first
	// statements.
	preflightDelay = 500 * time.Millisecond
	// preflightTimeout is how long the questions may take: a caller may be waiting for the connection.
	preflightTimeout = time.Second
	// preflightRepeats is how often the preflight is repeated after preflightTimeout, with pauses that double.
	preflightRepeats = 5
	// clocksApart is the difference between the server's clock and ours above which there is a warning.
	clocksApart = 2 * time.Second
)

// Plan is called for each connection that was made. The first call sets the timer for the preflight, if the settings want
// one.
func (f *Preflight) Plan() {
	if f.Settings().Preflight {
		f.once.Do(func() { f.runAfter(preflightDelay) })
	}
}

// Close is called when the pool is closed. A preflight that has begun is one of the pool's tasks and ends with the pool's
// life.
func (f *Preflight) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.timer != nil {
		f.timer.Stop()
	}
}

// runAfter sets the timer to call ask after a pause, unless the pool is closed.
func (f *Preflight) runAfter(pause time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.timer = time.AfterFunc(pause, func() { f.Run(f.ask) })
	}
}

// ask is the preflight, as one of the pool's tasks. It asks the server over an idle connection of the pool's, and publishes
// what is wrong. If no connection is idle, it is called again after a pause: no connection is made for it, and no caller
// waits.
func (f *Preflight) ask() {
	ctx, cancel := context.WithTimeout(f.Life(), preflightTimeout)
	defer cancel()
	var found Facts
	asked, err := f.WithIdle(func(c *link.Conn) (err error) {
		found, err = AskFacts(ctx, c, f.Figures().Open)
		return err
	})
	switch {
	case f.Life().Err() != nil: // the pool was closed meanwhile, which says nothing of the server
	case !asked:
		f.runAfter(preflightDelay)
	case err != nil && ctx.Err() != nil && f.slow < preflightRepeats:
		f.slow++
		f.runAfter(preflightDelay << f.slow)
	case err != nil: // some views are closed to this role, or it is no PostgreSQL: not worth another connection
		f.Diary().PreflightFailed(ctx, instruments.Describe(err, ""))
	default:
		found.Dropped = f.Dialer().Dropped()
		warnings := sentences(Judge(f.Settings(), found, 1, time.Now()))
		f.found(warnings, found.limit())
		f.Diary().Preflight(ctx, warnings)
	}
}

// sentences returns the text of each finding.
func sentences(findings []Finding) (all []string) {
	for _, f := range findings {
		all = append(all, f.String())
	}
	return all
}
