package wire

import (
	"bytes"
	"errors"
)

// errNotAhead is the error of a write that is not what was sent ahead. Only another version of pgx can cause it.
var errNotAhead = errors.New("pgprod: pgx has written something else than what was sent ahead for it")

// SendAhead writes several flights, each with a Sync of its own, at once. Afterwards pgx must be made to write the same
// flights, one after the other. The Tap takes them in without sending them again, and pgx reads the answers, which come in the
// order of the flights. So many statements that pgx sends one by one cost one round trip.
//
// The server answers while nobody reads yet, so the flights must be few enough for the kernel's buffers: 32 KiB together. If
// anything fails before SentAhead is 0 again, the connection is of no use any more.
//
// It is called by the goroutine that makes pgx write, while nothing is under way.
func (t *Tap) SendAhead(flights [][]byte) error {
	if _, err := t.Write(bytes.Join(flights, nil)); err != nil {
		return err
	}
	t.ahead = flights
	return nil
}

// SentAhead returns how many of the flights that were sent ahead pgx has not written yet.
func (t *Tap) SentAhead() int { return len(t.ahead) }

// takeIn is Write while flights were sent ahead: p must be the next of them.
func (t *Tap) takeIn(p []byte) (int, error) {
	if !bytes.Equal(p, t.ahead[0]) {
		t.noteFailure(errNotAhead)
		return 0, errNotAhead
	}
	t.ahead = t.ahead[1:]
	return len(p), nil
}
