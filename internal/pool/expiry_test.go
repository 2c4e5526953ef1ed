package pool

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/settings"
)

func TestConnectionsMadeTogetherDoNotEndTogether(t *testing.T) {
	const recycle = 30 * time.Minute
	p := &Pool{cfg: &settings.Config{PoolRecycle: recycle}}
	now := clock.Now()
	first, last := p.expiry(now), p.expiry(now)
	for range 1000 {
		at := p.expiry(now)
		require.LessOrEqual(t, at-now, int64(recycle))
		require.GreaterOrEqual(t, at-now, int64(recycle-recycle/10))
		first, last = min(first, at), max(last, at)
	}
	require.Greater(t, last-first, int64(recycle/20))

	p.cfg.PoolRecycle = 0
	require.Zero(t, p.expiry(now), "never")
}
