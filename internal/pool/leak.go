package pool

import (
	"cmp"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/diary"
	"github.com/pgprod/pgprod/internal/link"
)

// holding is who has a connection.
type holding struct {
	since   int64 // by package clock; 0: nobody
	told    bool  // it was logged as a leak
	counted bool  // it has been among the leaks of a collection of metrics

	toldKind, toldSQL string // the last statement then

	depth int // how much of stack is of this borrower; 0: it wasn't taken
	stack [stackDepth]uintptr
}

const (
	// stackDepth is how much of a borrower's stack is kept. About a dozen of the frames are database/sql's and ours.
	stackDepth = 32
	// stackEvery and stackBurst bound what stacks cost, half a microsecond each: below four thousand checkouts a second
	// every borrower's is taken, beyond that four thousand a second, and at any time this many at once.
	stackEvery = 250 * time.Microsecond
	stackBurst = 128
	// alarm is for how long every borrower's stack is taken after a leak whose own is missing; the diary says so.
	alarm = 10 * time.Minute
)

// stackBudget decides whose stack is taken. It is safe for concurrent use.
type stackBudget struct {
	due     atomic.Int64 // by package clock: when all that were taken would be due, one every stackEvery
	unbound atomic.Int64 // by package clock: until then all are taken
}

func (b *stackBudget) allows(now int64) bool {
	due := b.due.Load()
	if due-now >= int64(stackBurst*stackEvery) {
		return now < b.unbound.Load()
	}
	return b.due.CompareAndSwap(due, max(due, now)+int64(stackEvery)) || now < b.unbound.Load()
}

// lend notes that the connection has been borrowed, and by whom.
func (m *member) lend(now int64) {
	p := m.pool
	takes := p.cfg.LeakDetection > 0 && p.stacks.allows(now)
	m.mu.Lock()
	defer m.mu.Unlock()
	h := &m.held
	h.since, h.told, h.counted, h.depth = now, false, false, 0
	if takes {
		h.depth = runtime.Callers(3, h.stack[:]) // behind lend and borrow
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
			p.diary.LeakBack(diary.Leak{PID: m.conn.PID(), Held: time.Duration(age), Summary: m.summary(held.toldKind, held.toldSQL), Borrower: held.frames()})
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
		PID: l.m.conn.PID(), Held: l.age, Summary: l.m.summary(l.held.toldKind, l.held.toldSQL), Borrower: l.held.frames(),
		Running: running, RowsOpen: rowsOpen, WaitsForItself: !running || l.held.asksForRows(),
	}
	if len(leak.Borrower) == 0 {
		p.stacks.unbound.Store(clock.Now() + int64(alarm))
	}
	p.diary.LeakFound(leak)
}

// asksForRows reports whether the connection was borrowed by a Query, whose rows may be what its caller is busy with.
func (h *holding) asksForRows() bool {
	frames := runtime.CallersFrames(h.stack[:h.depth])
	for h.depth > 0 {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, "(*session).QueryContext") {
			return true
		}
		if !more {
			break
		}
	}
	return false
}

// frames are the borrower's part of the stack, as "function file:line", the innermost first.
func (h *holding) frames() (all []string) {
	frames := runtime.CallersFrames(h.stack[:h.depth])
	for h.depth > 0 {
		f, more := frames.Next()
		if !isPlumbing(f.Function) {
			all = append(all, f.Function+" "+filepath.Base(f.File)+":"+strconv.Itoa(f.Line))
		}
		if !more {
			break
		}
	}
	return all
}

// isPlumbing reports whether a frame is of the way from the application to the pool, or below the application.
func isPlumbing(function string) bool {
	for _, prefix := range []string{
		"database/sql.", "github.com/pgprod/pgprod.", "github.com/pgprod/pgprod/internal/pool.", "runtime.",
	} {
		if strings.HasPrefix(function, prefix) {
			return true
		}
	}
	return false
}
