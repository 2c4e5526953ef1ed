package activity

import (
	"slices"
	"sync"
	"time"
)

// Recent keeps the last values that were added to it. It is safe for concurrent use.
type Recent[T any] struct {
	mu   sync.Mutex // guards what follows
	all  []T        // grows up to max, and is a ring from then on
	next int        // in the ring, the index of the oldest value, which the next one replaces
	max  int
}

// NewRecent returns a Recent for the last max values.
func NewRecent[T any](max int) *Recent[T] { return &Recent[T]{max: max} }

// Add adds v. If there are max values already it replaces the oldest.
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

// List returns a copy of the values, the oldest first.
func (r *Recent[T]) List() []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(slices.Clone(r.all[r.next:]), r.all[:r.next]...)
}

// Events keeps the last events. What happens again within ten minutes is counted in the event that is there already, so that
// the repetitions of an outage don't push out the events that led to it. It is safe for concurrent use.
type Events struct {
	mu  sync.Mutex // guards all
	all []keyed    // in the order in which they happened last, the latest at the end
	max int
}

// keyed is an event with its key: events with the same kind and key are the same event.
type keyed struct {
	Event
	key string
}

const (
	// maxText is the most bytes of an event's text that are kept.
	maxText = 500
	// incident is how long something must not have happened to be a new event when it happens again.
	incident = 10 * time.Minute
)

// NewEvents returns Events for the last max ones.
func NewEvents(max int) *Events { return &Events{max: max} }

// Add adds an event that happens now. If one with the same kind and key has happened within the last ten minutes, that is
// counted up and gets the new text. So put into the key what makes events different, and numbers that vary only into the
// text.
func (e *Events) Add(kind, key, text string) { e.add(Event{Kind: kind, Text: text}, key) }

// AddWarning is Add for what an application has to expect: it sets Event.Warning.
func (e *Events) AddWarning(kind, key, text string) {
	e.add(Event{Kind: kind, Text: text, Warning: true}, key)
}

// add adds an event, or counts up the one that is there already. If there are too many it removes one.
func (e *Events) add(event Event, key string) {
	event.Text = Shorten(event.Text, maxText)
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
		i := e.dispensableLocked()
		e.all = slices.Delete(e.all, i, i+1)
	}
	e.all = append(e.all, keyed{event, key})
}

// dispensableLocked is the index of the event to remove when there are too many: the oldest of the most frequent kind.
func (e *Events) dispensableLocked() int {
	count, most, oldest := map[string]int{}, 0, 0
	for _, one := range e.all {
		count[one.Kind]++
		most = max(most, count[one.Kind])
	}
	for count[e.all[oldest].Kind] < most {
		oldest++
	}
	return oldest
}

// List returns a copy of the events, the newest first.
func (e *Events) List() []Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]Event, len(e.all))
	for i, one := range e.all {
		all[len(all)-1-i] = one.Event
	}
	return all
}
