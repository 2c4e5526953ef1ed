package diagnose

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/clock"
)

// slow is a statement that was slow, of a server that isn't asked, so that it is settled at once.
func slow(name string, took time.Duration) Slow {
	return Slow{Summary: "SELECT " + name, SQL: "SELECT FROM " + name, Took: took, Major: 15}
}

func TestPlansAreKeptOfTheSlowestStatementsOnly(t *testing.T) {
	t.Parallel()
	p := NewPlans(nil)
	p.set = true // as if the timer were: nothing is asked
	want := func(name string, took time.Duration) {
		s := slow(name, took)
		s.Major = 18
		p.Want(s)
	}
	for i := range mostPlans {
		want(fmt.Sprint(i), time.Second+time.Duration(i))
	}
	want("quick", time.Second)
	assert.Nil(t, p.Of("SELECT quick"))
	want("slow", time.Minute)
	assert.NotNil(t, p.Of("SELECT slow"))
	assert.Nil(t, p.Of("SELECT 0"), "it was the least slow")

	next, ok := p.takeNext()
	require.True(t, ok)
	assert.Equal(t, "SELECT slow", next.Summary)
	want("slow", 2*time.Minute)
	next, ok = p.takeNext()
	require.True(t, ok)
	assert.Equal(t, fmt.Sprint("SELECT ", mostPlans-1), next.Summary, "the other was asked for")
	assert.Len(t, p.of, mostPlans)
}

func TestManySummariesHaveTheServerAskedNoMoreOftenThanFew(t *testing.T) {
	t.Parallel()
	p := NewPlans(nil)
	for i := range 4 * mostPlans {
		p.Want(slow(fmt.Sprint(i), time.Duration(i+1)*time.Second))
	}
	assert.Len(t, p.of, mostPlans)
	assert.NotNil(t, p.Of("SELECT 0"), "of which there was one lately")

	for _, one := range p.of { // as if it were long ago
		one.last -= int64(2 * planFor)
		one.asked -= int64(2 * planFor)
	}
	p.Want(slow("now", time.Millisecond))
	assert.NotNil(t, p.Of("SELECT now"))
	assert.Len(t, p.of, mostPlans)
}

func TestOnlyQueriesOfABoundedLengthAreExplained(t *testing.T) {
	t.Parallel()
	p := NewPlans(nil)
	for _, sql := range []string{"select 1; select 2", "do $$ $$", "begin", "select '" + strings.Repeat("x", maxPlanned) + "'"} {
		p.Want(Slow{Summary: "x", SQL: sql, Took: time.Hour, Major: 18})
	}
	assert.Empty(t, p.of)
	assert.False(t, p.set)
}

func TestAnOlderPlanIsBetterThanNone(t *testing.T) {
	t.Parallel()
	p := NewPlans(nil)
	p.of["x"] = &planned{last: clock.Now()}
	s := Slow{}
	p.keep("x", s.without("no"), true)
	assert.Equal(t, "no", p.Of("x").Reason)
	plan := s.without("")
	plan.Text = "Result"
	p.keep("x", plan, true)
	p.keep("x", s.without("no"), true)
	assert.Equal(t, "Result", p.Of("x").Text)
	p.keep("gone", plan, true)
	assert.Nil(t, p.Of("gone"))
}

func TestAServerThatCouldNotBeAskedIsAskedAgain(t *testing.T) {
	t.Parallel()
	p := NewPlans(nil)
	p.set = true // as if the timer were: nothing is asked
	s := slow("t", time.Second)
	s.Major = 18
	for _, reached := range []bool{false, true} {
		p.Want(s)
		next, ok := p.takeNext()
		require.True(t, ok)
		p.keep(next.Summary, next.without("no"), reached)
	}
	p.Want(s)
	_, ok := p.takeNext()
	assert.False(t, ok)
}
