package lease

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// A model says what the queue must look like: who owns a place, who waits in which order, how many connections exist.
// It knows nothing of how many dials the queue starts; those it only holds against the rules.
type model struct {
	*bench
	min, max int
	begun    bool // somebody has waited, so that the minimum is kept
	failing  bool // the latest attempt has failed, so that dials for the minimum may pause
	open     int
	owners   []*patron
	lostOnes []*patron // owners whose connection is closed
	waiting  []*patron // those who retry first
	leaving  []*patron // must have their outcome when the step is over
	failures int64
	waits    int64
	timeouts int64
	left     int64
	closed   bool
}

// A patron is a caller and what the model expects of it.
type patron struct {
	*caller
	id       int
	again    bool
	queued   bool      // it has been in the queue
	deadline time.Time // zero: none
	want     error
}

func TestTheQueueDoesWhatItsModelSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(rand.N(time.Hour))                         // rapid takes its seed from the clock, which begins at the same time in each bubble
		rapid.Check(struct{ rapid.TB }{t}, func(t *rapid.T) { // without Deadline, which a bubble forbids
			places := rapid.IntRange(1, 6).Draw(t, "places")
			m := newModel(rapid.IntRange(0, places).Draw(t, "minimum"), places)
			defer m.bench.sweep()
			t.Repeat(map[string]func(*rapid.T){
				"":              m.check,
				"acquire":       m.acquireOne,
				"acquire again": m.acquireOne, // twice as likely: there must be a queue
				"cancel":        m.cancelOne,
				"release":       m.releaseOne,
				"close and let go": func(t *rapid.T) {
					m.closeOne(t)
					m.releaseLost()
				},
				"close and retry": func(t *rapid.T) {
					m.closeOne(t)
					m.retryOne(t)
				},
				"retry":        m.retryOne,
				"close idle":   m.closeIdle,
				"close lent":   m.closeOne,
				"connect":      m.connect,
				"fail":         func(t *rapid.T) { m.fail(t, errRefused) },
				"fail forever": func(t *rapid.T) { m.fail(t, errPassword) },
				"time goes on": m.pass,
			})
			m.wind(t)
		})
	})
}

func newModel(minimum, places int) *model {
	return &model{bench: newBench(minimum, places), min: minimum, max: places}
}

// sweep ends all goroutines, whatever state a failed check left them in.
func (b *bench) sweep() {
	b.q.Close()
	for _, c := range b.callers {
		c.cancel()
	}
	b.settle()
}

// draw picks one. Where there is none, Skip has rapid draw another action in place of this one: no test is skipped.
func draw[E any](t *rapid.T, from []E, label string) E {
	if len(from) == 0 {
		t.Skip("no " + label)
	}
	return from[rapid.IntRange(0, len(from)-1).Draw(t, label)]
}

// serve is the heart of the model: free connections go to those who have waited longest.
func (m *model) serve() {
	for len(m.waiting) > 0 && len(m.owners) < m.open {
		m.owners = append(m.owners, m.waiting[0])
		m.waiting = m.waiting[1:]
	}
}

func (m *model) sendAway(p *patron, why error) {
	m.waiting = slices.DeleteFunc(m.waiting, func(other *patron) bool { return other == p })
	p.want = why
	m.leaving = append(m.leaving, p)
}

func (m *model) sendAllAway(why error) {
	for len(m.waiting) > 0 {
		m.sendAway(m.waiting[0], why)
	}
}

// enter starts a call. Limits end at half milliseconds and time goes on by whole ones, so that no two things happen at
// once that the model would have to put in order.
func (m *model) enter(t *rapid.T, p *patron, acquire acquisition) {
	limit := time.Duration(0)
	if rapid.Bool().Draw(t, "limited") {
		limit = time.Duration(rapid.IntRange(0, 1500).Draw(t, "limit"))*time.Millisecond + time.Millisecond/2
		p.deadline = time.Now().Add(limit)
	}
	if len(m.owners) < m.open && (p.again || len(m.waiting) == 0) {
		m.owners = append(m.owners, p)
	} else {
		if !p.queued {
			m.waits++
		}
		p.queued, m.begun = true, true
		at := len(m.waiting)
		if p.again {
			at = len(m.waiting) - len(slices.DeleteFunc(slices.Clone(m.waiting), func(w *patron) bool { return w.again }))
		}
		m.waiting = slices.Insert(m.waiting, at, p)
	}
	p.caller = m.call(context.Background(), acquire, limit)
}

