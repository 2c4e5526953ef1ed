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
)

// holding is who has a connection.
type holding struct {
	since   int64 // by clock.Now(); 0: nobody
	what    string
	sql     string // of the last statement
	told    bool   // it was logged as a leak
	counted bool   // it has been among the leaks of a collection of metrics

	toldWhat, toldSQL string // what and sql were then

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
	due     atomic.Int64 // by clock.Now(): when all that were taken would be due, one every stackEvery
	unbound atomic.Int64 // by clock.Now(): until then all are taken
}

func (b *stackBudget) allows(now int64) bool {
	due := b.due.Load()
	if due-now >= int64(stackBurst*stackEvery) {
		return now < b.unbound.Load()
	}
	return b.due.CompareAndSwap(due, max(due, now)+int64(stackEvery)) || now < b.unbound.Load()
}

// lend notes that the connection has been borrowed, and by whom.
func (c *conn) lend(now int64) {
	p := c.pool
	takes := p.cfg.LeakDetection > 0 && p.stacks.allows(now)
	c.mu.Lock()
	defer c.mu.Unlock()
	h := &c.held
	h.since, h.what, h.sql, h.told, h.counted, h.depth = now, "", "", false, false, 0
	if takes {
		h.depth = runtime.Callers(3, h.stack[:]) // behind lend and borrow
	}
}

// returned books that c is not lent any more, and returns how long it was.
func (p *Pool) returned(c *conn, now int64) int64 {
	c.left()
	c.mu.Lock()
	age := now - c.held.since
	leaked := c.held.counted || c.held.told || p.isLeak(age)
	if !leaked {
		c.held.since = 0
	}
	c.mu.Unlock()
	if leaked {
		if held := p.leakReturned(c); held.told {
			p.logBack(c, &held, time.Duration(age))
		}
	}
	return age
}

// leakReturned moves c from the leaks that there are to those that there were, in one step: a counter must not go back.
// One that has been counted stays a leak, even if whoever gave it back had looked at the clock a moment earlier.
func (p *Pool) leakReturned(c *conn) (was holding) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	p.leaked++
	was, c.held.since = c.held, 0
	return was
}

// logBack tells the diary that a connection has come back whose leak it was told of.
func (p *Pool) logBack(c *conn, held *holding, age time.Duration) {
	held.what, held.sql = held.toldWhat, held.toldSQL
	p.diary.LeakBack(diary.Leak{PID: c.pg.PID(), Held: age, Summary: c.lastOf(held), Borrower: held.frames()})
}

// lastOf is the last statement of whoever has the connection.
func (c *conn) lastOf(held *holding) string {
	return cmp.Or(c.summaryOf(held.what, held.sql), "no statement yet")
}

func (p *Pool) isLeak(held int64) bool {
	return p.cfg.LeakDetection > 0 && held >= int64(p.cfg.LeakDetection)
}

// leaks is how many checkouts were, or are, held beyond leak_detection.
func (p *Pool) leaks() int64 {
	now := clock.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.leaked
	for c := range p.conns {
		c.mu.Lock()
		if h := &c.held; h.since != 0 && (h.counted || h.told || p.isLeak(now-h.since)) {
			h.counted = true
			n++
		}
		c.mu.Unlock()
	}
	return n
}

// watchLeaksLocked sees to it that lookForLeaks is called while there are connections. It is called with p.mu held.
func (p *Pool) watchLeaksLocked() {
	if p.leakTimer == nil && p.cfg.LeakDetection > 0 && !p.closed.Load() {
		p.leakTimer = time.AfterFunc(p.cfg.LeakDetection, p.lookForLeaks)
	}
}

// lookForLeaks logs who has held a connection for too long, and comes again when the next could have.
func (p *Pool) lookForLeaks() {
	if !p.tasks.begin() { // Close waits until they are logged
		return
	}
	defer p.tasks.all.Done()
	p.mu.Lock()
	next, found := p.leaksLocked()
	if len(p.conns) == 0 || p.closed.Load() {
		p.leakTimer = nil
	} else {
		p.leakTimer.Reset(max(next, 10*time.Millisecond))
	}
	p.mu.Unlock()
	for _, l := range found {
		p.logLeak(l)
	}
}

// checkout is a copy of who has a connection, and for how long.
type checkout struct {
	c    *conn
	held holding
	age  time.Duration
}

// leaksLocked returns the leaks that were not logged yet, and when the next of the present borrowers could be one. Who
// borrows from now on can't be one before leak_detection is over.
func (p *Pool) leaksLocked() (next time.Duration, found []checkout) {
	now := clock.Now()
	next = p.cfg.LeakDetection
	for c := range p.conns {
		c.mu.Lock()
		held := now - c.held.since
		switch {
		case c.held.since == 0 || c.held.told:
		case p.isLeak(held):
			c.held.told, c.held.toldWhat, c.held.toldSQL = true, c.held.what, c.held.sql
			found = append(found, checkout{c, c.held, time.Duration(held)})
		default:
			next = min(next, p.cfg.LeakDetection-time.Duration(held))
		}
		c.mu.Unlock()
	}
	return next, found
}

// logLeak tells the diary of a leak. If the borrower's stack was not taken, those of all others are for a while.
func (p *Pool) logLeak(l checkout) {
	running, rowsOpen := l.c.state()
	leak := diary.Leak{
		PID: l.c.pg.PID(), Held: l.age, Summary: l.c.lastOf(&l.held), Borrower: l.held.frames(),
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

// state reports whether a statement is under way, or has been ended by command_timeout but its rows were not closed. Any
// goroutine may ask.
func (c *conn) state() (running, rowsOpen bool) {
	return c.guard.State()
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
