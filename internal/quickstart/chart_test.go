package main

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
)

func TestAChartIsDrawnAsItShouldBe(t *testing.T) {
	got := draw(10*time.Second, 20, []series{
		{name: "requests/s", values: ramp(20), most: "most 19", whole: "mean 10"},
		{name: "utilisation", values: ramp(20), full: 38, most: "most 50 %", whole: "mean 25 %"},
		{name: "errors", values: append(make([]float64, 19), 1), most: "most 1", whole: "all 1"},
	})
	require.Equal(t, ""+
		"requests/s              ▁▂▃▄▅▅▆▇█  most 19\n"+
		"              ▁▂▃▃▄▅▆▇███████████  mean 10\n"+
		"utilisation                        most 50 %\n"+
		"              ▁▁▁▂▂▃▃▃▄▄▅▅▅▆▆▇▇██  mean 25 %\n"+
		"errors                          █  most 1\n"+
		"                                █  all 1\n"+
		"             0s     5.00s     10s\n", got)
}

// ramp is 0, 1, 2, …
func ramp(n int) (values []float64) {
	for i := range n {
		values = append(values, float64(i))
	}
	return values
}

func TestWhatIsAboveZeroIsSeen(t *testing.T) {
	lines := bars([]float64{0, 1, 1e6}, 0)
	require.Equal(t, [chartHeight]string{"  █", " ▁█"}, lines)
	require.Equal(t, [chartHeight]string{"  ", "  "}, bars([]float64{0, 0}, 0), "nothing happened")
	require.Equal(t, [chartHeight]string{"█", "█"}, bars([]float64{9}, 1), "beyond the full bar")
}

func TestHorizontalBars(t *testing.T) {
	for share, want := range map[float64]string{0: "", 0.5: "██", 0.53: "██▏", 1: "████", 2: "████", -1: ""} {
		assert.Equal(t, want, bar(share, 4), share)
	}
}

// aPoint is a second in which so many requests of a millisecond were made.
func aPoint(requests int) *point {
	p := &point{lasted: time.Second, took: newLatencies(), waits: newLatencies(), samples: 2, inUse: 30, mostInUse: 20}
	for range requests {
		p.took.Record(time.Millisecond)
	}
	return p
}

func TestPointsAreFittedToColumns(t *testing.T) {
	for _, n := range []int{1, 3, 10, 25} {
		var points []*point
		for range n {
			points = append(points, aPoint(10))
		}
		fitted := fit(points, 10)
		require.Len(t, fitted, 10)
		for _, p := range fitted {
			assert.EqualValues(t, 10*p.lasted.Seconds(), p.took.Count(), "%d points", n)
		}
	}
}

func TestAChartTellsWhatHappened(t *testing.T) {
	points := []*point{aPoint(100), aPoint(300)}
	points[1].waits.Record(5 * time.Millisecond)
	points[1].failed = 7
	text := draw(2*time.Second, 52, bands(points, 52, pgprod.PoolStatus{PoolSize: 20, MaxOverflow: 10}))
	for _, pattern := range []string{
		`requests/s .*most 300\n.*mean 200\n`, `p99 .*most 1.0ms\n.*all 1.0ms\n`, `utilisation .*most 50 %\n.*mean 50 %\n`,
		`waits/s .*most 1\n.*all 1\n`, `p99 of waits.*most 5.0ms`, `errors .*most 7\n.*all 7\n`, `0s +1.00s +2.00s\n`,
	} {
		assert.Regexp(t, pattern, text)
	}
	for line := range strings.Lines(text) {
		assert.LessOrEqual(t, utf8.RuneCountInString(line), 81, line)
	}
	require.Equal(t, "             0s       0         0\n", draw(0, 20, bands(nil, 20, pgprod.PoolStatus{})), "nothing happened yet")
	require.NotPanics(t, func() { bands(points, 10, pgprod.PoolStatus{PoolSize: 1, MaxOverflow: -1}) })
}

func TestTheWidthIsThatOfColumns(t *testing.T) {
	for columns, want := range map[string]int{"": 80, "120": 120, "many": 80, "-1": 80, "5": 60, "10000": 200} {
		assert.Equal(t, want, screenWidth(columns), columns)
	}
}

func TestTextIsWrapped(t *testing.T) {
	require.Equal(t, "one two\nthree\nfour\n", wrap("one two three four", 7))
	require.Equal(t, "µµµ µµµ\nx\n", wrap("µµµ µµµ x", 7), "characters count, not bytes")
	require.Equal(t, "incomprehensible\nx\n", wrap("incomprehensible x", 7))
}
