//go:build linux

package lab

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/pgprod/pgprod/internal/lab/known"
)

// at is a deed that has ended so many milliseconds after a time.
func at(begin time.Time, ms int, worker int, told known.Outcome, err error) deed {
	d := time.Duration(ms) * time.Millisecond
	return deed{id: int64(ms), worker: worker, began: begin.Add(d - time.Millisecond), ended: begin.Add(d), told: told, err: err}
}

func TestTheLedgerShowsWhatWasLostDoubledOrDoneThoughDenied(t *testing.T) {
	begin, broken := time.Now(), errors.New("broken")
	deeds := []deed{
		at(begin, 1, 0, known.Acknowledged, nil), at(begin, 2, 0, known.Acknowledged, nil), at(begin, 3, 0, known.Acknowledged, nil),
		at(begin, 4, 0, known.Unknown, broken), at(begin, 5, 0, known.Unknown, broken),
		at(begin, 6, 0, known.Denied, broken), at(begin, 7, 0, known.Denied, broken),
	}
	v := judge(deeds, map[int64]int{1: 1, 2: 2, 5: 1, 7: 1})
	assert.Equal(t, verdict{calls: 7, errors: 4, unknown: 2, doubled: 1, lost: 1, wronglyRefused: 1}, v)
}

func TestAnOutageIsTheLongestTimeWithoutSuccessAfterTheFault(t *testing.T) {
	begin, broken := time.Now(), errors.New("broken")
	ms := time.Millisecond
	deeds := []deed{
		at(begin, 0, 0, known.Acknowledged, nil), at(begin, 900, 1, known.Acknowledged, nil), // before the fault: it doesn't count
		at(begin, 1010, 1, known.Acknowledged, nil), at(begin, 1200, 0, known.Unknown, broken), at(begin, 1300, 1, known.Denied, broken),
		at(begin, 1510, 1, known.Acknowledged, nil), at(begin, 1600, 0, known.Acknowledged, nil),
	}
	o := observe(deeds, begin.Add(1000*ms), begin.Add(1100*ms), begin.Add(1650*ms))
	assert.Equal(t, observation{outage: 500 * ms, promoted: 410 * ms, firstError: 190 * ms, lastFirst: 290 * ms}, o)

	o = observe(deeds[:4], begin.Add(1000*ms), begin.Add(1100*ms), begin.Add(1650*ms))
	assert.Equal(t, observation{outage: absent, promoted: absent, firstError: 190 * ms, lastFirst: 190 * ms}, o)
}
