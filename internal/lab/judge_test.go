//go:build linux

package lab

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pgprod/pgprod/internal/lab/known"
)

// A verdict is what became of the calls of a crew, by what is in the ledger.
type verdict struct {
	calls, errors  int
	unknown        int // errors that leave open whether the row was written
	doubled, lost  int // rows there twice; calls acknowledged and not there
	wronglyRefused int // calls of which it was said that they weren't done, and they were
	hung           int // calls that hadn't ended when the crew left
}

// judge compares what a crew was told with what is there. Of what hung nothing is known.
func judge(deeds []deed, rows map[int64]int) (v verdict) {
	for _, d := range deeds {
		n := rows[d.id]
		v.calls++
		if n > 1 {
			v.doubled++
		}
		switch d.told {
		case known.Acknowledged:
			if n == 0 {
				v.lost++
			}
		case known.Unknown:
			v.errors++
			v.unknown++
		case known.Denied:
			v.errors++
			if n > 0 {
				v.wronglyRefused++
			}
		}
	}
	return v
}

func (v *verdict) add(o verdict) {
	v.calls += o.calls
	v.errors += o.errors
	v.unknown += o.unknown
	v.doubled += o.doubled
	v.lost += o.lost
	v.wronglyRefused += o.wronglyRefused
	v.hung += o.hung
}

// check asserts what pgprod promises, whatever the fault.
func (v verdict) check(t *testing.T) {
	t.Helper()
	assert.Zero(t, v.lost, "acknowledged and not there")
	assert.Zero(t, v.doubled, "there twice")
	assert.Zero(t, v.wronglyRefused, "there, although it was said that it wasn't done")
}
