// Package quiet keeps a log short when the same thing happens again and again. The first few times are logged at once. Later
// ones are counted, and a line says how often they happened, after pauses that grow longer. When many different things
// happen there is a limit for the lines of a minute.
package quiet

import (
	"slices"
	"sync"
	"time"
)

const (
	// burst is how many lines of a kind are logged at once. After it, what happens until the end of the pause is counted.
	burst = 3
	// firstPause is how long a kind's first pause is. A pause in which something was counted is followed by one twice as
	// long, up to longestPause.
	firstPause   = 10 * time.Second
	longestPause = 5 * time.Minute
	// maxKinds bounds the kinds that are counted apart. Those beyond it are counted together, as the kind other.
	maxKinds = 256
	other    = "other"
	// maxLines is how many lines are logged in a minute, of all kinds together.
	maxLines = 60
)

// Repeats says how often something happened since it was last logged, and when it happened last. The zero value stands for
// one event that is logged at once.
type Repeats struct {
	Count int
	Last  time.Time
}

// A Limiter decides what is logged when. The zero value is ready for use, and must not be copied after first use. It is safe
// for concurrent use. Close ends its timers.
type Limiter struct {
	// LeftOut is called at the end of a minute with how many lines were not logged because the minute had too many; what
	// they were about is counted, and may be logged later. Close calls it with how many events it could not log any more.
	// It must be set before first use; nil: nothing is called.
	LeftOut func(n int)

	logging sync.WaitGroup // calls of log functions by timers and Flush; Close waits for them

	mu          sync.Mutex // guards what follows; no function of the caller's is called while it is held
	kinds       map[string]*kind
	closed      bool
	minute      time.Time   // when the current minute began
	lines       int         // lines that were logged in it
	leftOut     int         // lines that were left out in it
	minuteTimer *time.Timer // calls logLeftOut at the end of the minute; nil: nothing was left out
}

// A kind is what the Limiter knows of events with the same name.
type kind struct {
	logged  int           // lines that were logged at once, up to burst
	repeats Repeats       // what was counted since the latest line
	log     func(Repeats) // the latest event's, which logs repeats; nil: nothing was counted
	pause   time.Duration // how long the current pause is
	timer   *time.Timer   // calls pauseOver at its end
	running bool          // the timer was started
}

// Log logs an event, or counts it if events of this name happen too often. It calls log at most once: with the zero Repeats,
// before Log returns; or later, from another goroutine and with how often the event was repeated, if this was the last one
// in a pause. After Close has returned, log isn't called any more for what was counted before.
func (l *Limiter) Log(name string, log func(Repeats)) {
	if !l.count(name, log) {
		log(Repeats{})
	}
}

// count reports whether the event was counted. If not, it is to be logged at once.
func (l *Limiter) count(name string, log func(Repeats)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.kindLocked(name)
	if k.logged < burst {
		if l.takeLineLocked() {
			k.logged++
			return false
		}
		l.leaveOutLocked()
	}
	if l.closed {
		return true // and forgotten: no timer would log it
	}
	k.repeats.Count++
	k.repeats.Last = time.Now()
	k.log = log
	return true
}

// takeLineLocked takes one of the lines that the current minute may have, and reports whether there was one left.
func (l *Limiter) takeLineLocked() bool {
	if now := time.Now(); now.Sub(l.minute) >= time.Minute {
		l.minute, l.lines = now, 0
	}
	if l.lines >= maxLines {
		return false
	}
	l.lines++
	return true
}

// leaveOutLocked counts a line that the current minute has no room for.
func (l *Limiter) leaveOutLocked() {
	if l.LeftOut == nil || l.closed {
		return
	}
	l.leftOut++
	if l.minuteTimer == nil {
		l.minuteTimer = time.AfterFunc(time.Until(l.minute.Add(time.Minute)), l.logLeftOut)
	}
}

