package debugpage

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/pgprod/pgprod/internal/activity"
)

func TestNumbersAreReadable(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0 s": -1, "0 ns": 0, "812 ns": 812, "1.2 µs": 1234, "1 ms": 999_600, "340 µs": 340_000, "1.2 ms": 1_234_567,
		"10 ms": 9_960_000, "1 s": 999_900_000, "14 s": 14*time.Second + 1, "1 min": 59_700 * time.Millisecond,
		"3 min 12 s": 192 * time.Second, "2 h 5 min": 125 * time.Minute, "26 h": 26 * time.Hour, "3 d 1 h": 73 * time.Hour,
	} {
		assert.Equal(t, want, strings.ReplaceAll(duration(d), thin, " "))
	}
	for want, n := range map[string]int64{"0": 0, "999": 999, "1 000": 1000, "12 345": 12345, "1 234 567": 1234567, "−12 345": -12345} {
		assert.Equal(t, want, strings.ReplaceAll(count(n), thin, " "))
	}
	for want, f := range map[string]float64{"0 %": 0, "<1 %": 0.001, "93 %": 0.933, "99 %": 0.999, "100 %": 1, "120 %": 1.2, "–": math.NaN()} {
		assert.Equal(t, want, strings.ReplaceAll(percent(f), thin, " "))
	}
	assert.Equal(t, "ab…", activity.Shorten("abcd", 2))
	assert.Equal(t, "…", activity.Shorten("é", 1), "no half letters")
}

func TestTheChartStaysInsideItsBox(t *testing.T) {
	now := time.Now()
	s := activity.Snapshot{At: now, Status: activity.Status{PoolSize: 2, MaxOverflow: 1}}
	for _, age := range []time.Duration{time.Hour, 200 * time.Second, 100 * time.Second, 2 * time.Second, -time.Second} {
		s.History = append(s.History, activity.Sample{At: now.Add(-age), CheckedOut: 3, Waiting: 97})
	}
	c := newChart(&s)
	assert.Equal(t, "97", c.LimitY)
	assert.Equal(t, []tick{{"100", "0"}, {"50", "50"}, {"0", "100"}}, c.Ticks)
	assert.Equal(t, "M333.3 97H346.7M666.7 97H680M993.3 97H1000M1003.3 97H1000", c.Edge, "the hour old is gone, gaps are gaps")
	assert.True(t, newChart(&activity.Snapshot{At: now}).Empty)
}

func TestAxesAreRound(t *testing.T) {
	for n, want := range map[int]int{0: 2, 1: 2, 3: 4, 10: 10, 11: 20, 30: 30, 42: 50, 70: 80, 101: 200, 1001: 2000} {
		assert.Equal(t, want, round(n), n)
	}
}
