package main

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// theUsual is a load of 2000 connections per second held for 2 ms, on a pool of the medium profile on this machine.
func theUsual() observed {
	return observed{
		users: 100, think: 48 * time.Millisecond, lasted: 10 * time.Second, lent: 20000, hold: 2 * time.Millisecond,
		size: 20, overflow: 10, most: 9, limits: limits{max: 200, free: 197, cores: 8}, cpu: 0.4,
	}
}

func TestTheAdvice(t *testing.T) {
	for name, c := range map[string]struct {
		change         func(*observed)
		size, overflow int
		says           []string
	}{
		"nobody waits": {
			func(*observed) {}, 8, 4,
			[]string{"2,000 connections lent per second, held for 2.0ms on average, are 4.0 busy", "At most 9 were seen in use at once, of 30",
				"nobody waited", "larger than this load needs", "200 and leaves 197: enough for 16 instances"},
		},
		"nobody waits, and peaks are high": {func(o *observed) { o.most = 25 }, 8, 17, []string{"covers the peak"}},
		"nobody waits, and it fits":        {func(o *observed) { o.size, o.overflow = 8, 4 }, 8, 4, []string{"The present pool fits"}},
		"nobody waits, without a limit":    {func(o *observed) { o.overflow = -1 }, 8, 4, []string{"of any number"}},
		"a few waits are nothing":          {func(o *observed) { o.waits, o.waitP99 = 100, time.Millisecond }, 8, 4, []string{"100 waits for one, 99 % of them for less than 1.0ms"}},
		"waits for each other": {
			func(o *observed) { o.users, o.size, o.overflow, o.most, o.full, o.waits = 500, 4, 2, 6, 0.7, 15000 }, 20, 9, // 20 + 2√20
			[]string{"500 users who hold a connection for 2.0ms and then think for 48ms would keep 20.0 busy", "8 cores were 40 % busy, so there is time for more"},
		},
		"waits for each other, and more would not be more": {
			func(o *observed) { o.size, o.overflow, o.most, o.full, o.waits = 10, 5, 15, 0.1, 500 }, 16, 7,
			[]string{"come in bursts, so half as many again"},
		},
		"never more than there are users": {
			func(o *observed) { o.users, o.size, o.overflow, o.most, o.full, o.waits = 10, 4, 2, 6, 0.7, 15000 }, 6, 3, nil,
		},
		"waits for dials": {
			func(o *observed) { o.size, o.overflow, o.most, o.waits = 4, 20, 12, 5000 }, 12, 6,
			[]string{"hardly ever full", "waits were for connections being made", "beyond pool_size, 4"},
		},
		"timeouts": {
			func(o *observed) { o.users, o.size, o.overflow, o.most, o.waits, o.timeouts = 500, 4, 2, 6, 9, 3 }, 20, 9,
			[]string{"3 in vain (ErrPoolTimeout)"},
		},
		"waits for dials, though once it was full": {
			func(o *observed) { o.size, o.overflow, o.most, o.full, o.waits = 10, 5, 15, 0.01, 500 }, 15, 8,
			[]string{"hardly ever full"},
		},
		"waits on a few connections with busy processors": {
			func(o *observed) {
				o.users, o.size, o.overflow, o.most, o.full, o.waits, o.cpu = 500, 4, 2, 6, 0.7, 15000, 0.95
			}, 4, 2,
			[]string{"The processors are the limit", "95 % busy", "-sweep measures it"},
		},
		"waits on many connections with busy processors": {
			func(o *observed) { o.size, o.overflow, o.most, o.full, o.waits, o.cpu = 10, 5, 15, 0.1, 500, 1 }, 6, 2, // 4 + 2√4
			[]string{"The processors are the limit"},
		},
		"a server elsewhere": {
			func(o *observed) {
				o.users, o.size, o.overflow, o.most, o.full, o.waits, o.limits.cores = 500, 4, 2, 6, 0.7, 15000, 0
			}, 20, 9,
			[]string{"The server is elsewhere"},
		},
		"the processors are the limit": {
			func(o *observed) { o.hold, o.cpu, o.waits, o.limits.cores = 12*time.Millisecond, 0.97, 9000, 2 }, 5, 3,
			[]string{"2 cores", "97 % busy", "2 × cores + 1", "-sweep measures it"},
		},
		"busy processors elsewhere are not the server's": {
			func(o *observed) { o.hold, o.cpu, o.limits.cores = 12*time.Millisecond, 0.97, 0 }, 34, 17, nil, // 24 + 2√24
		},
		"max_connections is the limit": {
			func(o *observed) { o.hold, o.limits.max, o.limits.free = 12*time.Millisecond, 30, 20 }, 20, 0,
			[]string{"30 and leaves 20, which is less than 51: raise it", "PgBouncer"},
		},
		"nothing measured": {func(o *observed) { o.lent = 0 }, 0, 0, []string{"Nothing was measured"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := theUsual()
			c.change(&o)
			a := o.advise()
			assert.Equal(t, []int{c.size, c.overflow}, []int{a.size, a.overflow}, a.why)
			for _, text := range c.says {
				assert.Contains(t, strings.Join(a.why, "\n"), text)
			}
		})
	}
}

