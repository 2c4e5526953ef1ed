package pool

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/diagnose"
	"github.com/pgprod/pgprod/internal/diary"
	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/pgerror"
)

const (
	// lookPause is the least time between two questions of a pool's about slow statements. After one that has failed it
	// doubles, up to longestLookPause.
	lookPause        = time.Second
	longestLookPause = time.Minute
	// lookAgain is the longest time after which a statement that is still slow is looked at again. Before, its age doubles
	// from one look to the next.
	lookAgain = 10 * time.Second
	// mostAsked is how many statements one question is about at most.
	mostAsked = 50
	// soonest is the least time after which the timer is set again, whatever slow_query is.
	soonest = 10 * time.Millisecond
	// toldAfter times slow_query is the age from which on there is a line about a statement that still runs. Most statements
	// that are slow have ended by then, with a line of their own.
	toldAfter = 8
)

// slowWatch notices statements that have run for slow_query and still run, by a timer that is set only while connections are
// lent, and has the server asked what they wait for.
type slowWatch struct {
	armed atomic.Bool // the timer is set, or what it calls is running: a borrower need not set it

	mu      sync.Mutex // guards what follows; nothing else is locked under it
	timer   *time.Timer
	due     int64         // by package clock: when the timer fires, or has fired; 0: it is not set
	over    bool          // the timer is not set any more, and armed stays true, so that no borrower comes as far as here
	allowed int64         // by package clock: before that no question is asked
	pause   time.Duration // how long the pause after the last question is that has failed; 0: the last one was answered
}

// lookedAt says which of a borrower's statements was found to be slow.
type lookedAt struct {
	began int64 // link.Moment.Began of the statement
	next  int64 // by package clock: when it is looked at again
	told  bool  // there was a line about it
}

// A slowStatement is a statement that has run for slow_query or longer. It may have ended since it was found.
type slowStatement struct {
	openCheckout
	link.Moment
	runs time.Duration
	due  bool // it is to be looked at now; otherwise it was looked at not long ago
}

// watchSlowFrom is called by borrow, at now: a statement may begin that is slow by then.
func (p *Pool) watchSlowFrom(now int64) {
	if p.cfg.SlowQuery > 0 && !p.slow.armed.Load() {
		p.slow.arm(now+int64(p.cfg.SlowQuery), p.lookForSlow)
	}
}

// arm sets the timer, unless it fires earlier already.
func (w *slowWatch) arm(due int64, fire func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over || w.due != 0 && w.due <= due {
		return
	}
	w.due = due
	w.armed.Store(true)
	after := max(time.Duration(due-clock.Now()), soonest)
	if w.timer == nil {
		w.timer = time.AfterFunc(after, fire)
	} else {
		w.timer.Reset(after)
	}
}

// disarmed is called when what the timer has called is over. It returns from when on the next question may be asked, by
// package clock.
func (w *slowWatch) disarmed() (allowed int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.due = 0
	w.armed.Store(w.over)
	return w.allowed
}

// stop ends the watch. It is called by Close, and if the server doesn't know what it is asked. A look that has begun is
// one of the pool's tasks, and ends with the pool's life.
func (w *slowWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	w.armed.Store(true)
	if w.timer != nil {
		w.timer.Stop()
	}
}

// mayAsk reports whether the server may be asked at now. If so, nobody may ask again within lookPause.
func (w *slowWatch) mayAsk(now int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now < w.allowed {
		return false
	}
	w.allowed = now + int64(lookPause)
	return true
}

// asked notes how a question went, which decides when the next one may be asked.
func (w *slowWatch) asked(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.pause = 0
		return
	}
	w.pause = min(max(2*w.pause, lookPause), longestLookPause)
	w.allowed = clock.Now() + int64(w.pause)
}

