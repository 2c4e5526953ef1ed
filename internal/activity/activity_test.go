package activity

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestQuantilesAreAtMostAQuarterTooLong(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	s := NewStatements()
	var took []time.Duration
	for range 10_000 {
		d := time.Duration(1000 * (1 + random.ExpFloat64()*5000))
		took = append(took, d)
		s.Record("SELECT t", Execution{Took: d, Rows: 2, Failed: d > 20*time.Millisecond})
	}
	slices.Sort(took)
	got := s.List()
	require.Len(t, got, 1)
	for _, q := range []struct {
		percent int
		got     time.Duration
	}{{50, got[0].P50}, {95, got[0].P95}, {99, got[0].P99}} {
		exact := took[len(took)*q.percent/100-1]
		assert.GreaterOrEqual(t, q.got, exact, "p%d", q.percent)
		assert.LessOrEqual(t, q.got, exact+exact/4, "p%d", q.percent)
	}
	assert.EqualValues(t, 10_000, got[0].Count)
	assert.EqualValues(t, 20_000, got[0].Rows)
	assert.Equal(t, took[len(took)-1], got[0].Max)
	assert.Positive(t, got[0].Errors)
}

func TestStatementsOfLongAgoAreForgotten(t *testing.T) {
	now := time.Now()
	s := NewStatements()
	s.clock = func() time.Time { return now }
	s.Record("SELECT a", Execution{Took: time.Second, Waited: time.Hour, Server: time.Second, Rows: 1})
	now = now.Add(window + time.Second)
	s.Record("SELECT a", Execution{
		Took: 3 * time.Millisecond, Waited: time.Minute, Server: time.Millisecond, Read: 2 * time.Millisecond,
		Rows: 1, Failed: true,
	})
	got := s.List()
	require.EqualValues(t, 2, got[0].Count, "the window before is shown too")
	assert.Equal(t, 1003*time.Millisecond, got[0].Total)
	assert.Equal(t, time.Hour+time.Minute, got[0].Waited)
	assert.Equal(t, 1001*time.Millisecond, got[0].Server)
	assert.Equal(t, 2*time.Millisecond, got[0].Read)
	now = now.Add(window)
	got = s.List()
	require.EqualValues(t, 1, got[0].Count)
	assert.Equal(t, 3*time.Millisecond, got[0].Max)
	now = now.Add(2 * window)
	assert.Empty(t, s.List())
	assert.Empty(t, s.m)
}

func TestSummariesAreBounded(t *testing.T) {
	s := NewStatements()
	for i := range 2 * maxStatements {
		s.Record(fmt.Sprint("SELECT t", i), Execution{Took: time.Millisecond})
	}
	assert.LessOrEqual(t, len(s.m), maxStatements+1)
	got := s.List()
	require.Equal(t, others, got[0].Summary, "the most time was spent in the others")
	assert.EqualValues(t, maxStatements, got[0].Count)
}

func TestRecentKeepsTheNewest(t *testing.T) {
	r := NewRecent[int](3)
	assert.Empty(t, r.List())
	for i := range 5 {
		r.Add(i)
	}
	assert.Equal(t, []int{2, 3, 4}, r.List())
}

func TestWhatHappensAgainIsOneEventHoweverItsTextVaries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := NewEvents(3)
		began := time.Now()
		e.Add("statement", "57P01", "terminating connection")
		for i := range 1000 {
			time.Sleep(20 * time.Millisecond)
			e.Add("connect", "refused", fmt.Sprint("refused, attempt ", i))
			e.Add("no connection", "timeout", fmt.Sprint(i, " wait"))
		}
		got := e.List()
		require.Len(t, got, 3)
		assert.Equal(t, Event{
			Kind: "no connection", Text: "999 wait", Count: 1000, At: time.Now(), First: began.Add(20 * time.Millisecond),
		}, got[0])
		assert.Equal(t, "terminating connection", got[2].Text, "the first cause is still there")

		time.Sleep(incident)
		e.AddWarning("connect", "refused", "refused again")
		got = e.List()
		assert.Equal(t, 1, got[0].Count, "another incident is another event")
		assert.True(t, got[0].Warning)
		require.Len(t, got, 3)
		assert.NotContains(t, fmt.Sprint(got), "terminating", "the oldest makes room")
	})
}

func TestManyEventsOfOneKindPushOutTheirOwn(t *testing.T) {
	e := NewEvents(10)
	e.Add("connect", "refused", "refused")
	for i := range 100 {
		e.Add("statement", fmt.Sprint(i), "failed")
	}
	got := e.List()
	require.Len(t, got, 10)
	assert.Equal(t, "connect", got[9].Kind)
}

func TestAnEventsTextIsBounded(t *testing.T) {
	e := NewEvents(2)
	e.Add("connect", "", strings.Repeat("ä", maxText))
	text := e.List()[0].Text
	assert.Less(t, len(text), maxText+10)
	assert.True(t, utf8.ValidString(text))
}

func TestEverythingIsSafeForConcurrentUse(t *testing.T) {
	s, e := NewStatements(), NewEvents(10)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 1000 {
				s.Record(fmt.Sprint(i%3), Execution{Took: time.Millisecond, Rows: 1})
				e.Add("kind", fmt.Sprint(i), "text")
			}
			s.List()
			e.List()
		})
	}
	wg.Wait()
	total := int64(0)
	for _, one := range s.List() {
		total += one.Count
	}
	assert.EqualValues(t, 8000, total)
}