func TestNoAdviceIsMoreThanTheServerLeaves(t *testing.T) {
	for range 10_000 {
		l := limits{max: 100, free: 1 + rand.IntN(100), cores: rand.IntN(8)}
		o := observed{
			users: 1 + rand.IntN(2000), think: time.Duration(rand.IntN(1e9)), lasted: time.Second, lent: 1 + rand.Int64N(50_000),
			hold: time.Duration(1 + rand.IntN(1e8)), waits: rand.Int64N(50_000), timeouts: rand.Int64N(2),
			size: 1 + rand.IntN(90), overflow: rand.IntN(100) - 1, limits: l, cpu: rand.Float64(),
		}
		o.most, o.full = rand.IntN(200), rand.Float64()
		a := o.advise()
		require.Positive(t, a.size, "%+v", o)
		require.GreaterOrEqual(t, a.overflow, 0, "%+v", o)
		require.LessOrEqual(t, a.size+a.overflow, l.free, "%+v", o)
		if l.cores > 0 && o.cpu >= 0.9 && o.overflow >= 0 {
			require.LessOrEqual(t, a.size+a.overflow, o.size+o.overflow, "busy processors have no time for more: %+v", o)
		}
	}
}

func TestTheAdviceCanBeCopiedIntoAShell(t *testing.T) {
	text := theUsual().advise().text(80)
	require.Contains(t, text, "The pool should be: DB_POOL_SIZE=8 DB_MAX_OVERFLOW=4\n")
	for line := range strings.Lines(text) {
		assert.LessOrEqual(t, len([]rune(line)), 81, line)
	}
	require.NotContains(t, advice{why: []string{"Nothing was measured."}}.text(80), "DB_POOL_SIZE")
}

func TestTheKnee(t *testing.T) {
	for name, c := range map[string]struct {
		perS, p99 []int // in milliseconds
		want      int
		says      string
	}{
		"throughput ends to grow":         {[]int{1000, 1900, 2600, 2700, 2700, 2500}, []int{90, 50, 20, 20, 22, 28}, 8, "Half as many give -27 % throughput, with a p99 of 50ms instead of 20ms."},
		"throughput is all the same":      {[]int{500, 500, 500}, []int{9, 9, 9}, 2, "the users want no more than that"},
		"p99 decides where that is equal": {[]int{500, 500, 500}, []int{90, 30, 9}, 8, "No larger one was tried"},
		"it still grows":                  {[]int{1000, 2000, 4000}, []int{90, 30, 9}, 8, "No larger one was tried"},
		"one size alone":                  {[]int{1000}, []int{9}, 2, "No smaller one was tried"},
		"too many are worse":              {[]int{1000, 2000, 1000}, []int{9, 9, 90}, 4, "Twice as many give -50 % throughput, with a p99 of 90ms instead of 9.0ms."},
	} {
		t.Run(name, func(t *testing.T) {
			var trials []trial
			for i := range c.perS {
				trials = append(trials, aTrial(2<<i, c.perS[i], time.Duration(c.p99[i])*time.Millisecond))
			}
			a := adviseSweep(trials, limits{max: 100, free: 97})
			assert.Equal(t, c.want, a.size)
			assert.Contains(t, strings.Join(a.why, "\n"), c.says)
		})
	}
	require.Equal(t, 0, adviseSweep([]trial{{size: 2, took: newLatencies()}}, limits{free: 9}).size, "nothing was measured")
	require.Equal(t, 2, adviseSweep([]trial{aTrial(2, 1, 1)}, limits{free: 3}).size)
}

// aTrial is a second's.
func aTrial(size, requests int, each time.Duration) trial {
	t := trial{size: size, lasted: time.Second, took: newLatencies()}
	for range requests {
		t.took.Record(each)
	}
	return t
}

func TestASweepIsATableWithBars(t *testing.T) {
	failing := aTrial(8, 500, time.Millisecond)
	failing.failed = 3
	trials := []trial{aTrial(2, 250, 4*time.Millisecond), aTrial(4, 1000, 2*time.Millisecond), failing}
	require.Equal(t, ""+
		" size  requests/s                        p50     p99\n"+
		"    2         250  ████▎               4.0ms   4.0ms  █████████████████\n"+
		"    4       1,000  █████████████████   2.0ms   2.0ms  ████████▌          ◄ knee\n"+
		"    8         500  ████████▌           1.0ms   1.0ms  ████▎              3 failed\n", sweepTable(trials, 80))
}

func TestSizesEndWithTheServersConnectionsAndTheUsers(t *testing.T) {
	require.Equal(t, []int{2, 4, 8, 16, 32, 64}, sweepSizes(1000, 500))
	require.Equal(t, []int{2, 4, 8}, sweepSizes(15, 500))
	require.Equal(t, []int{2, 4, 8, 16}, sweepSizes(1000, 10))
	require.Equal(t, []int{2}, sweepSizes(1000, 1))
	require.Empty(t, sweepSizes(1, 500))
}
