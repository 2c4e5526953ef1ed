package pool

import (
	"cmp"
	"time"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/diary"
	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/stack"
)

// A checkout is the time from when a connection is borrowed to when it is given back. One that lasts longer than
// leak_detection is a leak.
type checkout struct {
	since   int64 // by package clock: when the connection was borrowed; 0: it is not lent
	logged  bool  // the leak has been logged
	counted bool  // a collection of metrics has counted the checkout as a leak

	loggedKind, loggedSQL string // the borrower's last statement when the leak was logged

	lookedAt lookedAt // the borrower's last statement that was found to be slow

	stack stack.Trace // the borrower's, unless the budget was used up
}

// checkOut notes that the connection has been borrowed, and keeps the borrower's stack if the budget allows it. It is called
// by borrow.
func (m *member) checkOut(now int64) {
	p := m.pool
	takesStack := p.cfg.LeakDetection > 0 && p.stacks.Allows(now)
	m.mu.Lock()
	defer m.mu.Unlock()
	h := &m.checkout
	h.since, h.logged, h.counted = now, false, false
	h.stack.Clear()
	if takesStack {
		h.stack.Take()
	}
}

// lent reports whether somebody has the connection. It may be called at any time.
func (m *member) lent() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.checkout.since != 0
}

// checkIn notes that a connection is given back, and returns how long it was lent, in nanoseconds. It is called by giveBack.
// If the checkout was a leak it is counted among those that are over, and its end is logged if it was logged.
func (p *Pool) checkIn(m *member, now int64) int64 {
	if remedy, text := m.conn.Unkept(); remedy != nil {
		p.diary.Unkept(text, remedy.What, remedy.Instead)
	}
	m.mu.Lock()
	age := now - m.checkout.since
	leaked := m.checkout.counted || m.checkout.logged || p.isLeak(age)
	if !leaked { // as a rule, and then books.mu is not needed
		m.checkout.since = 0
	}
	m.mu.Unlock()
	if leaked {
		if was := p.countReturnedLeak(m); was.logged {
			p.diary.LeakBack(diary.Leak{
				PID: m.conn.PID(), Held: time.Duration(age),
				Summary: m.summary(was.loggedKind, was.loggedSQL), Borrower: was.stack.Frames(),
			})
		}
	}
	return age
}

// countReturnedLeak ends a checkout that was a leak, and returns it. In one step, under both locks, it is taken from the
// leaks that go on and added to those that are over: otherwise leaks might count neither, and a counter must not go back. A
// checkout that leaks has counted stays a leak, even if it was shorter than leak_detection by a clock that was read a moment
// earlier.
func (p *Pool) countReturnedLeak(m *member) (was checkout) {
	p.books.mu.Lock()
	defer p.books.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	p.books.leaked++
	was, m.checkout.since = m.checkout, 0
	return was
}

// summary returns a few words for a borrower's last statement, given its kind and its text.
func (m *member) summary(kind, sql string) string {
	return cmp.Or(link.SummaryOf(m.conn.Target(), kind, sql), "no statement yet")
}

// isLeak reports whether a checkout of this age, in nanoseconds, is a leak.
func (p *Pool) isLeak(age int64) bool {
	return p.cfg.LeakDetection > 0 && age >= int64(p.cfg.LeakDetection)
}

// leaks returns how many checkouts have lasted longer than leak_detection since the pool was made, those that go on
// included. It is called when metrics are collected.
func (p *Pool) leaks() int64 {
	now := clock.Now()
	p.books.mu.Lock()
	defer p.books.mu.Unlock()
	n := p.books.leaked
	for m := range p.books.members {
		m.mu.Lock()
		if h := &m.checkout; h.since != 0 && (h.counted || h.logged || p.isLeak(now-h.since)) {
			h.counted = true
			n++
		}
		m.mu.Unlock()
	}
	return n
}

// watchLeaksLocked starts the timer that calls checkForLeaks, unless it runs. It is called with books.mu held when a
// connection was made.
func (p *Pool) watchLeaksLocked() {
	if p.books.leakTimer == nil && p.cfg.LeakDetection > 0 && !p.closed.Load() {
		p.books.leakTimer = time.AfterFunc(p.cfg.LeakDetection, p.checkForLeaks)
	}
}

// stopLeakWatch is called by Close. A checkForLeaks that has begun is one of the pool's tasks, for which Close waits.
func (p *Pool) stopLeakWatch() {
	p.books.mu.Lock()
	defer p.books.mu.Unlock()
	if p.books.leakTimer != nil {
		p.books.leakTimer.Stop()
	}
}

// checkForLeaks logs the leaks that were not logged yet. The timer calls it. It sets the timer for the time at which the
// next checkout could become a leak, or stops watching if there is no connection or the pool is closed.
func (p *Pool) checkForLeaks() {
	if !p.tasks.begin() { // Close waits until they are logged
		return
	}
	defer p.tasks.all.Done()
	p.books.mu.Lock()
	next, found := p.newLeaksLocked()
	if len(p.books.members) == 0 || p.closed.Load() {
		p.books.leakTimer = nil
	} else {
		p.books.leakTimer.Reset(max(next, 10*time.Millisecond))
	}
	p.books.mu.Unlock()
	for _, l := range found {
		p.logLeak(l)
	}
}

// An openCheckout is a copy of a checkout that goes on, with its connection and its age at the time of copying. The
// connection may have been given back since then: only those of conn's methods may be called that may be called at any time.
type openCheckout struct {
	checkout
	m   *member
	age time.Duration
}

// newLeaksLocked returns the leaks that were not logged yet, marks them as logged, and returns how long it takes until the
// next checkout could become a leak: one that goes on, or, after all of leak_detection, one that begins now. It is called
// with books.mu held.
func (p *Pool) newLeaksLocked() (next time.Duration, found []openCheckout) {
	now := clock.Now()
	next = p.cfg.LeakDetection
	for m := range p.books.members {
		m.mu.Lock()
		age := now - m.checkout.since
		switch {
		case m.checkout.since == 0 || m.checkout.logged:
		case p.isLeak(age):
			m.checkout.logged = true
			m.checkout.loggedKind, m.checkout.loggedSQL = m.conn.Doing()
			found = append(found, openCheckout{checkout: m.checkout, m: m, age: time.Duration(age)})
		default:
			next = min(next, p.cfg.LeakDetection-time.Duration(age))
		}
		m.mu.Unlock()
	}
	return next, found
}

// logLeak tells the diary of a leak. If the borrower's stack was not taken, the budget is lifted for a while, so that the
// next leak of this kind has one. No lock is held.
func (p *Pool) logLeak(l openCheckout) {
	running, rowsOpen := l.m.conn.State()
	leak := diary.Leak{
		PID: l.m.conn.PID(), Held: l.age, Summary: l.m.summary(l.loggedKind, l.loggedSQL), Borrower: l.stack.Frames(),
		Running: running, RowsOpen: rowsOpen,
		WaitsForItself: l.maySleep(),
	}
	if len(leak.Borrower) == 0 {
		p.stacks.Missed(clock.Now())
	}
	p.diary.LeakFound(leak)
}
