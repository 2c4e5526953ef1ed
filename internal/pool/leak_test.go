package pool

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/diary"
	"github.com/pgprod/pgprod/internal/link"
	"github.com/pgprod/pgprod/internal/settings"
)

// newMember returns one whose connection has seen nothing.
func newMember() *member { return &member{conn: &link.Conn{}} }

// TestTheCountOfLeaksNeverGoesBack has many leaks come back while somebody counts: to Prometheus a counter that goes back
// is one that began anew.
func TestTheCountOfLeaksNeverGoesBack(t *testing.T) {
	p := &Pool{cfg: &settings.Config{LeakDetection: 1}, diary: diary.New(diary.Options{})}
	p.books.members = map[*member]bool{}
	m := newMember()
	p.books.members[m] = true
	for range 100 { // so that a count takes its time
		p.books.members[newMember()] = true
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for last := int64(0); ; {
			n := p.leaks()
			if !assert.GreaterOrEqual(t, n, last) {
				return
			}
			last = n
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	const times = 20_000
	for range times {
		now := clock.Now()
		m.mu.Lock()
		m.checkout.since, m.checkout.counted = now-2, false
		m.mu.Unlock()
		p.checkIn(m, now)
	}
	close(stop)
	wg.Wait()
	assert.EqualValues(t, times, p.leaks())
}

func TestALeakThatWasCountedStaysOneWhoeversClockIsAhead(t *testing.T) {
	p := &Pool{cfg: &settings.Config{LeakDetection: time.Microsecond}, diary: diary.New(diary.Options{})}
	p.books.members = map[*member]bool{}
	m := newMember()
	p.books.members[m] = true
	began := clock.Now() - int64(time.Second)
	m.checkout.since = began
	assert.EqualValues(t, 1, p.leaks())
	p.checkIn(m, began) // who looked at the clock before the collection did
	assert.EqualValues(t, 1, p.leaks())
}
