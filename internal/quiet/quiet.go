// Package quiet keeps a log short when the same thing happens again and again: the first few times are told, then how
// often it happened, after ever longer pauses.
package quiet

import (
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
)

// A Limiter decides what is told. It is safe for concurrent use. The zero value is ready; Close ends its timers.
type Limiter struct {
	telling sync.WaitGroup // timers that tell; Close waits for them

	mu     sync.Mutex // guards the fields below; nothing is told while it is held
	kinds  map[string]*kind
	closed bool
}

// kind is one thing that happens.
type kind struct {
	told    int
	more    int       // since the last was told
	last    func(int) // tells the last of those
	pause   time.Duration
	timer   *time.Timer // ends the pause
	running bool
}

// Tell calls tell(0) now, or tell(n) later, once for the n calls of a pause: it is then that of the last, called by
// another goroutine, but not after Close has returned.
func (l *Limiter) Tell(name string, tell func(repeated int)) {
	if !l.count(name, tell) {
		tell(0)
	}
}

// count reports whether it is only counted.
func (l *Limiter) count(name string, tell func(int)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.kindLocked(name)
	if k.told < burst {
		k.told++
		return false
	}
	if l.closed {
		return true // nobody would come to tell it
	}
	k.more++
	k.last = tell
	return true
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
	tell := k.takeLocked()
	if tell == nil {
		delete(l.kinds, name)
		l.mu.Unlock()
		return
	}
	k.pause = min(2*k.pause, longestPause)
	k.timer.Reset(k.pause)
	l.telling.Add(1)
	l.mu.Unlock()
	defer l.telling.Done()
	tell()
}

// takeLocked returns what tells the repetitions, nil if there are none, and forgets them.
func (k *kind) takeLocked() func() {
	n, last := k.more, k.last
	k.more, k.last = 0, nil
	if n == 0 {
		return nil
	}
	return func() { last(n) }
}

// Close tells what has only been counted, and ends the timers. Of what happens later the first few are told. It may be
// called more than once.
func (l *Limiter) Close() {
	var rest []func()
	l.mu.Lock()
	if !l.closed {
		for _, k := range l.kinds {
			k.timer.Stop()
			if tell := k.takeLocked(); tell != nil {
				rest = append(rest, tell)
			}
		}
	}
	l.closed = true
	l.mu.Unlock()
	for _, tell := range rest {
		tell()
	}
	l.telling.Wait()
}
