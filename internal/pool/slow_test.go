package pool

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/pgprod/pgprod/internal/settings"
)

func TestAStatementThatBeginsWhileOthersAreLookedAtMuchLaterIsNoticed(t *testing.T) {
	const now, slow = int64(time.Hour), int64(time.Second)
	p := &Pool{cfg: &settings.Config{SlowQuery: time.Second}}
	assert.Equal(t, now+slow, p.nextFire(now, now+8*slow), "it may begin at once")
	assert.Equal(t, now+slow/2, p.nextFire(now, now+slow/2))
}
