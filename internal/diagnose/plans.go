package diagnose

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/instruments"
	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/sqlsummary"
)

const (
	// mostPlans is for how many summaries there is a plan at most: those of which a statement was slowest.
	mostPlans = 50
	// maxPlanned is the length in bytes of the longest text that is explained.
	maxPlanned = 16 << 10
	// planFor is how long the server isn't asked again for the plan of a summary.
	planFor = 10 * time.Minute
	// planPause is the pause after each question, and planRetreat the one after the server couldn't be asked.
	planPause   = time.Second
	planRetreat = time.Minute
	// genericFrom is the first major version that has EXPLAIN (GENERIC_PLAN).
	genericFrom = 16
)

// Plans has the server explain statements that were slow, one at a time and in the background, and keeps the plans for
// the live page, by summary. It is safe for concurrent use.
type Plans struct {
	prober *Prober
	on     atomic.Bool // Begin was called

	mu     sync.Mutex // guards what follows; nothing else is locked under it
	of     map[string]*planned
	timer  *time.Timer // calls explainNext; nil before the first statement
	set    bool        // the timer is set, or what it calls is running
	closed bool        // the timer is not set any more
	next   int64       // by package clock: before that the server isn't asked
}

// planned is a summary with a statement that was slow.
type planned struct {
	last    int64 // by package clock: when the last one was slow
	longest time.Duration
	asked   int64 // by package clock: when the server was last asked; 0: never
	wanted  Slow  // what is to be explained; without a text: nothing is
	plan    *activity.Plan
}

// A Slow is a statement that was slow.
type Slow struct {
	Summary string
	SQL     string // as its caller wrote it
	Took    time.Duration
	At      link.Place // its server
	Major   int        // its server's major version; 0: not known
	QueryID int64      // the server's identifier of the query; 0: not known
}

// NewPlans returns Plans that ask over the prober's connection. They do nothing before Begin is called.
func NewPlans(h *Prober) *Plans { return &Plans{prober: h, of: map[string]*planned{}} }

// Begin is called when there is somebody who may want to see plans. It may be called more than once.
func (p *Plans) Begin() { p.on.Store(true) }

// Wanted reports whether Begin was called.
func (p *Plans) Wanted() bool { return p.on.Load() }

// Of returns the last plan of a summary, nil if there is none.
func (p *Plans) Of(summary string) *activity.Plan {
	p.mu.Lock()
	defer p.mu.Unlock()
	if one := p.of[summary]; one != nil {
		return one.plan
	}
	return nil
}

// Want notes a statement that was slow. The server is asked for its plan, unless that of its summary is new enough, the
// statement has none, or others have been slower.
func (p *Plans) Want(s Slow) {
	if len(s.SQL) > maxPlanned || !sqlsummary.IsQuery(s.SQL) {
		return
	}
	now := clock.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.entryLocked(s, now)
	if one == nil {
		return
	}
	one.last, one.longest = now, max(one.longest, s.Took)
	switch {
	case one.asked != 0 && now-one.asked < int64(planFor), one.wanted.SQL != "":
	case s.Major < genericFrom:
		one.asked = now
		const why = "PostgreSQL %d can't explain a statement without the values of its parameters, %d can"
		one.plan = s.without(fmt.Sprintf(why, s.Major, genericFrom))
	default:
		s.SQL = strings.Clone(s.SQL) // it may be part of a larger string
		one.wanted = s
		if one.plan == nil {
			one.plan = s.without("")
		}
		p.setLocked(now)
	}
}

// without returns what is shown in place of a plan.
func (s Slow) without(reason string) *activity.Plan {
	return &activity.Plan{At: time.Now(), Took: s.Took, QueryID: s.QueryID, Reason: reason}
}

// entryLocked finds or makes the entry of a statement's summary. If there are too many it replaces one about which the
// server wasn't asked lately: one that wasn't slow lately, or has been less slow than this one. It returns nil if there
// is none. It is called with p.mu held.
func (p *Plans) entryLocked(s Slow, now int64) *planned {
	one := p.of[s.Summary]
	if one != nil {
		return one
	}
	if len(p.of) >= mostPlans && !p.makeRoomLocked(s.Took, now) {
		return nil
	}
	one = &planned{}
	p.of[s.Summary] = one
	return one
}