func (m *model) acquireOne(t *rapid.T) {
	m.enter(t, &patron{id: m.next()}, m.q.Acquire)
}

func (m *model) next() int { return int(m.waits) + len(m.owners) }

func (m *model) retryOne(t *rapid.T) {
	owner := draw(t, m.owners, "owner")
	if len(m.lostOnes) > 0 { // as in real life: who lost its connection retries
		owner = m.lostOnes[0]
	}
	m.drop(owner)
	m.enter(t, &patron{id: owner.id, again: true, queued: owner.queued}, m.retryAfter(owner.queued))
	m.serve()
}

func (m *model) drop(owner *patron) {
	is := func(other *patron) bool { return other == owner }
	m.owners, m.lostOnes = slices.DeleteFunc(m.owners, is), slices.DeleteFunc(m.lostOnes, is)
}

func (m *model) cancelOne(t *rapid.T) {
	p := draw(t, m.waiting, "waiter")
	m.sendAway(p, context.Canceled)
	m.left++
	p.cancel()
	m.settle()
}

func (m *model) releaseOne(t *rapid.T) {
	m.drop(draw(t, m.owners, "owner"))
	m.serve()
	m.release()
}

func (m *model) releaseLost() {
	m.drop(m.lostOnes[0])
	m.serve()
	m.release()
}

// closeOne closes the connection of an owner, who keeps the place for now.
func (m *model) closeOne(t *rapid.T) {
	if len(m.owners) == len(m.lostOnes) {
		t.Skip("no owner has a connection")
	}
	for _, p := range m.owners {
		if !slices.Contains(m.lostOnes, p) {
			m.lostOnes = append(m.lostOnes, p)
			break
		}
	}
	m.open--
	m.bench.closed()
}

func (m *model) closeIdle(t *rapid.T) {
	if m.open <= len(m.owners)-len(m.lostOnes) {
		t.Skip("none is idle")
	}
	m.open--
	m.bench.closed()
}

func (m *model) connect(t *rapid.T) {
	d := draw(t, m.underWay(), "dial")
	m.open++
	m.failing = false
	m.serve()
	d.answer <- nil
	m.settle()
}

func (m *model) fail(t *rapid.T, err error) {
	d := draw(t, m.underWay(), "dial")
	m.failures++
	m.failing = true
	if err == errPassword && m.open == 0 {
		m.sendAllAway(err)
	}
	d.answer <- err
	m.settle()
}

func (m *model) pass(t *rapid.T) {
	d := time.Duration(rapid.IntRange(1, 600).Draw(t, "milliseconds")) * time.Millisecond
	now := time.Now().Add(d)
	for _, p := range slices.Clone(m.waiting) {
		if !p.deadline.IsZero() && p.deadline.Before(now) {
			m.timeouts++
			m.sendAway(p, ErrTimeout)
		}
	}
	m.advance(d)
}

