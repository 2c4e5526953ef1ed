package wire

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/clock"
)

// What the server may say.
var (
	parsedAndBound = []byte("1\x00\x00\x00\x042\x00\x00\x00\x04")
	row            = []byte("D\x00\x00\x00\x06\x00\x00")
	completion     = []byte("C\x00\x00\x00\x0dSELECT 1\x00Z\x00\x00\x00\x05I")
)

// A slowServer says something each time it is read from, after a while.
type slowServer struct {
	says  [][]byte
	after time.Duration
}

// Read implements io.Reader.
func (s *slowServer) Read(p []byte) (int, error) {
	time.Sleep(s.after)
	n := copy(p, s.says[0])
	s.says = s.says[1:]
	return n, nil
}

const pause = 20 * time.Millisecond

// A timed statement is one that a test sends.
type timed struct {
	*testing.T
	tap  *Tap
	mark int64
}

// begin begins a statement whose answers come one after the other, each after a pause.
func begin(t *testing.T, exact bool, answers ...[]byte) timed {
	s := timed{T: t, tap: NewTap(&slowServer{answers, pause}, io.Discard, func() bool { return false })}
	s.mark = s.tap.Mark()
	s.tap.BeginTiming(clock.Now(), exact)
	return s
}

func (s timed) write(p []byte) {
	_, err := s.tap.Write(p)
	require.NoError(s, err)
}

func (s timed) read() {
	_, err := s.tap.Read(make([]byte, 100))
	require.NoError(s, err)
}

func (s timed) end() (server, reading time.Duration) { return s.tap.Timing(s.mark, clock.Now()) }

func TestWhatWasNotSentHasNoParts(t *testing.T) {
	server, reading := begin(t, false).end()
	assert.Zero(t, server)
	assert.Zero(t, reading)
}

func TestTheServersTimeEndsWithTheFirstRowAndReadingBegins(t *testing.T) {
	s := begin(t, false, parsedAndBound, row, completion)
	s.write([]byte("B"))
	s.read()
	s.read()
	before, _ := s.end()
	s.read()
	time.Sleep(pause)
	server, reading := s.end()
	assert.GreaterOrEqual(t, server, 2*pause)
	assert.GreaterOrEqual(t, reading, 2*pause)
	assert.Equal(t, before, server)
}

func TestTheServersTimeIsThatOfAllFlights(t *testing.T) {
	s := begin(t, false, completion, row)
	s.write([]byte("P"))
	s.read()
	time.Sleep(pause) // the client's own
	began := clock.Now()
	s.write([]byte("B"))
	s.read()
	read := clock.Now()
	server, reading := s.end()
	assert.GreaterOrEqual(t, server, 2*pause)
	assert.LessOrEqual(t, server+pause, time.Duration(read-s.tap.timing.began), "without the client's own")
	assert.LessOrEqual(t, reading, time.Duration(clock.Now()-began))
}

func TestWithoutAResultAllTimeSinceTheSendingIsTheServers(t *testing.T) {
	s := begin(t, false, parsedAndBound)
	s.write([]byte("B"))
	s.read()
	time.Sleep(pause)
	server, reading := s.end()
	assert.GreaterOrEqual(t, server, 2*pause)
	assert.Zero(t, reading)
}

func TestTheTimeBeforeTheSendingIsLeftOutWhereItMatters(t *testing.T) {
	for _, c := range []struct {
		name   string
		exact  bool
		flight []byte
	}{
		{"the application's code runs before", true, []byte("B")},
		{"it is long", false, bytes.Repeat([]byte("B"), smallFlight+1)},
	} {
		s := begin(t, c.exact, completion)
		time.Sleep(pause)
		s.write(c.flight)
		s.read()
		took := time.Duration(clock.Now() - s.tap.timing.began)
		server, _ := s.end()
		assert.GreaterOrEqual(t, server, pause, c.name)
		assert.LessOrEqual(t, server+pause, took, c.name)
	}
}

// BenchmarkTiming is what the timing of a statement costs, of one flight and of two.
func BenchmarkTiming(b *testing.B) {
	for name, flights := range map[string]int{"one flight": 1, "two flights": 2} {
		b.Run(name, func(b *testing.B) {
			tap := NewTap(nil, nil, nil)
			began := clock.Now()
			b.ReportAllocs()
			for b.Loop() {
				tap.BeginTiming(began, false)
				for range flights {
					tap.timing.noteSent(100)
					tap.heardAt++
					tap.timing.noteResult('2', tap.heardAt)
					tap.timing.noteResult('D', tap.heardAt)
				}
				tap.Timing(-1, began)
			}
		})
	}
}
