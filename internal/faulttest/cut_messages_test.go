package faulttest

import (
	"fmt"
	"testing"

	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// bothEnds are the ways in which a connection is cut.
var bothEnds = []faultproxy.End{faultproxy.FIN, faultproxy.RST}

// ofCuts is what the caller of a deed is told whose connection is cut.
var ofCuts = outcomes{
	byItself: {
		early: {wasDone}, open: {perhaps}, reading: {perhaps}, completed: {perhaps}, read: {perhaps}, told: {wasDone},
	},
	inOwnTx: {early: {notDone, wasDone}, open: {perhaps}, told: {wasDone}}, // done if nothing had been executed yet
	inInTx:  {early: {wasDone}, open: {perhaps}, told: {wasDone}},
	withKey: {early: {wasDone}, open: {wasDone}, told: {wasDone}},
	mayRepeat: { // until rows were handed out
		early: {wasDone}, open: {wasDone}, reading: {perhaps}, completed: {wasDone}, read: {perhaps}, told: {wasDone},
	},
}

// TestEachPlaceOfACutHasItsAnswer cuts the connection of each deed before each flight and each answer, and within and behind
// each of their messages.
func TestEachPlaceOfACutHasItsAnswer(t *testing.T) {
	t.Parallel()
	operateOnAll(t, func(d deed, s script) (all []operation) {
		for _, direction := range []faultproxy.Direction{faultproxy.ToServer, faultproxy.ToClient} {
			all = append(all, cutsOf(d, s, direction)...)
		}
		return all
	})
}

// everyEnd is the number of -cuts from which each place is cut in both ways and with all words, and not by turns.
const everyEnd = 1000

// cutsOf returns all cuts in what passes in one direction.
func cutsOf(d deed, s script, direction faultproxy.Direction) (all []operation) {
	flights, bytes, place, proof := s.flights(direction), 0, 0, proofOf(d, s)
	for f, flight := range flights {
		at := early
		if f == len(flights)-1 {
			at = open
		}
		add := func(where string, m faultproxy.Passed, bytes int, atOnce bool, stages ...stage) {
			place++
			for i, end := range bothEnds {
				if *cutCount < everyEnd && i != place%len(bothEnds) {
					continue
				}
				all = append(all, operation{
					name: fmt.Sprintf("%s %c of flight %d of %d, direction %d, end %d", where, m.Kind, f+1, len(flights), direction, end),
					cut:  faultproxy.Cut{Direction: direction, Bytes: bytes, AtOnce: atOnce, End: end},
					may:  ofCuts.at(d.kind, stages...),
				})
			}
		}
		add("before", flight[0], bytes, false, at)
		for i, m := range flight {
			add("within", m, bytes+m.Size/2, true, at)
			bytes += m.Size
			if direction == faultproxy.ToClient && at != early {
				at = at.after(m.Kind, proof)
			}
			if direction == faultproxy.ToClient && i == len(flight)-1 && f == len(flights)-2 {
				add("behind", m, bytes, true, early, open) // the client may write the last flight before the end arrives
			} else {
				add("behind", m, bytes, true, at)
			}
		}
	}
	return all
}
