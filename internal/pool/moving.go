package pool

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgprod/pgprod/internal/hosts"
	"github.com/pgprod/pgprod/internal/link"
)

// moving replaces connections that lead to another place than a new one would: a host that is preferred has come back, or the
// name of a host leads to another address. They are replaced a few at a time, and not before the better place has been proven: it
// is a convenience, and must never be a wave of dials, or cost a caller anything.
//
// A timer, which is set only while there are connections, starts a task for each step. It is safe for concurrent use.
type moving struct {
	pace    pace        // not changed
	applies bool        // there are several hosts, or a name; not changed
	armed   atomic.Bool // the timer is set, or what it calls is running

	mu    sync.Mutex  // guards timer and over; nothing else is locked under it
	timer *time.Timer // nil until the first connection
	over  bool        // stop was called

	// The task alone uses what follows.
	names    map[*hosts.Host]*hosts.Name // what the names that connections were made by have led to
	proven   map[*hosts.Host]time.Time   // when a connection to where its name leads was last known to be of use
	tried    map[*hosts.Host]time.Time   // when one was last made to find out
	lookedUp time.Time                   // when the names were looked up
}

// A pace says how quickly connections move. Tests have one of their own.
type pace struct {
	step    time.Duration // the time between two steps, in each of which up to a tenth of all connections is replaced
	look    time.Duration // the time between two looks whether there are any, and between two look-ups of the names
	missing time.Duration // how long a name must not have led to an address
	forget  time.Duration // see hosts.NewName
	proof   hosts.Proof   // what must be known of a better host
}

// usualPace is every pool's.
var usualPace = pace{
	step: time.Second, look: 5 * time.Second, missing: 30 * time.Second, forget: 10 * time.Minute,
	proof: hosts.Proof{Within: 20 * time.Second, UpFor: 5 * time.Second},
}

// stepShare is the part of all connections that one step may replace, as a divisor. It is one at least.
const stepShare = 10

// newMoving returns what moves the connections of a pool.
func newMoving(d *link.Dialer, at pace) *moving {
	all := d.Hosts().Hosts()
	return &moving{
		pace: at, applies: len(all) > 1 || slices.ContainsFunc(all, d.Resolves),
		names: map[*hosts.Host]*hosts.Name{}, proven: map[*hosts.Host]time.Time{}, tried: map[*hosts.Host]time.Time{},
	}
}

// watchPlaces is called when a connection was made.
func (p *Pool) watchPlaces() {
	if w := p.moving; w.applies && !w.armed.Load() {
		w.set(w.pace.look, p.startMove)
	}
}

// set has f called after d.
func (w *moving) set(d time.Duration, f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed.Store(true)
	switch {
	case w.over:
	case w.timer == nil:
		w.timer = time.AfterFunc(d, f)
	default:
		w.timer.Reset(d)
	}
}

// stop ends the timer for good. A step that has begun is one of the pool's tasks, and ends with its life.
func (w *moving) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	if w.timer != nil {
		w.timer.Stop()
	}
}

// startMove is called by the timer.
func (p *Pool) startMove() { p.tasks.run(p.move) }

// move is one step: it looks where connections lead, replaces some of those that should lead elsewhere, and plans the next step.
// Without connections there is none, until one is made.
func (p *Pool) move() {
	w := p.moving
	if p.closed.Load() {
		return
	}
	all := p.books.whereabouts()
	if len(all) == 0 {
		w.armed.Store(false)
		if p.books.size.Load() > 0 { // made meanwhile, by a dial that has found the timer set
			p.watchPlaces()
		}
		return
	}
	if now := time.Now(); now.Sub(w.lookedUp) >= w.pace.look {
		p.lookUpNames(all)
		w.lookedUp = now
	}
	next := w.pace.look
	if p.moveSome(all) {
		next = w.pace.step
	}
	w.set(next, p.startMove)
}

// A whereabout is a connection, and where it leads to.
type whereabout struct {
	m       *member
	host    *hosts.Host
	address string
	lent    bool
}

// whereabouts returns where all connections lead to, those of idle ones first.
func (b *books) whereabouts() (all []whereabout) {
	b.mu.Lock()
	for m := range b.members {
		all = append(all, whereabout{m, m.conn.Host(), m.conn.Address(), m.lent()})
	}
	b.mu.Unlock()
	slices.SortFunc(all, func(x, y whereabout) int {
		switch {
		case x.lent == y.lent:
			return 0
		case y.lent:
			return -1
		}
		return 1
	})
	return all
}

// lookUpNames looks up the names by which there are connections.
func (p *Pool) lookUpNames(all []whereabout) {
	w, connected := p.moving, map[*hosts.Host][]string{}
	for _, at := range all {
		if p.dialer.Resolves(at.host) {
			connected[at.host] = append(connected[at.host], at.address)
		}
	}
	for h := range w.names {
		if connected[h] == nil {
			delete(w.names, h)
		}
	}
	for h, addresses := range connected {
		ctx, cancel := context.WithTimeout(p.life, p.dialer.PingTimeout())
		answer, err := p.dialer.LookUp(ctx, h)
		cancel()
		if err != nil {
			continue
		}
		if w.names[h] == nil {
			w.names[h] = hosts.NewName(h, w.pace.forget)
		}
		w.names[h].Answered(answer, addresses, time.Now())
	}
}

// moveSome replaces some of the connections that should lead elsewhere, and reports whether there are any. Those that are lent
// are replaced when they are given back.
func (p *Pool) moveSome(all []whereabout) (any bool) {
	most := max(1, len(all)/stepShare)
	for _, at := range all {
		astray := p.astray(at)
		any = any || astray
		switch {
		case !astray:
			at.m.leaving.Store(false) // the better place is of no use any more
		case most > 0 && !at.m.leaving.Swap(true):
			most--
		}
	}
	if any {
		p.sweep("moved", func(m *member) bool { return m.leaving.Load() })
	}
	return any
}

// astray reports whether a connection should lead elsewhere.
func (p *Pool) astray(at whereabout) bool {
	w := p.moving
	if p.dialer.Hosts().Better(at.host, w.pace.proof) {
		return true
	}
	name := w.names[at.host]
	return name != nil && name.Left(at.address, w.pace.missing, time.Now()) && p.leadsToLife(at.host, name)
}

// leadsToLife reports whether a connection that is made now by the name of a host is known to be of use: one has been made lately.
// If none has, it makes one.
func (p *Pool) leadsToLife(h *hosts.Host, name *hosts.Name) bool {
	w := p.moving
	if time.Since(w.proven[h]) <= w.pace.proof.Within {
		return true
	}
	alive := p.books.heard(w.pace.proof.Within, func(m *member) bool {
		return m.conn.Host() == h && name.Leads(m.conn.Address())
	})
	if !alive && time.Since(w.tried[h]) >= w.pace.look {
		alive = p.mayConnect(h, name)
		w.tried[h] = time.Now()
	}
	if alive {
		w.proven[h] = time.Now()
	}
	return alive
}

// mayConnect makes a connection as the pool would, to where a name leads now, and reports whether that succeeds.
func (p *Pool) mayConnect(h *hosts.Host, name *hosts.Name) bool {
	ctx, cancel := context.WithTimeout(p.life, p.dialer.PingTimeout())
	defer cancel()
	c, err := p.dialer.Dial(ctx, p.newObserver(), &link.Check{At: link.Place{Host: h}})
	if err != nil {
		return false
	}
	defer c.HangUp()
	return name.Leads(c.Address())
}
