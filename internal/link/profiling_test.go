package link

import (
	"runtime/trace"
	"testing"

	"github.com/stretchr/testify/assert"
)

// whileNoTraceRuns does what each statement does for traces and profiles.
func whileNoTraceRuns(c *Conn) {
	if trace.IsEnabled() {
		panic("a trace runs")
	}
	c.stmt.profiled.leave()
	c.stmt.profiled.end()
}

func TestWhileNoTraceRunsTracesAndProfilesCostNoAllocation(t *testing.T) {
	c := &Conn{}
	assert.Zero(t, testing.AllocsPerRun(1000, func() { whileNoTraceRuns(c) }))
}

func BenchmarkWhileNoTraceRuns(b *testing.B) {
	c := &Conn{}
	b.ReportAllocs()
	for b.Loop() {
		whileNoTraceRuns(c)
	}
}

func BenchmarkArePlain(b *testing.B) {
	args := []any{int64(1), "text", []byte("bytes")}
	b.ReportAllocs()
	for b.Loop() {
		arePlain(args)
	}
}
