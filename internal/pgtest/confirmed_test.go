package pgtest_test

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// verdict is a test that notes whether it has failed.
type verdict struct {
	testing.TB
	failed bool
}

func (v *verdict) Errorf(string, ...any) { v.failed = true }
func (v *verdict) Failed() bool          { return v.failed }
func (v *verdict) FailNow() {
	v.failed = true
	runtime.Goexit()
}
func (v *verdict) Fatal(...any) { v.FailNow() }

func TestOnlyWhatFailsAfterALateConfirmationIsForgiven(t *testing.T) {
	t.Parallel()
	late, inTime := 500*time.Millisecond, time.Duration(0)
	for name, c := range map[string]struct {
		attempts []time.Duration // how long after its limit each is confirmed; the last for all others
		fails    bool            // what comes after it, each time
		tries    int
		failed   bool
	}{
		"in time":                  {[]time.Duration{inTime}, false, 1, false},
		"in time, and it fails":    {[]time.Duration{inTime}, true, 1, true},
		"late once":                {[]time.Duration{late, inTime}, false, 2, false},
		"late once, then it fails": {[]time.Duration{late, inTime}, true, 2, true},
		"always late":              {[]time.Duration{late}, true, 5, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, tries, done := &verdict{TB: t}, 0, make(chan struct{})
			go func() {
				defer close(done)
				pgtest.Confirmed(v, func(trial *pgtest.Trial) {
					took := c.attempts[min(tries, len(c.attempts)-1)]
					tries++
					err := trial.Cut(0, func() error { time.Sleep(took); return errors.ErrUnsupported })
					require.ErrorIs(trial, err, errors.ErrUnsupported)
					assert.False(trial, c.fails)
					require.False(trial, c.fails)
				})
			}()
			<-done
			assert.Equal(t, c.tries, tries)
			assert.Equal(t, c.failed, v.failed)
		})
	}
}
