package pool

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/hosts"
)

// silenceWatch notices that a host says nothing any more, by a timer that looks at the connections while something waits for a
// reply on one of them. If nothing has come from an address for dead_after, the host is asked whether it is alive (question.go).
// If it answers, all is well for another dead_after. If it doesn't, the connections on which something waits are cut.
//
// A host that is alive must never be taken for dead. What speaks for it is looked for in several places, and if this process
// itself was held up, all begins anew.
type silenceWatch struct {
	armed atomic.Bool // the timer fires soon, or never again: who begins to wait for a reply need not set it

	setting sync.Mutex // guards the timer's fields; nothing else is locked under it
	timer   *time.Timer
	due     int64 // by package clock: when the timer fires; 0: it is not set
	over    bool  // the timer is not set any more, and armed stays true

	mu     sync.Mutex              // guards places, and member.listens; books.mu is locked under it
	places map[string]*silentPlace // by address, those where something waits for a reply
}

// A silentPlace is an address, and how long nothing has come from it.
type silentPlace struct {
	heard    int64     // by package clock: nothing has come since then, or the silence is counted from then on
	question *question // whether it is alive; nil: it isn't asked
	waiting  []*member // the connections on which something waits for a reply
	since    int64     // by package clock: something has waited there at each look since then
	newest   *member   // the one of its connections that was made last

	answered  int64 // by package clock: when something has last come from it, or it has said that it is alive; 0: not known
	pathsSeen int64 // by package clock: when the paths of its connections were last looked at
}

// How often it is looked, in parts of dead_after.
const (
	looksPerDeath = 20  // while something waits for a reply
	hastyPerDeath = 100 // while a question is left unanswered, and another host may turn out to be the primary
	restsPerDeath = 4   // while connections are lent, and nothing waits
	soonestLook   = 5 * time.Millisecond
)

// lookPeriod returns the time between two looks.
func (p *Pool) lookPeriod() time.Duration { return max(p.cfg.DeadAfter/looksPerDeath, soonestLook) }

// watchSilence is called when something begins for which a reply is waited for.
func (p *Pool) watchSilence() {
	if !p.silence.armed.Load() {
		p.silence.arm(clock.Now()+int64(p.lookPeriod()), true, p.lookForSilence)
	}
}

// arm sets the timer, unless it fires earlier already. soon says that nobody else need set it until then.
func (w *silenceWatch) arm(due int64, soon bool, fire func()) {
	w.setting.Lock()
	defer w.setting.Unlock()
	if w.over {
		return
	}
	if soon {
		w.armed.Store(true)
	}
	if w.due != 0 && w.due <= due {
		return
	}
	w.due = due
	after := time.Duration(due - clock.Now())
	if w.timer == nil {
		w.timer = time.AfterFunc(after, fire)
	} else {
		w.timer.Reset(after)
	}
}

// fired is called when the timer has fired. It returns how late that was.
func (w *silenceWatch) fired(now int64) (late time.Duration) {
	w.setting.Lock()
	defer w.setting.Unlock()
	if w.due != 0 {
		late = time.Duration(now - w.due)
	}
	w.due = 0
	w.armed.Store(w.over)
	return late
}

// stop ends the watch. It is called by Close, and at the beginning if dead_after is 0.
func (w *silenceWatch) stop() {
	w.setting.Lock()
	defer w.setting.Unlock()
	w.over = true
	w.armed.Store(true)
	if w.timer != nil {
		w.timer.Stop()
	}
}

// lookForSilence is called by the timer. It looks at all connections, has hosts asked, cuts connections, and sets the timer
// for the next time, unless nothing is lent and nothing waits.
func (p *Pool) lookForSilence() {
	if !p.tasks.begin() {
		return
	}
	defer p.tasks.all.Done()
	now := clock.Now()
	late := p.silence.fired(now) // who begins to wait from now on sets the timer itself
	next, lent, todo := p.look(now, late)
	for _, do := range todo {
		do()
	}
	switch {
	case next > 0:
		p.silence.arm(now+int64(next), true, p.lookForSilence)
	case lent:
		p.silence.arm(now+int64(p.cfg.DeadAfter/restsPerDeath), false, p.lookForSilence)
	}
}

// look looks at all connections, and decides about each place. It returns when to look again, 0 if nothing waits for a reply,
// whether connections are lent, and what is to be done now, without a lock.
func (p *Pool) look(now int64, late time.Duration) (next time.Duration, lent bool, todo []func()) {
	w := &p.silence
	w.mu.Lock()
	defer w.mu.Unlock()
	waits, lent := p.listen(now)
	if waits {
		next = p.lookPeriod()
	}
	for address, at := range w.places {
		if len(at.waiting) == 0 {
			at.question.giveUp()
			delete(w.places, address)
			continue
		}
		if late > p.cfg.DeadAfter/4 { // this process was held up: what has come meanwhile may not have been read
			at.restart(now)
			continue
		}
		todo = append(todo, p.judge(at, now)...)
		todo = append(todo, p.judgePaths(at, now)...)
		next = min(next, p.untilDecision(at, now))
	}
	return next, lent, todo
}

