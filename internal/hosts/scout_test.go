package hosts_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/pgprod/pgprod/internal/hosts"
)

// A field is a Scout, and hosts that answer as the test says.
type field struct {
	*hosts.Scout
	board *hosts.Board

	mu     sync.Mutex // guards what follows
	down   map[*hosts.Host]bool
	roles  map[*hosts.Host]hosts.Role
	slow   map[*hosts.Host]time.Duration // how long an answer takes
	asked  map[*hosts.Host]int
	under  map[*hosts.Host]bool
	needed bool
	heard  bool // of those that are up
}

func onField(t *testing.T, n int, wanted hosts.Wanted, test func(*testing.T, *field)) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := board(n, wanted)
		f := &field{
			board: b, down: map[*hosts.Host]bool{}, roles: map[*hosts.Host]hosts.Role{}, slow: map[*hosts.Host]time.Duration{},
			asked: map[*hosts.Host]int{}, under: map[*hosts.Host]bool{}, needed: true,
		}
		for _, h := range b.Hosts() {
			f.roles[h] = hosts.Standby
		}
		f.roles[b.Hosts()[0]] = hosts.Primary
		f.Scout = hosts.NewScout(hosts.ScoutOptions{
			Board: b, Run: func(task func()) { go task() },
			Needed: func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.needed },
			Heard:  func(*hosts.Host, time.Duration) bool { f.mu.Lock(); defer f.mu.Unlock(); return f.heard },
			Ask:    func(h *hosts.Host) { f.ask(t, h) },
		})
		test(t, f)
		f.Stop()
		time.Sleep(time.Minute) // in a bubble: all questions are over
	})
}

func (f *field) ask(t *testing.T, h *hosts.Host) {
	f.mu.Lock()
	assert.False(t, f.under[h], "one question at a time")
	f.under[h] = true
	f.asked[h]++
	slow := f.slow[h]
	f.mu.Unlock()
	time.Sleep(slow)
	f.mu.Lock()
	f.under[h] = false
	down, role := f.down[h], f.roles[h]
	f.mu.Unlock()
	if down {
		h.Fails(errors.New("gone"))
	} else {
		h.Serves(role, time.Millisecond)
	}
}

// set changes something.
func (f *field) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// during returns how often each host is asked within a time.
func (f *field) during(d time.Duration) (n []int) {
	f.set(func() { clear(f.asked) })
	time.Sleep(d)
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range f.board.Hosts() {
		n = append(n, f.asked[h])
	}
	return n
}

func TestAllHostsAreAskedNowAndThen(t *testing.T) {
	onField(t, 3, "read-write", func(t *testing.T, f *field) {
		f.Wake()
		assert.Equal(t, []int{1, 1, 1}, f.during(time.Second))
		assert.Equal(t, hosts.Standby, f.board.Hosts()[2].Status().Role)
		for _, n := range f.during(100 * time.Second) {
			assert.InDelta(t, 10, n, 3)
		}
	})
}

func TestAHostThatIsDownIsAskedOftenAtFirst(t *testing.T) {
	onField(t, 2, "any", func(t *testing.T, f *field) {
		gone := f.board.Hosts()[1]
		f.set(func() { f.down[gone] = true })
		f.Wake()
		time.Sleep(time.Second)
		assert.Equal(t, hosts.Down, gone.Status().State)
		assert.Greater(t, f.during(2 * time.Second)[1], 4)
		time.Sleep(time.Minute)
		n := f.during(100 * time.Second)
		assert.InDelta(t, 20, n[1], 5)
		assert.InDelta(t, 10, n[0], 3, "the others no more often than before")

		f.set(func() { f.down[gone] = false })
		time.Sleep(10 * time.Second)
		assert.Equal(t, hosts.Up, gone.Status().State)
	})
}

func TestWhileNoneWouldDoAllAreAskedOften(t *testing.T) {
	onField(t, 3, "read-write", func(t *testing.T, f *field) {
		f.Wake()
		time.Sleep(time.Second)
		all := f.board.Hosts()
		f.set(func() { f.down[all[0]] = true; f.slow[all[0]] = 5 * time.Second }) // it is a black hole
		all[0].Fails(errors.New("gone"))
		f.Changed() // as the Board's hook does
		n := f.during(2 * time.Second)
		assert.Greater(t, n[1], 8)
		assert.Greater(t, n[2], 8, "that one doesn't answer holds nobody up")
		assert.LessOrEqual(t, n[0], 1)
		f.set(func() { f.roles[all[1]] = hosts.Primary })
		time.Sleep(200 * time.Millisecond)
		assert.Equal(t, hosts.Primary, all[1].Status().Role)
		time.Sleep(time.Second)
		assert.Less(t, f.during(10 * time.Second)[2], 3, "it was found")
	})
}

func TestASearchThatGoesOnForLongAsksSeldom(t *testing.T) {
	onField(t, 2, "standby", func(t *testing.T, f *field) {
		for _, h := range f.board.Hosts() {
			f.set(func() { f.roles[h] = hosts.Primary })
		}
		f.Wake()
		time.Sleep(10 * time.Minute)
		for _, n := range f.during(100 * time.Second) {
			assert.InDelta(t, 20, n, 5)
		}
	})
}

func TestNewsHaveAllAskedAtOnceAndOnceMoreIfAQuestionIsUnderWay(t *testing.T) {
	onField(t, 2, "any", func(t *testing.T, f *field) {
		f.Wake()
		time.Sleep(2 * time.Second)
		f.set(func() { f.slow[f.board.Hosts()[1]] = 100 * time.Millisecond })
		f.Now()
		time.Sleep(time.Millisecond)
		f.Now()
		f.Now()
		assert.Equal(t, []int{1, 1}, f.during(150*time.Millisecond), "the second question to each")
	})
}

func TestAHostThatIsHeardOfNeedNotBeAsked(t *testing.T) {
	onField(t, 2, "any", func(t *testing.T, f *field) {
		f.Wake()
		time.Sleep(2 * time.Second)
		f.set(func() { f.heard = true })
		assert.Equal(t, []int{0, 0}, f.during(time.Minute))
		f.Now()
		assert.Equal(t, []int{1, 1}, f.during(time.Second), "unless there are news")
		f.set(func() { f.heard = false })
		for _, n := range f.during(time.Minute) {
			assert.Greater(t, n, 3)
		}
	})
}

func TestAScoutThatNobodyNeedsRestsUntilItIsWoken(t *testing.T) {
	onField(t, 2, "any", func(t *testing.T, f *field) {
		assert.Equal(t, []int{0, 0}, f.during(time.Hour), "nobody has called Wake")
		f.Wake()
		time.Sleep(time.Minute)
		f.set(func() { f.needed = false })
		time.Sleep(time.Minute)
		assert.Equal(t, []int{0, 0}, f.during(time.Hour))
		f.set(func() { f.needed = true })
		f.Wake()
		assert.Equal(t, []int{1, 1}, f.during(time.Second))
	})
}

func TestAScoutThatHasStoppedAsksNobody(t *testing.T) {
	onField(t, 2, "any", func(t *testing.T, f *field) {
		f.Wake()
		f.Stop()
		f.Wake()
		f.Now()
		f.Changed()
		assert.Equal(t, []int{0, 0}, f.during(time.Hour))
	})
}
