package wire

import (
	"io"
	"strings"
	"testing"

	"github.com/pgprod/pgprod/internal/clock"
)

// again reads the same bytes again and again.
type again []byte

func (a again) Read(p []byte) (int, error) { return copy(p, a), nil }

// BenchmarkTap is what a Tap costs a statement of one flight, without the network.
func BenchmarkTap(b *testing.B) {
	flight := []byte(strings.Join([]string{message('B', strings.Repeat(" ", 30)), message('D', strings.Repeat(" ", 2)), message('E', strings.Repeat(" ", 5)), message('S', strings.Repeat(" ", 0))}, ""))
	answer := again(strings.Join([]string{message('2', strings.Repeat(" ", 0)), message('D', strings.Repeat(" ", 10)), message('C', strings.Repeat(" ", 9)), message('Z', strings.Repeat(" ", 1))}, ""))
	tap := NewTap(answer, io.Discard, func() bool { return false })
	buffer := make([]byte, 8<<10)
	b.ReportAllocs()
	for b.Loop() {
		tap.BeginTiming(clock.Now(), false)
		_, _ = tap.Write(flight)
		_, _ = tap.Read(buffer)
	}
}