// untilDecision returns when there may be something to decide about a place. It is called with silenceWatch.mu held.
func (p *Pool) untilDecision(at *silentPlace, now int64) time.Duration {
	q, quarter := at.question, p.cfg.DeadAfter/4
	var next time.Duration
	switch {
	case q == nil:
		next = p.cfg.DeadAfter - at.silence(now)
	case q.isLate(now, quarter):
		next = p.cfg.DeadAfter / hastyPerDeath
	default:
		next = quarter - time.Duration(now-q.began)
	}
	return max(next, soonestLook)
}

// listen notes for each place what waits for a reply, and when something last came from it. It is called with silenceWatch.mu
// held.
func (p *Pool) listen(now int64) (waits, lent bool) {
	w := &p.silence
	for _, at := range w.places {
		at.waiting, at.newest = at.waiting[:0], nil
	}
	p.books.mu.Lock()
	defer p.books.mu.Unlock()
	for m := range p.books.members {
		lent = lent || m.lent()
		at := w.places[m.conn.Address()]
		if m.conn.Awaits() {
			waits = true
			if at == nil {
				at = &silentPlace{heard: m.conn.Heard(), since: now}
				w.places[m.conn.Address()] = at
			}
			at.add(m, now)
		} else {
			m.listens = false
		}
		if at != nil {
			at.hears(m.conn.Heard())
			if at.newest == nil || m.epoch > at.newest.epoch {
				at.newest = m
			}
		}
	}
	return waits, lent
}

// add notes that something waits for a reply on a connection, and whether something has come since the last look.
func (at *silentPlace) add(m *member, now int64) {
	switch {
	case !m.listens:
		m.listens, m.quietSince, m.stuckSince = true, now, 0
		m.conn.Listen()
	case !m.conn.Deaf():
		m.quietSince, m.stuckSince = now, 0
		at.hears(now)
		m.conn.Listen()
	}
	at.waiting = append(at.waiting, m)
}

// hears notes when something has come from the place.
func (at *silentPlace) hears(when int64) {
	at.heard, at.answered = max(at.heard, when), max(at.answered, when)
}

// silence returns how long something has waited at a place from which nothing has come.
func (at *silentPlace) silence(now int64) time.Duration {
	return time.Duration(now - max(at.heard, at.since))
}

// restart has the silence counted from now on.
func (at *silentPlace) restart(now int64) {
	at.question.giveUp()
	at.heard, at.question = now, nil
}

// judge decides about a place where something waits for a reply, and returns what is to be done without a lock. It is called
// with silenceWatch.mu held.
func (p *Pool) judge(at *silentPlace, now int64) (todo []func()) {
	silent, q := at.silence(now), at.question
	outcome := q.outcome()
	if outcome == notYet && q.isLate(now, p.cfg.DeadAfter/4) {
		todo = append(todo, q.others(now, p.askHosts))
		if p.promoted(at) {
			outcome = unanswered
		}
	}
	switch {
	case silent < p.cfg.DeadAfter:
		q.giveUp()
		at.question = nil
	case q == nil, outcome == unclear:
		q = p.newQuestion(at, now)
		at.question = q
		todo = append(todo, func() { p.tasks.run(q.ask) }) // ends within its limit
	case outcome == answered, outcome == unanswered && q.wasAnsweredOtherwise(at):
		at.restart(now)
		at.answered = now
	case outcome == unanswered:
		cut := p.newSentence(at, now)
		todo = append(todo, func() { p.execute(cut) })
		at.restart(now)
	}
	return todo
}

// promoted reports whether another host, that was a standby, has become the primary since the silence began, where only primaries
// are wanted. Then the silent one need not be waited for any longer than a quarter of dead_after.
func (p *Pool) promoted(at *silentPlace) bool {
	board, own := p.dialer.Hosts(), at.waiting[0].conn.Host()
	return board.Wanted().OnlyPrimaries() && slices.ContainsFunc(board.Hosts(), func(h *hosts.Host) bool {
		return h != own && h.Status().PromotedSince(at.question.silentSince)
	})
}

// A sentence is what is done about a silent place.
type sentence struct {
	waiting []*member
	newest  *member // of all its connections
	err     *hosts.SilentError
}

// newSentence returns what is to be done about a place. It is called with silenceWatch.mu held.
func (p *Pool) newSentence(at *silentPlace, now int64) sentence {
	conn := at.waiting[0].conn
	s := sentence{newest: at.newest, err: &hosts.SilentError{
		Host: conn.Host().Name(), Address: conn.Address(), For: at.silence(now), Asked: time.Duration(now - at.question.began),
	}}
	for _, m := range at.waiting {
		if !at.question.unread[m] { // what has come before the silence can still be read
			s.waiting = append(s.waiting, m)
		}
	}
	return s
}

// execute cuts the connections on which something waits for a silent host, and has the others replaced. What failed may be
// tried again elsewhere at once, so that it is known first that the host is of no use.
func (p *Pool) execute(s sentence) {
	if p.closed.Load() || len(s.waiting) == 0 {
		return
	}
	s.waiting[0].conn.Host().Fails(s.err)
	p.invalidate(s.newest.conn, s.newest.epoch, s.err)
	for _, m := range s.waiting {
		m.conn.Sever(s.err)
	}
}