// lookForSlow has the server asked about the statements that are slow, if one of them is to be looked at. The timer calls
// it. It sets the timer for the next time, unless nothing is lent.
func (p *Pool) lookForSlow() {
	if !p.tasks.begin() { // Close waits for the answer
		return
	}
	defer p.tasks.all.Done()
	w := &p.slow
	if all, due, _ := p.slowStatements(clock.Now()); due != (link.Place{}) && w.mayAsk(clock.Now()) {
		p.askAbout(due, all)
	}
	allowed := w.disarmed() // who borrows from now on sets the timer itself
	now := clock.Now()
	_, due, next := p.slowStatements(now)
	if due != (link.Place{}) {
		next = earlier(next, max(allowed, now))
	}
	if next != 0 {
		w.arm(p.nextFire(now, next), p.lookForSlow)
	}
}

// nextFire returns when the timer fires next, at now, when something that is lent is due at next. A statement that begins
// meanwhile doesn't set the timer, which is set already: so it fires again before such a one can have run for slow_query
// unnoticed, even if all that is slow now is to be looked at much later.
func (p *Pool) nextFire(now, next int64) int64 { return min(next, now+int64(p.cfg.SlowQuery)) }

// earlier returns the earlier of two times by package clock, of which 0 is none.
func earlier(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// slowStatements returns the statements that have run for slow_query at now. due is the place of a server that is to be
// asked now, that of the oldest statement that is due; zero: none is. next is when a statement may be due next, by package
// clock; 0: nothing is lent, or all that is lent is due.
func (p *Pool) slowStatements(now int64) (all []slowStatement, due link.Place, next int64) {
	oldest := now
	p.books.mu.Lock()
	defer p.books.mu.Unlock()
	for m := range p.books.members {
		if !m.lent() {
			continue
		}
		s, isSlow, when := m.slowStatement(now, int64(p.cfg.SlowQuery))
		next = earlier(next, when)
		if isSlow {
			all = append(all, s)
		}
		if s.due && s.Began < oldest {
			oldest, due = s.Began, m.conn.Place()
		}
	}
	return all, due, next
}

// slowStatement returns what runs on the connection, if it has run for slow_query at now. next is when there may be something
// to look at, by package clock; 0: there is something now.
func (m *member) slowStatement(now, slow int64) (s slowStatement, is bool, next int64) {
	moment, running := m.conn.UnderWay()
	age := now - moment.Began
	switch {
	case !running:
		return s, false, now + slow
	case age < slow:
		return s, false, moment.Began + slow
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s = slowStatement{openCheckout{m.checkout, m, time.Duration(now - m.checkout.since)}, moment, time.Duration(age), true}
	if at := &m.checkout.lookedAt; at.began == moment.Began && now < at.next {
		s.due, next = false, at.next
	}
	return s, true, next
}

// askAbout asks the server at a place what slow statements do there, and notes what it says. No lock is held.
func (p *Pool) askAbout(at link.Place, all []slowStatement) {
	all = mostUrgent(slices.DeleteFunc(all, func(s slowStatement) bool { return s.m.conn.Place() != at }))
	asked := make([]diagnose.Asked, len(all))
	for i, s := range all {
		s.m.looked(s.Moment, s.runs)
		asked[i] = diagnose.Asked{Conn: s.m.conn, Moment: s.Moment}
	}
	sent, others := clock.Now(), p.underWay(at)
	sessions, err := p.prober.About(at, asked)
	if p.closed.Load() {
		return
	}
	p.slow.asked(err)
	switch {
	case pgerror.IsUnknownThere(err):
		p.slow.stop()
		return
	case err != nil:
		return
	}
	others = append(others, p.underWay(at)...) // those too that have begun before the server looked
	for i, s := range all {
		if cause := sessions.Cause(asked[i], others); cause != nil {
			p.recognise(cause, s, sessions, sent)
			p.noteCause(s, cause)
		}
	}
}

// mostUrgent returns as many statements as one question may be about. If there are more, those are left out that were looked
// at lately, and then those that have begun last.
func mostUrgent(all []slowStatement) []slowStatement {
	slices.SortFunc(all, func(a, b slowStatement) int {
		switch {
		case a.due && !b.due:
			return -1
		case b.due && !a.due:
			return 1
		}
		return cmp.Compare(a.Began, b.Began)
	})
	return all[:min(len(all), mostAsked)]
}

// underWay returns the statements under way on connections to the server at a place.
func (p *Pool) underWay(at link.Place) (all []diagnose.Asked) {
	p.books.mu.Lock()
	defer p.books.mu.Unlock()
	for m := range p.books.members {
		if moment, runs := m.conn.UnderWay(); runs && m.conn.Place() == at {
			all = append(all, diagnose.Asked{Conn: m.conn, Moment: moment})
		}
	}
	return all
}

// looked notes that a statement is looked at which has run for so long, and when it is looked at again.
func (m *member) looked(s link.Moment, runs time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := &m.checkout.lookedAt
	*at = lookedAt{began: s.Began, next: s.Began + int64(runs+min(runs, lookAgain)), told: at.told && at.began == s.Began}
}

// noteCause notes what a statement was found to wait for, unless it has ended meanwhile. If it has run for long, and will
// perhaps never end, there is a line about it.
func (p *Pool) noteCause(s slowStatement, cause *activity.Cause) {
	if !s.m.conn.NoteCause(s.Began, cause) || cause.After < toldAfter*p.cfg.SlowQuery || !s.m.tell(s.Began) {
		return
	}
	p.diary.StillRuns(diary.RunningStatement{
		Summary: s.m.summary(s.Kind, s.SQL), Text: link.TextOf(s.m.conn.Target(), s.Kind, s.SQL),
		PID: s.m.conn.PID(), Cause: cause, Borrower: s.stack.Frames(),
	})
}

// tell reports whether there was no line yet about the statement that began then, and notes that there is one now.
func (m *member) tell(began int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := &m.checkout.lookedAt
	if at.began != began || at.told {
		return false
	}
	at.told = true
	return true
}

// recognise adds what the pool knows of those that block a statement, where they are connections of its own. The server was
// asked at sent. Of a connection that has changed hands since then it isn't known who had it.
func (p *Pool) recognise(cause *activity.Cause, waits slowStatement, sessions *diagnose.Sessions, sent int64) {
	for i := range cause.Chain {
		b := &cause.Chain[i]
		own, found := p.ownConn(b.PID, sessions)
		if !found {
			continue
		}
		if b.Own = new(activity.Own); own.since > sent || own.since == 0 && b.State != "idle" {
			continue
		}
		b.Own = own.own()
		if i == 0 && strings.HasPrefix(b.State, "idle in transaction") && !b.Own.Running && b.InState >= cause.After-lookPause {
			cause.Itself = waits.stack.MayFollow(&own.stack)
		}
		if len(b.Own.Stack) == 0 {
			p.stacks.Missed(clock.Now())
		}
	}
}

// ownConn returns the pool's connection that the session with a pid serves, and whether there is one.
func (p *Pool) ownConn(pid uint32, sessions *diagnose.Sessions) (own openCheckout, found bool) {
	now := clock.Now()
	p.books.mu.Lock()
	defer p.books.mu.Unlock()
	for m := range p.books.members {
		if m.conn.PID() != pid || !sessions.Serves(pid, m.conn) {
			continue
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		own = openCheckout{checkout: m.checkout, m: m}
		if own.since != 0 {
			own.age = time.Duration(now - own.since)
		}
		return own, true
	}
	return own, false
}

// own returns what the pool knows of a connection that blocks others.
func (c *openCheckout) own() *activity.Own {
	running, _ := c.m.conn.State()
	kind, sql := c.m.conn.Doing()
	return &activity.Own{
		Held: c.age, Running: running, Summary: link.SummaryOf(c.m.conn.Target(), kind, sql), Stack: c.stack.Frames(),
	}
}
