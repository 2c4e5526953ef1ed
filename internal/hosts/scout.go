package hosts

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// How long the pauses between two questions to one host are. Each is up to a quarter longer or shorter, at random.
const (
	// whileUp is for a host that answers: its role may change.
	whileUp = 10 * time.Second
	// firstDown and lastDown are for one that is Down. From the first to the last the pause is an eighth of how long that has
	// been so.
	firstDown, lastDown = 250 * time.Millisecond, 5 * time.Second
	// firstSought and lastSought are for all hosts while none is known that would do. The pause is a 20th of how long that has
	// been so: for three seconds it is the first.
	firstSought, lastSought = 150 * time.Millisecond, 5 * time.Second
	// firstLook is when the first question comes after Wake.
	firstLook = 500 * time.Millisecond
)

// ScoutOptions are what a Scout is made with. None may be nil.
type ScoutOptions struct {
	Board *Board
	// Ask asks a host, and tells the Board what it has said. It limits its own time, and is over when the pool is closed.
	Ask func(*Host)
	// Run calls a function in a goroutine for which the pool's end waits.
	Run func(func())
	// Needed reports whether there is anybody for whom to ask. If not, the Scout rests until Wake.
	Needed func() bool
	// Heard reports whether the host has answered on a connection of the pool's within that time, so that it needn't be asked.
	Heard func(h *Host, within time.Duration) bool
}

// A Scout asks the hosts of a Board how they are, so that callers needn't find out. Each host is asked by itself, one question
// at a time, so that one that doesn't answer delays nothing. Between two questions there is a timer and no goroutine. It is
// safe for concurrent use. Stop ends it.
type Scout struct {
	opts  ScoutOptions // not changed
	awake atomic.Bool  // the timers are set: Wake has nothing to do

	mu      sync.Mutex // guards what follows; Board.mu is locked under it
	visits  []*visit   // one for each host
	stopped bool       // Stop was called
	seeking bool       // no host was known that would do, when last looked
	sought  time.Time  // since when that has been so
}

// A visit is what the Scout knows of its questions to one host. Scout.mu guards it.
type visit struct {
	host   *Host
	timer  *time.Timer // calls Scout.visit; nil before the first Wake
	due    time.Time   // when the timer fires
	told   bool        // Now was called: the host is asked even if it was heard of
	asking bool        // a question is under way
	again  bool        // it is to be asked again when that is over
}

// NewScout returns a Scout that rests.
func NewScout(o ScoutOptions) *Scout {
	s := &Scout{opts: o}
	for _, h := range o.Board.Hosts() {
		s.visits = append(s.visits, &visit{host: h})
	}
	return s
}

// Wake is called when somebody needs the hosts: a connection is being made. It costs next to nothing if the Scout is awake.
func (s *Scout) Wake() {
	if s.awake.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped || s.awake.Swap(true) {
		return
	}
	for _, v := range s.visits {
		s.setLocked(v, jittered(firstLook))
	}
}

// Now asks all hosts at once: one of them has gone, or another has taken its place. A host that is being asked is asked again
// after that, since the answer may be older than the news.
func (s *Scout) Now() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	s.awake.Store(true)
	for _, v := range s.visits {
		v.told = true
		if v.again = v.asking; !v.asking {
			s.setLocked(v, 0)
		}
	}
}

// Changed is called when the Board has changed: a host may have to be asked earlier than it was planned.
func (s *Scout) Changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped || !s.awake.Load() {
		return
	}
	s.lookLocked()
	for _, v := range s.visits {
		if d := s.pauseLocked(v); !v.asking && d < time.Until(v.due) {
			s.setLocked(v, d)
		}
	}
}

// Stop ends the Scout. Questions under way end with the pool's life.
func (s *Scout) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	s.awake.Store(true) // so that Wake has nothing to do
	s.haltLocked()
}

// haltLocked stops all timers.
func (s *Scout) haltLocked() {
	for _, v := range s.visits {
		if v.timer != nil {
			v.timer.Stop()
		}
	}
}

// setLocked has a host asked after a pause.
func (s *Scout) setLocked(v *visit, d time.Duration) {
	v.due = time.Now().Add(d)
	if v.timer == nil {
		v.timer = time.AfterFunc(d, func() { s.visit(v) }) // does no I/O; Stop stops it
	} else {
		v.timer.Reset(d)
	}
}

// visit is called by a host's timer. It has the host asked, or the Scout rest if nobody needs that.
func (s *Scout) visit(v *visit) {
	if !s.opts.Needed() {
		s.rest()
		return
	}
	known := s.opts.Heard(v.host, whileUp)
	if !s.begin(v, known) {
		return
	}
	s.opts.Run(func() { // ends when Ask does
		s.opts.Ask(v.host)
		s.end(v)
	})
}

// begin reports whether a host is to be asked now. If not, the next question is planned. known says that it was heard lately.
func (s *Scout) begin(v *visit, known bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lookLocked()
	switch {
	case s.stopped || v.asking:
		return false
	case known && !v.told && !s.seeking && v.host.Status().State == Up:
		s.setLocked(v, s.pauseLocked(v))
		return false
	}
	v.asking, v.told = true, false
	return true
}

// end is called when a host has answered, or has failed to. It plans the next question.
func (s *Scout) end(v *visit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	again := v.again
	v.asking, v.again = false, false
	if s.stopped || !s.awake.Load() {
		return
	}
	s.lookLocked()
	d := s.pauseLocked(v)
	if again {
		d = 0
	}
	s.setLocked(v, d)
}

// rest stops the timers until Wake. If somebody has come meanwhile, who has found the Scout awake, it wakes up again.
func (s *Scout) rest() {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return
	}
	s.haltLocked()
	s.seeking = false
	s.awake.Store(false)
	s.mu.Unlock()
	if s.opts.Needed() {
		s.Wake()
	}
}

// lookLocked looks whether a host is known that would do, and notes since when none is.
func (s *Scout) lookLocked() {
	seeks := s.opts.Board.seeks()
	if seeks && !s.seeking {
		s.sought = time.Now()
	}
	s.seeking = seeks
}

// pauseLocked returns how long a host is left alone from now on.
func (s *Scout) pauseLocked(v *visit) time.Duration {
	switch status := v.host.Status(); {
	case s.seeking:
		return jittered(min(max(time.Since(s.sought)/20, firstSought), lastSought))
	case status.State == Down:
		return jittered(min(max(time.Since(status.Since)/8, firstDown), lastDown))
	}
	return jittered(whileUp)
}

// jittered returns a duration that is up to a quarter longer or shorter.
func jittered(d time.Duration) time.Duration { return d*3/4 + rand.N(d/2+1) }
