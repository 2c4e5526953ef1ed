package wire

import (
	"sync/atomic"
	"time"

	"github.com/pgprod/pgprod/internal/clock"
)

// timing is where the time of a statement goes. For each flight it notes when the flight was sent, and when its result began
// to come: the first row, the completion, or an error. What the server says before that (that a text is parsed, that
// parameters are bound, that data may be copied, notices) may come long before it has a result, and doesn't count.
//
// A look at the clock costs about 25 ns, so there is only one for a statement of one flight, which is at its answer: if the
// first flight is small, the time at which the statement began stands for that at which it was sent, since pgx needs a few
// microseconds in between. Not so if measured, which is for statements whose arguments the application's own code encodes.
type timing struct {
	// What the goroutine that writes uses.
	began    int64        // by package clock: when the statement began
	measured bool         // the next flight's time is taken, whatever its size
	sent     atomic.Int64 // when the latest flight was sent whose time was taken

	// What the goroutine that reads uses.
	came   int64 // when the latest result began to come
	cameTo int64 // the value of Tap.writes then
	served int64 // how long the flights of the statement that have a result waited for it, together
}

// smallFlight is the size in bytes up to which a write is taken to cost no time: the kernel has room for it.
const smallFlight = 4 << 10

// BeginTiming is called when a statement begins, at that time by package clock. exact says that its first flight may be sent
// a good while later. Call it from the goroutine that writes and reads, before the statement is sent.
func (t *Tap) BeginTiming(began int64, exact bool) {
	t.timing.began, t.timing.measured, t.timing.served = began, exact, 0
}

// noteSent is called for each write, when it is over, before it is counted.
func (t *timing) noteSent(size int) {
	if t.measured || size > smallFlight {
		t.sent.Store(clock.Now())
	}
	t.measured = true
}

// noteResult is called with the type of the first message after a write, and of those that follow until one is of a result.
// writes is the value of Tap.writes.
func (t *timing) noteResult(kind byte, writes int64) {
	switch kind {
	case '1', '2', '3', 't', 'T', 'n', 'G', 'H', 'W', 'N', 'S', 'A':
		return
	}
	sent := max(t.sent.Load(), t.began)
	t.came, t.cameTo = clock.Now(), writes
	t.served += t.came - sent
}

// Timing returns, for a statement that has ended now, how long the server took: the time from when a flight was sent to when
// its result began to come, of all flights together. reading is the time from then to now for the last flight. If there was
// no result, all that time is the server's. mark is what Mark returned when the statement began: if nothing was sent since,
// both are 0. Call it from the goroutine that reads.
func (t *Tap) Timing(mark, now int64) (server, reading time.Duration) {
	writes := t.writes.Load()
	switch {
	case writes == mark:
		return 0, 0
	case t.timing.cameTo != writes:
		return time.Duration(t.timing.served + now - max(t.timing.sent.Load(), t.timing.began)), 0
	}
	return time.Duration(t.timing.served), time.Duration(now - t.timing.came)
}
