package pool

import (
	"cmp"
	"time"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/diary"
	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/stack"
)

// holding is who has a connection.
type holding struct {
	since   int64 // by package clock; 0: nobody
	told    bool  // it was logged as a leak
	counted bool  // it has been among the leaks of a collection of metrics

	toldKind, toldSQL string // the last statement then

	stack stack.Trace
}

// lend notes that the connection has been borrowed, and by whom.
func (m *member) lend(now int64) {
	p := m.pool
	takes := p.cfg.LeakDetection > 0 && p.stacks.Allows(now)
	m.mu.Lock()
	defer m.mu.Unlock()
	h := &m.held
	h.since, h.told, h.counted = now, false, false
	h.stack.Clear()
	if takes {
		h.stack.Take()
	}
}

// returned books that a connection is not lent any more, and returns how long it was.
func (p *Pool) returned(m *member, now int64) int64 {
	if left, text := m.conn.Left(); left != nil {
		p.diary.Unkept(text, left.What, left.Instead)
	}
	m.mu.Lock()
	age := now - m.held.since
	leaked := m.held.counted || m.held.told || p.isLeak(age)
	if !leaked {
		m.held.since = 0
	}
	m.mu.Unlock()
	if leaked {
		if held := p.leakReturned(m); held.told {
			p.diary.LeakBack(diary.Leak{PID: m.conn.PID(), Held: time.Duration(age), Summary: m.summary(held.toldKind, held.toldSQL), Borrower: held.stack.Frames()})
		}
	}
	return age
}

// leakReturned moves c from the leaks that there are to those that there were, in one step: a counter must not go back.
// One that has been counted stays a leak, even if whoever gave it back had looked at the clock a moment earlier.
func (p *Pool) leakReturned(m *member) (was holding) {
	p.books.mu.Lock()
	defer p.books.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	p.books.leaked++
	was, m.held.since = m.held, 0
	return was
}

// summary names the last statement of whoever has the connection.
func (m *member) summary(kind, sql string) string {
	return cmp.Or(link.SummaryOf(m.conn.Target(), kind, sql), "no statement yet")
}

func (p *Pool) isLeak(held int64) bool {
	return p.cfg.LeakDetection > 0 && held >= int64(p.cfg.LeakDetection)
}

// leaks is how many checkouts were, or are, held beyond leak_detection.
func (p *Pool) leaks() int64 {
	now := clock.Now()
	p.books.mu.Lock()
	defer p.books.mu.Unlock()
	n := p.books.leaked
	for m := range p.books.members {
		m.mu.Lock()
		if h := &m.held; h.since != 0 && (h.counted || h.told || p.isLeak(now-h.since)) {
			h.counted = true
			n++
		}
		m.mu.Unlock()
	}
	return n
}

// watchLeaksLocked sees to it that lookForLeaks is called while there are connections. It is called with the books' mu held.
func (p *Pool) watchLeaksLocked() {
	if p.books.leakTimer == nil && p.cfg.LeakDetection > 0 && !p.closed.Load() {
		p.books.leakTimer = time.AfterFunc(p.cfg.LeakDetection, p.lookForLeaks)
	}
}

// stopLeakWatch is called by Close.
func (p *Pool) stopLeakWatch() {
	p.books.mu.Lock()
	defer p.books.mu.Unlock()
	if p.books.leakTimer != nil {
		p.books.leakTimer.Stop()
	}
}

// lookForLeaks logs who has held a connection for too long, and comes again when the next could have.
func (p *Pool) lookForLeaks() {
	if !p.tasks.begin() { // Close waits until they are logged
		return
	}
	defer p.tasks.all.Done()
	p.books.mu.Lock()
	next, found := p.leaksLocked()
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

// A checkout is a copy of who has a connection, and for how long.
type checkout struct {
	m    *member
	held holding
	age  time.Duration
}

// leaksLocked returns the leaks that were not logged yet, and when the next of the present borrowers could be one. Who
// borrows from now on can't be one before leak_detection is over.
func (p *Pool) leaksLocked() (next time.Duration, found []checkout) {
	now := clock.Now()
	next = p.cfg.LeakDetection
	for m := range p.books.members {
		m.mu.Lock()
		held := now - m.held.since
		switch {
		case m.held.since == 0 || m.held.told:
		case p.isLeak(held):
			m.held.told = true
			m.held.toldKind, m.held.toldSQL = m.conn.Doing()
			found = append(found, checkout{m, m.held, time.Duration(held)})
		default:
			next = min(next, p.cfg.LeakDetection-time.Duration(held))
		}
		m.mu.Unlock()
	}
	return next, found
}

// logLeak tells the diary of a leak. If the borrower's stack was not taken, those of all others are for a while.
func (p *Pool) logLeak(l checkout) {
	running, rowsOpen := l.m.conn.State()
	leak := diary.Leak{
		PID: l.m.conn.PID(), Held: l.age, Summary: l.m.summary(l.held.toldKind, l.held.toldSQL), Borrower: l.held.stack.Frames(),
		Running: running, RowsOpen: rowsOpen,
		WaitsForItself: !running || l.held.stack.Has("(*session).QueryContext"), // whose rows its caller may be busy with
	}
	if len(leak.Borrower) == 0 {
		p.stacks.Missed(clock.Now())
	}
	p.diary.LeakFound(leak)
}