// check is called before the first step and after each.
func (m *model) check(t *rapid.T) {
	for _, p := range m.leaving {
		m.must(t, p.done && p.err == p.want, "caller %d should have left with %v, got %v", p.id, p.want, p.err)
		if p.want == ErrTimeout {
			m.must(t, p.waited%time.Millisecond == time.Millisecond/2, "caller %d: inexact timeout, %v", p.id, p.waited)
		}
	}
	m.leaving = nil
	for _, p := range m.owners {
		m.must(t, p.owns(), "caller %d should own a place, got %v", p.id, p.err)
	}
	for _, p := range m.waiting {
		m.must(t, !p.done, "caller %d should wait, got %v", p.id, p.err)
	}

	s, dials := m.q.Stats(), len(m.underWay())
	m.must(t, s.Open == m.open, "open %d, want %d", s.Open, m.open)
	m.must(t, s.Lent == len(m.owners), "lent %d, want %d", s.Lent, len(m.owners))
	m.must(t, s.Waiting == len(m.waiting), "waiting %d, want %d", s.Waiting, len(m.waiting))
	m.must(t, s.Lent-len(m.lostOnes) <= s.Open, "more lent than open: %+v", s)
	m.must(t, s.Open+s.Dialing <= m.max, "more connections than places: %+v", s)
	m.must(t, s.PeakLent >= s.Lent && s.PeakLent <= m.max, "peak: %+v", s)
	m.must(t, dials <= s.Dialing, "%d dials under way, %+v", dials, s)
	m.must(t, s.Waiting == 0 || s.Lent >= s.Open, "somebody waits while a connection is free: %+v", s)
	m.must(t, s.Waiting == 0 || s.Open+s.Dialing == m.max || s.Dialing > 0 || m.closed, "nobody dials for those who wait: %+v", s)
	ahead := m.min - s.Open - s.Dialing
	m.must(t, ahead <= 0 || !m.begun || m.failing || m.closed || s.Dialing > 0, "nobody dials for the minimum: %+v", s)
	m.must(t, m.begun || s.Dialing == 0, "dials before the first caller: %+v", s)
	m.must(t, s.Failures == m.failures, "failures %d, want %d", s.Failures, m.failures)
	m.must(t, s.Waits == m.waits && s.Timeouts == m.timeouts && s.Cancelled == m.left, "counters: %+v", s)
	hung, slow := m.slowDials()
	m.must(t, 0 <= hung && hung <= slow && slow <= dials, "%d of %d slow dials hang", hung, slow)
}

func (m *model) must(t *rapid.T, ok bool, format string, args ...any) {
	t.Helper()
	if !ok {
		t.Fatalf(format, args...)
	}
}

// wind ends the run: either everybody is served, or the queue is closed on them. Then nothing may be left.
func (m *model) wind(t *rapid.T) {
	if rapid.Bool().Draw(t, "close") {
		m.closed = true
		m.sendAllAway(ErrClosed)
		m.q.Close()
		m.settle()
		m.check(t)
		m.must(t, len(m.underWay()) == 0, "dials outlive Close")
	}
	for len(m.waiting)+len(m.owners) > 0 {
		switch {
		case len(m.lostOnes) > 0:
			m.releaseLost()
		case len(m.owners) > 0:
			m.drop(m.owners[0])
			m.serve()
			m.release()
		case len(m.underWay()) > 0:
			m.connect(t)
		default:
			m.pass(t) // until the pause is over
		}
		m.check(t)
	}
	m.pass(t)
	for len(m.underWay()) > 0 {
		m.connect(t)
	}
	m.keepsTheMinimum(t)
	m.closed = true
	m.q.Close() // or what is closed would be made good
	for m.open > 0 {
		m.closeIdle(t)
	}
	m.advance(maxBackoff)
	s := m.q.Stats()
	m.must(t, s.Open+s.Lent+s.Waiting+s.Dialing == 0, "left over: %+v", s)
	hung, slow := m.slowDials()
	m.must(t, hung+slow == 0, "left over in the ramp: %d, %d", hung, slow)
}

// keepsTheMinimum lets the longest pause pass, and makes the connections that are dialled then.
func (m *model) keepsTheMinimum(t *rapid.T) {
	if m.closed || !m.begun {
		return
	}
	m.advance(maxBackoffAhead)
	for len(m.underWay()) > 0 {
		m.connect(t)
	}
	m.must(t, m.open >= m.min, "the minimum is %d: %+v", m.min, m.q.Stats())
}

func (m *model) slowDials() (hung, slow int) {
	m.q.mu.Lock()
	defer m.q.mu.Unlock()
	return m.q.ramp.hung, len(m.q.ramp.slow)
}
