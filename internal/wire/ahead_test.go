package wire

import (
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sentAhead returns a Tap after SendAhead, and the place where what it writes is noted, one entry for each write.
func sentAhead(t *testing.T, flights ...string) (tap *Tap, written *[]string) {
	written = &[]string{}
	tap = newTap("", writerFunc(func(p []byte) (int, error) {
		*written = append(*written, string(p))
		return len(p), nil
	}))
	all := make([][]byte, len(flights))
	for i, f := range flights {
		all[i] = []byte(f)
	}
	require.NoError(t, tap.SendAhead(all))
	return tap, written
}

func TestWhatWasSentAheadIsSentAtOnceAndNotAgain(t *testing.T) {
	tap, written := sentAhead(t, "P1 S", "P2 S")
	mark := tap.Mark()
	for i, flight := range []string{"P1 S", "P2 S"} {
		assert.Equal(t, 2-i, tap.SentAhead())
		n, err := tap.Write([]byte(flight))
		require.NoError(t, err)
		assert.Equal(t, len(flight), n)
	}
	assert.Zero(t, tap.SentAhead())
	assert.Equal(t, []string{"P1 SP2 S"}, *written)
	assert.Equal(t, mark, tap.Mark(), "it was counted when it was sent")
	_, err := tap.Write([]byte("B"))
	require.NoError(t, err)
	assert.Equal(t, []string{"P1 SP2 S", "B"}, *written)
}

func TestNothingElseThanWhatWasSentAheadIsWritten(t *testing.T) {
	for _, flight := range []string{"P2 S", "P1 ", "P1 SP2 S", "Q", ""} {
		tap, written := sentAhead(t, "P1 S", "P2 S")
		n, err := tap.Write([]byte(flight))
		require.ErrorIs(t, err, errNotAhead, "%q", flight)
		assert.Zero(t, n)
		assert.Equal(t, errNotAhead, tap.Err())
		assert.Len(t, *written, 1)
	}
}

func TestPgxsFarewellIsWrittenThoughSomethingWasSentAhead(t *testing.T) {
	tap, written := sentAhead(t, "P1 S")
	_, err := tap.Write([]byte{'X', 0, 0, 0, 4})
	require.NoError(t, err)
	assert.Equal(t, []string{"P1 S", "X\x00\x00\x00\x04"}, *written)
}

func TestWhatCouldNotBeSentIsNotAhead(t *testing.T) {
	tap := newTap("", writerFunc(func([]byte) (int, error) { return 0, io.ErrClosedPipe }))
	require.ErrorIs(t, tap.SendAhead([][]byte{[]byte("P1 S")}), io.ErrClosedPipe)
	assert.Zero(t, tap.SentAhead())
}
