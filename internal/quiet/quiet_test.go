package quiet

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// log collects what is logged: n for n repetitions.
type log struct {
	mu    sync.Mutex // guards lines
	lines []int
}

func (l *log) tell(r Repeats) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, r.Count)
}

func (l *log) take() (lines []int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines, l.lines = l.lines, nil
	return lines
}

func TestTheFirstFewAreLoggedAndTheRestCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Limiter
		defer l.Close()
		var got log
		for range 1000 {
			l.Log("refused", got.tell)
		}
		assert.Equal(t, []int{0, 0, 0}, got.take())
		time.Sleep(firstPause + time.Second)
		assert.Equal(t, []int{997}, got.take())
		time.Sleep(2*firstPause + time.Second)
		assert.Empty(t, got.take(), "nothing happened")
		l.Log("refused", got.tell)
		assert.Equal(t, []int{0}, got.take(), "after a quiet pause it begins anew")
	})
}

func TestAnHourOfTheSameGivesAFewLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Limiter
		var got log
		const times = 3600 * 10
		for range times {
			time.Sleep(100 * time.Millisecond)
			l.Log("refused", got.tell)
		}
		l.Close()
		lines, sum := got.take(), 0
		assert.Less(t, len(lines), 25)
		for _, n := range lines {
			sum += max(n, 1)
		}
		assert.Equal(t, times, sum, "each is logged or counted")
	})
}

func TestKindsDoNotKeepEachOtherQuietButAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Limiter
		defer l.Close()
		var got log
		for i := range 10_000 {
			l.Log(fmt.Sprint(i), got.tell)
		}
		assert.Equal(t, maxLines, len(got.take()))
		assert.Len(t, l.kinds, maxKinds+1)
	})
}

func TestManyKindsGiveSoManyLinesAMinuteAndOneThatSaysHowManyWereLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got, left log
		l := Limiter{LeftOut: func(n int) { left.tell(Repeats{Count: n}) }}
		const minutes, kinds = 5, 100
		for range minutes {
			for range 60 {
				for kind := range kinds {
					l.Log(fmt.Sprint(kind), got.tell)
				}
				time.Sleep(time.Second)
			}
		}
		lines := got.take()
		assert.LessOrEqual(t, len(lines), (minutes+1)*maxLines)
		said := left.take()
		assert.NotEmpty(t, said)
		assert.LessOrEqual(t, len(said), minutes)

		l.Close()
		sum := 0
		for _, n := range append(lines, got.take()...) {
			sum += max(n, 1)
		}
		for _, n := range left.take() {
			sum += n
		}
		assert.Equal(t, minutes*60*kinds, sum, "each is logged or counted in the end")
	})
}

func TestWhatIsOverIsLoggedAtOnceWithTheTimeOfTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Limiter
		defer l.Close()
		var got []Repeats
		tell := func(r Repeats) { got = append(got, r) }
		for range 10 {
			l.Log("refused", tell)
		}
		last := time.Now()
		time.Sleep(firstPause / 2)
		l.Flush()
		assert.Equal(t, []Repeats{{}, {}, {}, {Count: 7, Last: last}}, got)
		time.Sleep(firstPause)
		assert.Len(t, got, 4, "nothing is left to tell")
		l.Close()
		l.Flush()
		assert.Len(t, got, 4)
	})
}

func TestNothingIsLoggedAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Limiter
		var got log
		for range 10 {
			l.Log("refused", got.tell)
		}
		l.Close()
		l.Close()
		assert.Equal(t, []int{0, 0, 0, 7}, got.take(), "what was counted is logged at the end")
		time.Sleep(time.Hour)
		assert.Empty(t, got.take())
	})
}

func TestALimiterIsSafeForConcurrentUse(t *testing.T) {
	var l Limiter
	var got log
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 1000 {
				l.Log(fmt.Sprint(i%2), got.tell)
			}
		})
	}
	wg.Wait()
	l.Close()
	sum := 0
	for _, n := range got.take() {
		sum += max(n, 1)
	}
	assert.Equal(t, 8000, sum)
}
