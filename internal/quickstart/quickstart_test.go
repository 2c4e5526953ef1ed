package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
)

func TestTheProcessorsShareIsThatOfTheTimeBetween(t *testing.T) {
	before := parseCPU("cpu  100 0 100 800 0 0 0 0 50 0\ncpu0 1 2 3\n")
	after := parseCPU("cpu  160 0 130 800 10 0 0 0 60 0\n")
	require.Equal(t, cpuTime{busy: 200, all: 1000}, before)
	require.InDelta(t, 0.9, after.share(before), 1e-9)
	require.Zero(t, parseCPU("nonsense").share(before))
	require.Zero(t, cpuTime{}.share(cpuTime{}))
}

func TestDurationsAreShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0", 420: "0µs", 850 * time.Microsecond: "850µs", 996 * time.Microsecond: "1.0ms", 4240 * time.Microsecond: "4.2ms",
		9960 * time.Microsecond: "10ms", 42 * time.Millisecond: "42ms", 999 * time.Millisecond: "999ms",
		1099 * time.Millisecond: "1.10s", 9996 * time.Millisecond: "10s", 75 * time.Second: "75s", time.Hour: "3600s",
	} {
		assert.Equal(t, want, short(d), d)
	}
}

func TestNumbersAreGroupedByThousands(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 999: "999", 1000: "1,000", 123456: "123,456", 12345678: "12,345,678",
	} {
		assert.Equal(t, want, thousands(n))
	}
}

func TestThePoolsStatusIsReadable(t *testing.T) {
	text := poolText(pgprod.PoolStatus{
		PoolSize: 20, MaxOverflow: 10, CheckedOut: 3, CheckedIn: 19, Overflow: 2, Waiting: 1,
		PeakCheckedOut: 24, PeakUtilisation: 0.8, Waits: 1200, WaitTime: 6 * time.Second, Timeouts: 4, FailedConnects: 5,
		Closed: map[string]int64{"overflow": 7, "invalid": 8},
	})
	require.Equal(t, `size        20, overflow up to 10
now         3 checked out, 19 idle, 2 overflow, 1 callers waiting
peak        24 checked out, utilisation 80 %
waits       1,200, 5.0ms each on average; 4 timeouts
connections 5 failed attempts; closed: 8 invalid, 7 overflow
`, text)
	text = poolText(pgprod.PoolStatus{PoolSize: 1, MaxOverflow: -1})
	require.Contains(t, text, "overflow up to any number")
	require.Contains(t, text, "waits       0, 0 each")
	require.Contains(t, text, "closed: none")
}

func TestFailuresAreListedAndCountedWhateverTheirNumber(t *testing.T) {
	var f failures
	require.Equal(t, "none but those\n", f.String())
	for i := range 10 {
		for range 200 {
			f.add("read", errors.New(strings.Repeat("x\n", i+1)))
		}
	}
	require.Equal(t, 2000, f.count())
	require.Equal(t, mostTexts+1, strings.Count(f.String(), "\n"))
	require.Contains(t, f.String(), "200× read: x x\n")
	require.Contains(t, f.String(), "1,000 more\n")
}

func TestEveryKindOfRequestIsPicked(t *testing.T) {
	l := newLoad(nil, nil, options{duration: time.Second})
	seen, total := map[string]bool{}, 0.0
	for _, k := range l.kinds {
		total += k.share
	}
	for i := range 100 {
		seen[l.pick(float64(i)/100).name] = true
	}
	require.InDelta(t, 1, total, 1e-9)
	require.Len(t, seen, len(l.kinds))
	require.NotNil(t, l.pick(1))
}

func TestFlagsAreChecked(t *testing.T) {
	for _, c := range []struct{ args, says string }{
		{"-duration 0s", "-duration must be above 0"},
		{"-users 0", "-users must be at least 1"},
		{"-users many", "invalid value"},
		{"-think -1ms", "-think must not be below 0"},
		{"-profile huge", `-profile must be small, medium or large, not "huge"`},
		{"-profile=", "-profile must be small, medium or large"},
		{"-sweep -failover", "don't go together"},
		{"-sweep -addr :0", "don't go together"},
		{"-failover -addr :0", "don't go together"},
		{"what", "takes no arguments"},
	} {
		var out bytes.Buffer
		_, err := parseFlags(strings.Fields(c.args), &out)
		require.Error(t, err, c.args)
		require.Contains(t, out.String(), c.says)
	}
	o, err := parseFlags(nil, &bytes.Buffer{})
	require.NoError(t, err)
	require.Equal(t, options{duration: 5 * time.Second, users: 50, think: busyPause, instances: 1}, o)
}

func TestUsersThinkLongerWhereTheStatusIsServed(t *testing.T) {
	for args, want := range map[string]time.Duration{"": busyPause, "-addr :0": lightPause, "-addr :0 -think 0": 0, "-think 2s": 2 * time.Second} {
		o, err := parseFlags(strings.Fields(args), &bytes.Buffer{})
		require.NoError(t, err)
		require.Equal(t, want, o.think, args)
	}
}

func TestARestartIsForAServerOfItsOwn(t *testing.T) {
	t.Setenv("DB_DSN", "postgres://db.example.com/shop")
	var out bytes.Buffer
	_, err := parseFlags([]string{"-failover"}, &out)
	require.Error(t, err)
	require.Contains(t, out.String(), "unset DB_DSN")
}
