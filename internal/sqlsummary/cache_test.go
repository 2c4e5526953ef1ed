package sqlsummary

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func summaryOf(s Summary) string { return s.Summary }

func TestAHitGivesTheSameEntryAndBuildsNothing(t *testing.T) {
	builds := 0
	c := NewCache(Limits{}, func(s Summary) int { builds++; return builds })
	first := c.Get("SELECT 1 FROM t")
	assert.Equal(t, "SELECT t", first.Summary.Summary)
	assert.Equal(t, "SELECT '?' FROM t", first.Text)
	assert.Equal(t, 1, first.Value)
	assert.Same(t, first, c.Get("SELECT 1 FROM t"))
	assert.NotSame(t, first, c.Get("SELECT 2 FROM t"))
	assert.Equal(t, 2, builds)
	assert.Equal(t, 2, c.Len())
}

func TestAHitAllocatesNothing(t *testing.T) {
	c := NewCache(Limits{}, summaryOf)
	c.Get(typical)
	assert.Zero(t, testing.AllocsPerRun(100, func() { c.Get(typical) }))
}

func TestAHundredThousandTextsStayWithinTheLimits(t *testing.T) {
	limits := Limits{Entries: 100, TextBytes: 1000, Summaries: 50}
	c := NewCache(limits, summaryOf)
	summaries := map[string]bool{}
	before := heap()
	pad := strings.Repeat("x", 900)
	for i := range 100_000 {
		e := c.Get(fmt.Sprintf("SELECT %s FROM t%d", pad, i))
		summaries[e.Summary.Summary] = true
	}
	assert.Equal(t, limits.Entries, c.Len())
	assert.Len(t, summaries, limits.Summaries+1)
	assert.Contains(t, summaries, "SELECT _OTHER")
	assert.Less(t, heap()-before, int64(1<<20), "bytes kept")
	total := 0
	for i := range c.buckets {
		for n := c.buckets[i].Load(); n != nil; n = n.next.Load() {
			total++
		}
	}
	assert.Equal(t, limits.Entries, total, "nodes in the buckets")
	runtime.KeepAlive(c)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestTextsInUseSurviveAFloodOfOthers(t *testing.T) {
	c := NewCache(Limits{Entries: 8}, summaryOf)
	kept := c.Get("SELECT a FROM t")
	for i := range 1000 {
		c.Get(fmt.Sprintf("SELECT %d", i))
		require.Same(t, kept, c.Get("SELECT a FROM t"))
	}
}

func TestLongTextsAreParsedAndNotKept(t *testing.T) {
	c := NewCache(Limits{TextBytes: 20}, summaryOf)
	sql := "SELECT a FROM t WHERE b = 1"
	assert.Equal(t, "SELECT t", c.Get(sql).Value)
	assert.NotSame(t, c.Get(sql), c.Get(sql))
	assert.Zero(t, c.Len())
}

func TestSummariesBeyondTheLimitKeepOnlyTheFirstOperation(t *testing.T) {
	c := NewCache(Limits{Summaries: 1}, summaryOf)
	assert.Equal(t, "SELECT t", c.Get("SELECT a FROM t").Value)
	assert.Equal(t, "SELECT t", c.Get("SELECT b FROM t").Value, "a known summary is no new one")

	e := c.Get("CREATE TABLE u (a int DEFAULT 5)")
	assert.Equal(t, "CREATE _OTHER", e.Value)
	assert.Equal(t, "CREATE TABLE u (a int DEFAULT '?')", e.Text)

	assert.Equal(t, "INSERT _OTHER", c.Get("INSERT INTO a SELECT * FROM b").Value)
	assert.Equal(t, "_OTHER", c.Get("hello").Value)
}

func TestTheSummariesOfHostileTextsAreBounded(t *testing.T) {
	const hostile = 20_000
	cased := func(word string, i int) string { // in the i-th mix of cases
		b := []byte(word)
		for j := range b {
			if b[j] != ' ' && i&(1<<j) != 0 {
				b[j] ^= 0x20
			}
		}
		return string(b)
	}
	for name, text := range map[string]func(i int) string{
		"cases of an operation": func(i int) string { return cased("create materialized ", i) + "view v as select 1" },
		"prefixes": func(i int) string {
			return "create " + strings.Repeat("text ", i%40) + strings.Repeat("data ", i/40%40) +
				strings.Repeat("access ", i/1600) + "table t"
		},
		"time time": func(i int) string { return cased("set time", i) + strings.Repeat(" time", i%50) + " zone 'x'" },
		"collections of the same words": func(i int) string {
			return "select 1 from a" + strings.Repeat("; select 1", i%40) + "; notify " + strings.Repeat("a; notify ", i/40%40) + "a"
		},
	} {
		c := NewCache(Limits{Entries: 10, Summaries: 100}, summaryOf)
		seen := map[string]bool{}
		for i := range hostile {
			seen[c.Get(text(i)).Summary.Summary] = true
		}
		assert.LessOrEqual(t, len(seen), 100+len(keywords), name)
	}
}

func TestAnOperationBeyondTheLimitIsOneOfAFixedSet(t *testing.T) {
	c := NewCache(Limits{Summaries: 1}, summaryOf)
	c.Get("SELECT a FROM t")
	for _, g := range golden {
		e := c.Get(g.sql)
		if e.Summary.Summary == "SELECT t" {
			continue
		}
		operation := strings.TrimSuffix(strings.TrimSuffix(e.Summary.Summary, other), " ")
		assert.True(t, operation == "" || keywords[strings.ToLower(operation)] != noKey, "%s: %s", e.Summary.Summary, g.sql)
	}
	assert.Equal(t, "CREATE _OTHER", c.Get("create text search parser p (start = x)").Value)
}

func TestTheCacheCopiesTheTextsItKeeps(t *testing.T) {
	c := NewCache(Limits{}, summaryOf)
	large := strings.Repeat(" ", 1<<24) + "SELECT a FROM t"
	before := heap()
	c.Get(large[1<<24:])
	large = ""
	assert.Less(t, heap()-before, int64(0))
	runtime.KeepAlive(c)
}

func TestConcurrentUse(t *testing.T) {
	c := NewCache(Limits{Entries: 64, Summaries: 64}, summaryOf)
	var wrong atomic.Int64
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 5000 {
				n := (i*7 + g) % 200
				want := fmt.Sprintf("SELECT t%d", n)
				got := c.Get(fmt.Sprintf("SELECT %d FROM t%d", i%3, n))
				if got.Value != want && got.Value != "SELECT _OTHER" {
					wrong.Add(1)
				}
			}
		})
	}
	wg.Wait()
	assert.Zero(t, wrong.Load())
	assert.Equal(t, 64, c.Len())
}
