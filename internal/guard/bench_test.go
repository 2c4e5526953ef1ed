package guard_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/guard"
)

// BenchmarkBeginAndEnd is what the guard adds to each statement that is in time. The clock is read once for the statement,
// for telemetry as well, and is no part of it.
func BenchmarkBeginAndEnd(b *testing.B) {
	for name, limit := range map[string]time.Duration{"no limit": 0, "limit": 30 * time.Second} {
		b.Run(name, func(b *testing.B) {
			s := newSession()
			defer s.Stop()
			now := clock.Now()
			b.ReportAllocs()
			for b.Loop() {
				now++
				s.Begin(now, limit, guard.Cancelling)
				s.End()
			}
		})
	}
}

func TestAStatementInTimeAllocatesNothing(t *testing.T) {
	s := newSession()
	defer s.Stop()
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		s.Begin(clock.Now(), time.Minute, guard.Cancelling)
		s.End()
	}))
}
