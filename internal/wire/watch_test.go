package wire

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// piped returns a Tap on one end of a connection, and the other end.
func piped(t *testing.T) (tap *Tap, own, other net.Conn) {
	t.Helper()
	own, other = net.Pipe()
	t.Cleanup(func() { _, _ = own.Close(), other.Close() })
	return NewTap(own, own, func() bool { return false }), own, other
}

func TestATapIsDeafUntilSomethingComes(t *testing.T) {
	tap, _, other := piped(t)
	assert.False(t, tap.Deaf())
	tap.Listen()
	assert.True(t, tap.Deaf())
	go func() { _, _ = other.Write([]byte(message('Z', "I"))) }() // ends when it was read
	_, err := tap.Read(make([]byte, 100))
	require.NoError(t, err)
	assert.False(t, tap.Deaf())
}

func TestAnAnswerIsAwaitedUntilTheServerIsReady(t *testing.T) {
	tap, own, other := piped(t)
	assert.False(t, tap.Awaits())
	go func() { _, _ = other.Read(make([]byte, 100)) }() // ends when it was written
	_, err := tap.Write([]byte(message('Q', "select 1")))
	require.NoError(t, err)
	assert.True(t, tap.Awaits())
	go func() { _, _ = other.Write([]byte(message('C', "SELECT 1") + message('Z', "I"))) }()
	_, err = tap.Read(make([]byte, 100))
	require.NoError(t, err)
	assert.False(t, tap.Awaits())

	done := make(chan error, 1)
	go func() { _, err := tap.Write(make([]byte, smallFlight+1)); done <- err }() // nobody reads it; ends with the deadline
	require.Eventually(t, tap.Awaits, 30*time.Second, time.Millisecond)
	require.NoError(t, own.SetDeadline(time.Unix(1, 0)))
	require.ErrorIs(t, <-done, os.ErrDeadlineExceeded)
}

func TestASeveredConnectionEndsWhatIsUnderWayAndAllThatFollows(t *testing.T) {
	silent := errors.New("silent")
	for name, use := range map[string]func(*Tap) error{
		"read":  func(tap *Tap) error { _, err := tap.Read(make([]byte, 1)); return err },
		"write": func(tap *Tap) error { _, err := tap.Write(make([]byte, smallFlight+1)); return err },
	} {
		t.Run(name, func(t *testing.T) {
			tap, own, _ := piped(t)
			done := make(chan error, 1)
			go func() { done <- use(tap) }() // ends with the deadline
			tap.Sever(silent)
			tap.Sever(errors.New("later"))
			require.NoError(t, own.SetDeadline(time.Unix(1, 0)))
			assert.Equal(t, silent, <-done)
			assert.Equal(t, silent, tap.Err())
			require.NoError(t, own.SetDeadline(time.Time{})) // as the guard does when a statement is over
			mark := tap.Mark()
			assert.Equal(t, silent, use(tap))
			assert.Equal(t, mark, tap.Mark(), "nothing was written")
		})
	}
}

func TestASeveredReadIsNotReadAgain(t *testing.T) {
	own, other := net.Pipe()
	defer other.Close()
	tap := NewTap(own, own, func() bool { t.Error("asked"); return true })
	tap.Sever(errors.New("silent"))
	require.NoError(t, own.SetDeadline(time.Unix(1, 0)))
	_, err := tap.Read(make([]byte, 1))
	assert.EqualError(t, err, "silent")
}