// makeRoomLocked is entryLocked where there are too many entries. It reports whether it has removed one.
func (p *Plans) makeRoomLocked(took time.Duration, now int64) bool {
	least, name := took, ""
	for summary, one := range p.of {
		switch {
		case one.asked != 0 && now-one.asked < int64(planFor):
			// It stays, or a few that take turns would have the server asked again and again.
		case now-one.last >= int64(planFor):
			delete(p.of, summary)
			return true
		case one.longest < least:
			least, name = one.longest, summary
		}
	}
	if name == "" {
		return false
	}
	delete(p.of, name)
	return true
}

// setLocked sets the timer, unless it is set. It is called with p.mu held.
func (p *Plans) setLocked(now int64) {
	if p.set || p.closed {
		return
	}
	p.set = true
	pause := time.Duration(max(0, p.next-now))
	if p.timer == nil {
		p.timer = time.AfterFunc(pause, func() { p.prober.Run(p.explainNext) })
	} else {
		p.timer.Reset(pause)
	}
}

// Close is called when the pool is closed. A question under way is one of the pool's tasks and ends with the pool's life.
func (p *Plans) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
}

// explainNext asks the server for the plan of the statement that was slowest. The timer calls it, as one of the pool's
// tasks. It sets the timer again if there are others.
func (p *Plans) explainNext() {
	s, ok := p.takeNext()
	pause := planPause
	if ok && !p.prober.Closed() {
		plan, reached := p.explain(s)
		if !reached {
			pause = planRetreat
		}
		p.keep(s.Summary, plan, reached)
	}
	now := clock.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set, p.next = false, now+int64(pause)
	for _, one := range p.of {
		if one.wanted.SQL != "" {
			p.setLocked(now)
			return
		}
	}
}

// takeNext returns the statement that is to be explained next, and whether there is one.
func (p *Plans) takeNext() (s Slow, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var slowest *planned
	for _, one := range p.of {
		if one.wanted.SQL != "" && (slowest == nil || one.wanted.Took > slowest.wanted.Took) {
			slowest = one
		}
	}
	if slowest == nil {
		return s, false
	}
	s, slowest.wanted, slowest.asked = slowest.wanted, Slow{}, clock.Now()
	return s, true
}

// keep keeps a plan, or why there is none if there is no older plan either. If the server couldn't be asked, the next
// statement that is slow has it asked again.
func (p *Plans) keep(summary string, plan *activity.Plan, reached bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.of[summary]
	if one != nil && !reached {
		one.asked = 0
	}
	if one != nil && (plan.Text != "" || one.plan == nil || one.plan.Text == "") {
		one.plan = plan
	}
}

// explain asks the server for a plan, and returns it, or why there is none. reached is false if the server couldn't be
// asked.
func (p *Plans) explain(s Slow) (plan *activity.Plan, reached bool) {
	answer, refused, err := p.prober.explain(s.At, s.SQL)
	if err != nil {
		return s.without(whyNoPlan(err, s.SQL)), refused || pgerror.From(err) != nil
	}
	plan = s.without("")
	var queryID int64
	if plan.Text, queryID, err = readPlan(answer); err != nil {
		plan.Reason = whyNoPlan(err, s.SQL)
	}
	if queryID != 0 {
		plan.QueryID = queryID
	}
	return plan, true
}

// whyNoPlan says in words why there is no plan of a statement. They contain none of its literals.
func whyNoPlan(err error, sql string) string {
	switch {
	case errors.Is(err, errNoPlan):
		return "the server's answer is no plan"
	case pgerror.IsLockTimeout(err):
		return fmt.Sprintf("something it needs was locked for longer than %v", planLock)
	case pgerror.IsCanceled(err), errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("there was none within %v", planTime)
	case pgerror.From(err) == nil:
		return "the server couldn't be asked: " + instruments.ErrorType(err)
	}
	return "the server refuses to explain it: " + instruments.Describe(err, sql)
}
