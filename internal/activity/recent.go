package activity

import (
	"slices"
	"strings"
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

// Events keeps the last events. What happens again within an incident is one event with a count, wherever it stands, so
// that an outage doesn't push out what led to it. It is safe for concurrent use.
type Events struct {
	mu  sync.Mutex // guards all
	all []known    // the one that happened last at the end
	max int
}

// known is an event with what tells it from others.
type known struct {
	Event
	key string
}

const (
	// maxText bounds an event's text.
	maxText = 500
	// incident is how long a thing must not have happened to be another event when it happens again.
	incident = 10 * time.Minute
)

// NewEvents returns one for the last max events.
func NewEvents(max int) *Events { return &Events{max: max} }

// Add notes that something happened now. Events of one kind and key are the same, whatever numbers are in their texts.
func (e *Events) Add(kind, key, text string) { e.add(Event{Kind: kind, Text: text}, key) }

// Warn is Add for what an application has to expect.
func (e *Events) Warn(kind, key, text string) {
	e.add(Event{Kind: kind, Text: text, Warning: true}, key)
}

func (e *Events) add(event Event, key string) {
	if len(event.Text) > maxText {
		event.Text = strings.ToValidUTF8(event.Text[:maxText], "") + "…"
	}
	event.At, event.Count = time.Now(), 1
	event.First = event.At
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := len(e.all) - 1; i >= 0 && event.At.Sub(e.all[i].At) < incident; i-- {
		if same := e.all[i]; same.Kind == event.Kind && same.key == key {
			event.First, event.Count = same.First, same.Count+1
			e.all = slices.Delete(e.all, i, i+1)
			break
		}
	}
	if len(e.all) == e.max {
		i := e.leastLocked()
		e.all = slices.Delete(e.all, i, i+1)
	}
	e.all = append(e.all, known{event, key})
}

// leastLocked is the event that is missed least: the oldest of the kind of which there are most.
func (e *Events) leastLocked() int {
	count, most, least := map[string]int{}, 0, 0
	for _, one := range e.all {
		count[one.Kind]++
		most = max(most, count[one.Kind])
	}
	for count[e.all[least].Kind] < most {
		least++
	}
	return least
}

// List returns a copy, the newest first.
func (e *Events) List() []Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]Event, len(e.all))
	for i, one := range e.all {
		all[len(all)-1-i] = one.Event
	}
	return all
}
