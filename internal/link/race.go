package link

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/pgprod/pgprod/internal/credentials"
	"github.com/pgprod/pgprod/internal/hosts"
)

// A race is one dial. It tries the hosts of a plan, each in a lane of its own: the next one begins when those before it have
// failed, or have had their head start. The first connection that will do wins. A lane whose host is silent goes on when the race
// is over, to find out about that host; a connection that comes too late is closed.
//
// run is called by the goroutine that dials. Each lane has a goroutine of its own.
type race struct {
	*Dialer
	began time.Time
	ctx   context.Context // the dial's; as long as the race goes on, its end ends all lanes
	purpose
	lanes  []*lane       // in the order in which they begin; not changed
	first  int           // how many of them come first; the others begin when none of these will do
	atOnce bool          // those that come first begin together
	news   chan struct{} // gets a value when something has changed; has room for one, so that no sender blocks
	result chan made     // gets what has become of the winner's connection; has room for it

	mu      sync.Mutex // guards what follows, and the lanes' state; nothing else is locked under it
	winner  *leg       // the connection that becomes the dial's, unless setting it up fails; nil: there is none yet
	seconds []*leg     // connections that wait in claim: they will do if there is no better one
	final   bool       // a server has refused the login, and others would too: no further lane begins
	over    bool       // nobody wins any more
}

// A purpose is what a connection is made for.
type purpose struct {
	observer Observer
	check    *Check             // nil: it is for the pool
	issue    *credentials.Issue // what it logs in with
}

// made is what has become of the winner's connection.
type made struct {
	conn *Conn
	err  error
}

// newRace returns the race of a dial by a plan.
func (d *Dialer) newRace(ctx context.Context, p hosts.Plan, why purpose) *race {
	r := &race{
		Dialer: d, began: time.Now(), ctx: ctx, purpose: why, first: len(p.First), atOnce: p.Seek,
		news: make(chan struct{}, 1), result: make(chan made, 1),
	}
	for _, h := range slices.Concat(d.paths.slowLast(p.First, d.hosts.Wanted()), p.Rest) {
		r.lanes = append(r.lanes, newLane(r, h))
	}
	return r
}

// run returns the winner's connection or, if there is none, what each host has said. found is called as soon as there is a
// winner, before its connection is set up.
func (r *race) run(found func()) (*Conn, error) {
	for {
		switch due := r.look(time.Now()); {
		case due.won:
			found()
			o := <-r.result
			r.end()
			return o.conn, o.err
		case due.over:
			return nil, r.failure()
		case len(due.begin) > 0:
			for _, l := range due.begin {
				l.start()
			}
		default:
			r.wait(due.wait)
		}
	}
}

// endLogins is called when a server has refused the login in such a way that others would too.
func (r *race) endLogins() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.final = true
}

// end ends the race. From now on the end of the dial's context ends no lane.
func (r *race) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
}

// wait waits until something has changed, for d at most; 0: without limit. Once the dial's context has ended, all lanes end soon.
func (r *race) wait(d time.Duration) {
	var due <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		due = t.C
	}
	ended := r.ctx.Done()
	if r.ctx.Err() != nil {
		ended = nil // known already
	}
	select {
	case <-r.news:
	case <-due:
	case <-ended:
	}
}

// tell makes run look again.
func (r *race) tell() {
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// claim is called for a connection that the server has accepted, before anything is done with it. It returns nil if it is to
// become the dial's. One that is only second best waits until that is known.
func (r *race) claim(ctx context.Context, g *leg, best bool) error {
	won, decided := r.enter(g, best)
	if !decided {
		select {
		case won = <-g.verdict:
		case <-ctx.Done():
			if won = r.leave(g); !won {
				return ctx.Err()
			}
		}
	}
	if !won {
		return errLost
	}
	return nil
}

// enter decides about a connection, or makes it one of the second best.
func (r *race) enter(g *leg, best bool) (won, decided bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.winner == g: // it is set up once more, with less
		return true, true
	case r.winner != nil, r.over:
		return false, true
	case best:
		r.winLocked(g)
		return true, true
	}
	r.seconds = append(r.seconds, g)
	g.lane.stage = waits
	r.tell()
	return false, false
}

// leave takes a connection out of the second best. It reports true if that comes too late, because it has won.
func (r *race) leave(g *leg) (won bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seconds = slices.DeleteFunc(r.seconds, func(other *leg) bool { return other == g })
	return r.winner == g
}

// winLocked makes a connection the winner and sends the second best away. It is called with r.mu held.
func (r *race) winLocked(g *leg) {
	r.winner = g
	for _, s := range r.seconds {
		s.verdict <- s == g
	}
	r.seconds = nil
	r.tell()
}

// lost reports whether a connection is of no use any more: another one has won, or the race is over.
func (r *race) lost(g *leg) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.winner != g && (r.over || r.winner != nil)
}

// won reports whether a connection is the winner.
func (r *race) won(g *leg) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.winner == g
}

// laneContext returns the context of a lane and a function that releases it. It has the dial's values and deadline, and ends with
// the pool's life and, as long as the race goes on, with the dial's context.
func (r *race) laneContext() (context.Context, func()) {
	ctx, cancel := context.WithoutCancel(r.ctx), context.CancelFunc(nil)
	deadline, limited := r.ctx.Deadline()
	if limited {
		ctx, cancel = context.WithDeadline(ctx, deadline)
	} else {
		ctx, cancel = context.WithCancel(ctx)
	}
	withLife := context.AfterFunc(r.life, cancel)
	withDial := context.AfterFunc(r.ctx, func() {
		if limited && errors.Is(r.ctx.Err(), context.DeadlineExceeded) {
			return // so does ctx, with the same error
		}
		if r.goesOn() {
			cancel()
		}
	})
	return ctx, func() { withLife(); withDial(); cancel() }
}

// open reports whether another attempt is worth while.
func (r *race) open() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.winner == nil && !r.over && !r.final && r.ctx.Err() == nil
}

// goesOn reports whether the race is not over.
func (r *race) goesOn() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.over
}
