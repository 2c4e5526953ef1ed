// Package quiet keeps a log short when the same thing happens again and again: the first few times are told, then how
// often it happened, after ever longer pauses. When many different things happen it keeps to so many lines a minute.
package quiet

import (
	"slices"
	"sync"
	"time"
)

const (
	// burst is how often in a row a thing is told at once.
	burst = 3
	// firstPause is how long further ones are then counted; each pause in which there were some is followed by one twice
	// as long, up to longestPause.
	firstPause   = 10 * time.Second
	longestPause = 5 * time.Minute
	// maxKinds bounds the kinds that are told apart.
	maxKinds = 256
	other    = "other"
	// maxLines is how many lines a minute there are, whatever their kinds. The rest is counted.
	maxLines = 60
)

// Repeats is how often something happened since it was last told, and when it did for the last time. The zero value is
// for what is told at once.
type Repeats struct {
	Count int
	Last  time.Time
}

// A Limiter decides what is told. It is safe for concurrent use. The zero value is ready; Close ends its timers.
type Limiter struct {
	// LeftOut is told at the end of a minute how many lines were not written though their kinds were new, and by Close
	// how many things it had no room for. It must be set before first use; nil: nobody wants to know.
	LeftOut func(n int)

	telling sync.WaitGroup // timers that tell; Close waits for them

	mu     sync.Mutex // guards the fields below; nothing is told while it is held
	kinds  map[string]*kind
	closed bool
	minute time.Time   // when the present one began
	lines  int         // told in it
	left   int         // left out in it
	ending *time.Timer // tells what was left out; nil: nothing was
}

// kind is one thing that happens.
type kind struct {
	told    int
	more    Repeats       // since the last was told
	last    func(Repeats) // tells the last of those
	pause   time.Duration
	timer   *time.Timer // ends the pause
	running bool
}

// Tell calls tell with nothing now, or with what happened in a pause later, once: it is then that of the last, called by
// another goroutine, but not after Close has returned.
func (l *Limiter) Tell(name string, tell func(Repeats)) {
	if !l.count(name, tell) {
		tell(Repeats{})
	}
}

// count reports whether it is only counted.
func (l *Limiter) count(name string, tell func(Repeats)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.kindLocked(name)
	if k.told < burst {
		if l.roomLocked() {
			k.told++
			return false
		}
		l.leaveOutLocked()
	}
	if l.closed {
		return true // nobody would come to tell it
	}
	k.more.Count++
	k.more.Last = time.Now()
	k.last = tell
	return true
}

// roomLocked takes one of the minute's lines, if there is one.
func (l *Limiter) roomLocked() bool {
	if now := time.Now(); now.Sub(l.minute) >= time.Minute {
		l.minute, l.lines = now, 0
	}
	if l.lines >= maxLines {
		return false
	}
	l.lines++
	return true
}

// leaveOutLocked counts a line that there is no room for.
func (l *Limiter) leaveOutLocked() {
	if l.LeftOut == nil || l.closed {
		return
	}
	l.left++
	if l.ending == nil {
		l.ending = time.AfterFunc(time.Until(l.minute.Add(time.Minute)), l.tellLeftOut)
	}
}

// tellLeftOut is called at the end of a minute in which something was left out.
func (l *Limiter) tellLeftOut() {
	l.mu.Lock()
	n := l.left
	l.left, l.ending = 0, nil
	if l.closed || n == 0 {
		l.mu.Unlock()
		return
	}
	l.telling.Add(1)
	l.mu.Unlock()
	defer l.telling.Done()
	l.LeftOut(n)
}

// kindLocked finds a kind, and starts its pause.
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
		k.timer = time.AfterFunc(k.pause, func() { l.turn(name, k) })
	}
	return k
}

// turn is called when a pause is over. A kind that didn't happen in it begins anew.
func (l *Limiter) turn(name string, k *kind) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	if k.more.Count == 0 {
		delete(l.kinds, name)
		l.mu.Unlock()
		return
	}
	if !l.roomLocked() {
		k.timer.Reset(k.pause)
		l.mu.Unlock()
		return
	}
	tell := k.takeLocked()
	k.pause = min(2*k.pause, longestPause)
	k.timer.Reset(k.pause)
	l.telling.Add(1)
	l.mu.Unlock()
	defer l.telling.Done()
	tell()
}

// takeLocked returns what tells the repetitions, of which there are some, and forgets them.
func (k *kind) takeLocked() func() {
	more, last := k.more, k.last
	k.more, k.last = Repeats{}, nil
	return func() { last(more) }
}

// pendingLocked are the kinds that were only counted, in the order in which they happened last.
func (l *Limiter) pendingLocked() (all []*kind) {
	for _, k := range l.kinds {
		if k.more.Count > 0 {
			all = append(all, k)
		}
	}
	slices.SortFunc(all, func(a, b *kind) int { return a.more.Last.Compare(b.more.Last) })
	return all
}

// takeAllLocked returns what tells all that was only counted, as far as there is room.
func (l *Limiter) takeAllLocked() (rest []func()) {
	for _, k := range l.pendingLocked() {
		if l.roomLocked() {
			rest = append(rest, k.takeLocked())
		}
	}
	return rest
}

// Flush tells at once what has only been counted: what it belonged to is over.
func (l *Limiter) Flush() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	rest := l.takeAllLocked()
	l.telling.Add(1)
	l.mu.Unlock()
	defer l.telling.Done()
	for _, tell := range rest {
		tell()
	}
}

// Close tells what has only been counted, and ends the timers. Of what happens later the first few are told. It may be
// called more than once.
func (l *Limiter) Close() {
	l.mu.Lock()
	rest := l.endLocked()
	l.mu.Unlock()
	for _, tell := range rest {
		tell()
	}
	l.telling.Wait()
}

// endLocked ends the timers, and returns what tells the rest.
func (l *Limiter) endLocked() []func() {
	if l.closed {
		return nil
	}
	l.closed = true
	for _, k := range l.kinds {
		k.timer.Stop()
	}
	rest := l.takeAllLocked()
	left := 0
	for _, k := range l.pendingLocked() {
		left += k.more.Count
	}
	if l.ending != nil {
		l.ending.Stop()
	}
	if left > 0 && l.LeftOut != nil {
		rest = append(rest, func() { l.LeftOut(left) })
	}
	return rest
}
