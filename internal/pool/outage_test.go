package pool

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/settings"
)

func TestShortOutagesInARowAreCountedAndTheLastWordIsRight(t *testing.T) {
	var o outage
	now := time.Now()
	told, ended := 0, 0
	for range 100 { // a connection that flaps
		now = now.Add(100 * time.Millisecond)
		if tell, _ := o.begin(now); tell {
			told++
		}
		now = now.Add(100 * time.Millisecond)
		if tell, _, _ := o.end(now); tell {
			ended++
		}
	}
	assert.Equal(t, outagesAtOnce, told)
	assert.Equal(t, told, ended, "each that was told has an end")

	tell, _ := o.begin(now)
	assert.False(t, tell)
	tell, untold := o.begin(now.Add(longOutage))
	assert.True(t, tell, "it lasts")
	assert.Equal(t, 97, untold)
	tell, after, failures := o.end(now.Add(2 * longOutage))
	assert.True(t, tell)
	assert.Equal(t, 2*longOutage, after)
	assert.Equal(t, 2, failures)

	tell, _, _ = o.end(now)
	assert.False(t, tell, "there was none")
	tell, untold = o.begin(now.Add(10 * time.Minute))
	assert.True(t, tell, "after a calm minute it begins anew")
	assert.Zero(t, untold)
}

func TestAServerThatHasNoRoomIsNotHealthyAgain(t *testing.T) {
	var log bytes.Buffer
	p := &Pool{
		cfg: &settings.Config{}, hooks: Hooks{Logger: slog.New(slog.NewTextHandler(&log, nil))},
		errors: activity.NewEvents(10), life: t.Context(),
	}
	now := time.Now()
	p.looked(answer{at: now, err: errors.New("refused")})
	p.size.Store(1)
	p.looked(answer{at: now, err: &pgconn.PgError{Code: "53300"}})
	assert.NotContains(t, log.String(), "healthy again")
	p.looked(answer{at: now})
	assert.Contains(t, log.String(), "healthy again")
}
