package main

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
)

func TestAnAuditSeesWhatIsWrong(t *testing.T) {
	l := new(ledger)
	for _, err := range []error{nil, nil, errors.New("no"), fmt.Errorf("commit: %w", pgprod.ErrCommitUnknown), pgprod.ErrCommitUnknown} {
		l.book(l.next(), err)
	}
	l.next() // interrupted
	good := l.compare(map[int64]int{1: 1, 2: 1, 4: 1})
	require.Equal(t, audit{acknowledged: 2, refused: 2, unknown: 2, unknownDone: 1}, good)
	require.NoError(t, good.err())
	require.Equal(t, "2 acknowledged: 0 lost, 0 doubled\n2 refused with an error: 0 took place all the same\n2 unknown (ErrCommitUnknown): 1 took place\n", good.String())

	bad := l.compare(map[int64]int{2: 2, 3: 1})
	require.Equal(t, audit{acknowledged: 2, refused: 2, unknown: 2, lost: 1, doubled: 1, ghosts: 1}, bad)
	require.ErrorContains(t, bad.err(), "1 were lost, 1 doubled, and 1 took place")
}

func TestAGapIsTheLongestTimeWithoutSuccessOnceItHasBegun(t *testing.T) {
	var g gaps
	g.successAt(100)
	g.successAt(900)
	g.begin()
	g.successAt(1000)
	g.successAt(1500) // the gap
	g.successAt(1600)
	require.EqualValues(t, 500, g.longest.Load())
}

func TestFailuresAreCountedByReason(t *testing.T) {
	var f failures
	f.add("read", fmt.Errorf("after 3s: %w", pgprod.ErrPoolTimeout))
	f.add("list", fmt.Errorf("after 4s: %w", pgprod.ErrPoolTimeout))
	f.add("transfer", pgprod.ErrCommitUnknown)
	require.Equal(t, "2× ErrPoolTimeout: no connection became free within pool_timeout\n"+
		"1× ErrCommitUnknown: the outcome of COMMIT is unknown\n", f.byReason())
}