// logLeftOut is called by the timer at the end of a minute in which lines were left out.
func (l *Limiter) logLeftOut() {
	l.mu.Lock()
	n := l.leftOut
	l.leftOut, l.minuteTimer = 0, nil
	if l.closed || n == 0 {
		l.mu.Unlock()
		return
	}
	l.logging.Add(1)
	l.mu.Unlock()
	defer l.logging.Done()
	l.LeftOut(n)
}

// kindLocked returns the kind with a name, and begins a pause if none is running.
func (l *Limiter) kindLocked(name string) *kind {
	if l.kinds == nil {
		l.kinds = map[string]*kind{}
	}
	k := l.kinds[name]
	if k == nil && len(l.kinds) >= maxKinds {
		name = other
		k = l.kinds[name]
	}
	if k == nil {
		k = &kind{pause: firstPause}
		l.kinds[name] = k
	}
	if !k.running && !l.closed {
		k.running = true
		k.timer = time.AfterFunc(k.pause, func() { l.pauseOver(name, k) })
	}
	return k
}

// pauseOver is called by a kind's timer. It logs what was counted in the pause, and begins the next one. If nothing was
// counted the kind is forgotten, so that its next events are logged at once again.
func (l *Limiter) pauseOver(name string, k *kind) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	if k.repeats.Count == 0 {
		delete(l.kinds, name)
		l.mu.Unlock()
		return
	}
	if !l.takeLineLocked() {
		k.timer.Reset(k.pause)
		l.mu.Unlock()
		return
	}
	log := k.takeLocked()
	k.pause = min(2*k.pause, longestPause)
	k.timer.Reset(k.pause)
	l.logging.Add(1)
	l.mu.Unlock()
	defer l.logging.Done()
	log()
}

// takeLocked returns a function that logs what was counted, and resets the count. Something must have been counted.
func (k *kind) takeLocked() func() {
	repeats, log := k.repeats, k.log
	k.repeats, k.log = Repeats{}, nil
	return func() { log(repeats) }
}

// countedLocked returns the kinds of which something was counted, by the time of the last event.
func (l *Limiter) countedLocked() (all []*kind) {
	for _, k := range l.kinds {
		if k.repeats.Count > 0 {
			all = append(all, k)
		}
	}
	slices.SortFunc(all, func(a, b *kind) int { return a.repeats.Last.Compare(b.repeats.Last) })
	return all
}

// takeAllLocked returns functions that log all that was counted, as far as the minute has lines left.
func (l *Limiter) takeAllLocked() (logs []func()) {
	for _, k := range l.countedLocked() {
		if l.takeLineLocked() {
			logs = append(logs, k.takeLocked())
		}
	}
	return logs
}

// Flush logs at once what was counted, as far as the minute has lines left. It is for the end of an outage, when what was
// counted is over.
func (l *Limiter) Flush() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	logs := l.takeAllLocked()
	l.logging.Add(1)
	l.mu.Unlock()
	defer l.logging.Done()
	for _, log := range logs {
		log()
	}
}

// Close logs what was counted, ends the timers, and waits for log functions that they have called. Later events are logged
// by Log until their kind has had its burst, and then forgotten. It may be called more than once.
func (l *Limiter) Close() {
	l.mu.Lock()
	logs := l.closeLocked()
	l.mu.Unlock()
	for _, log := range logs {
		log()
	}
	l.logging.Wait()
}

// closeLocked ends the timers, and returns functions that log the rest.
func (l *Limiter) closeLocked() []func() {
	if l.closed {
		return nil
	}
	l.closed = true
	for _, k := range l.kinds {
		k.timer.Stop()
	}
	logs := l.takeAllLocked()
	rest := 0
	for _, k := range l.countedLocked() {
		rest += k.repeats.Count
	}
	if l.minuteTimer != nil {
		l.minuteTimer.Stop()
	}
	if rest > 0 && l.LeftOut != nil {
		logs = append(logs, func() { l.LeftOut(rest) })
	}
	return logs
}
