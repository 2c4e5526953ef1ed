package activity

import (
	"slices"
	"sync"
	"time"
)

// Recent keeps the last few of what is added to it. It is safe for concurrent use.
type Recent[T any] struct {
	mu   sync.Mutex // guards the fields below
	all  []T        // a ring, once it is full
	next int        // where the oldest is, and the next goes
	max  int
}

// NewRecent returns one for the last max values.
func NewRecent[T any](max int) *Recent[T] { return &Recent[T]{max: max} }

// Add adds v, in place of the oldest if there are too many.
func (r *Recent[T]) Add(v T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addLocked(v)
}

func (r *Recent[T]) addLocked(v T) {
	if len(r.all) < r.max {
		r.all = append(r.all, v)
		return
	}
	r.all[r.next] = v
	r.next = (r.next + 1) % r.max
}

// List returns a copy, the oldest first.
func (r *Recent[T]) List() []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(slices.Clone(r.all[r.next:]), r.all[:r.next]...)
}

// Events keeps the last events. Equal ones in a row are one event with a count. It is safe for concurrent use.
type Events struct{ recent Recent[Event] }

// maxText bounds an event's text.
const maxText = 500

// NewEvents returns one for the last max events.
func NewEvents(max int) *Events { return &Events{Recent[Event]{max: max}} }

// Add notes that something happened now.
func (e *Events) Add(kind, text string) {
	if len(text) > maxText {
		text = text[:maxText] + "…"
	}
	r := &e.recent
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.all); n > 0 {
		newest := &r.all[(r.next+n-1)%n]
		if newest.Kind == kind && newest.Text == text {
			newest.At = time.Now()
			newest.Count++
			return
		}
	}
	r.addLocked(Event{At: time.Now(), Kind: kind, Text: text, Count: 1})
}

// List returns a copy, the newest first.
func (e *Events) List() []Event {
	all := e.recent.List()
	slices.Reverse(all)
	return all
}
