package pool

import (
	"sync"
	"time"

	"github.com/pgprod/pgprod/internal/clock"
)

// retiring has the timer that replaces idle connections before the credentials end that they were made with. It is safe for
// concurrent use.
type retiring struct {
	mu      sync.Mutex  // guards what follows; nothing else is locked under it
	timer   *time.Timer // calls Pool.retire; nil before the first plan
	stopped bool        // stop was called: the timer isn't set any more
}

// set has f called after d. It replaces what was set before.
func (r *retiring) set(d time.Duration, f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.stopped:
	case r.timer == nil:
		r.timer = time.AfterFunc(d, f)
	default:
		r.timer.Reset(d)
	}
}

// stop ends the timer for good.
func (r *retiring) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	if r.timer != nil {
		r.timer.Stop()
	}
}

// retireAt returns when the connection should be replaced because its credentials end, by package clock; 0: never. It may be
// called at any time.
func (m *member) retireAt() int64 {
	if m.login == nil {
		return 0
	}
	return m.login.RetireAt(m.dialled, m.share)
}

// retires reports whether the connection must not be lent any more because its credentials end.
func (m *member) retires(now int64) bool {
	at := m.retireAt()
	return at != 0 && now >= at
}

// planRetirement sets the timer for the connection that is to retire next. It is called when a connection was made, when
// other credentials have come, and at the end of retire. A connection that should have retired already is left to its
// borrower, who gives it back, or if it is idle, to another attempt a little later.
func (p *Pool) planRetirement() {
	const again = 20 * time.Millisecond
	now := clock.Now()
	next := int64(0)
	for _, at := range p.retirements(now) {
		at = max(at, now+int64(again))
		if next == 0 || at < next {
			next = at
		}
	}
	if next != 0 {
		p.retiring.set(time.Duration(next-now), func() { p.tasks.run(p.retire) })
	}
}

// retirements returns when the connections retire, but for those that should have retired by now and that a borrower has.
func (p *Pool) retirements(now int64) (all []int64) {
	p.books.mu.Lock()
	defer p.books.mu.Unlock()
	for m := range p.books.members {
		if at := m.retireAt(); at != 0 && (at > now || !m.lent()) {
			all = append(all, at)
		}
	}
	return all
}

// retire closes the idle connections that are to retire by now. The timer calls it, as a task that does no I/O. Connections
// that are lent retire when they are given back.
func (p *Pool) retire() {
	if p.closed.Load() {
		return
	}
	now := clock.Now()
	p.sweep("credentials", func(m *member) bool { return m.retires(now) })
	p.planRetirement()
}

// loginCame is called when the application's function has said what to log in with; changed says that it is something else
// than before. Then the connections that were made with the former begin to retire, and that of the health checks goes at
// once.
func (p *Pool) loginCame(changed bool) {
	p.diary.CredentialsCame(p.life)
	if changed {
		p.prober.Renew()
	}
	p.planRetirement()
}

// noteLoginFailure tells the diary that the application's function has failed to say what to log in with; valid says that
// what it said before still serves.
func (p *Pool) noteLoginFailure(err error, valid bool) {
	if !p.closed.Load() {
		p.diary.CredentialsFailed(p.life, failure(err), valid)
	}
}
