package wire

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// serverMessage is one of the server's.
func serverMessage(kind byte, body string) []byte {
	m := binary.BigEndian.AppendUint32([]byte{kind}, uint32(4+len(body)))
	return append(m, body...)
}

// pieces reads from what is left in pieces of given sizes, and then of any.
type pieces struct {
	left  []byte
	sizes []int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.left) == 0 {
		return 0, io.EOF
	}
	n := min(len(b), len(p.left))
	if len(p.sizes) > 0 {
		n, p.sizes = min(n, p.sizes[0]), p.sizes[1:]
	}
	copy(b, p.left[:n])
	p.left = p.left[n:]
	return n, nil
}

type written struct{ flights [][]byte }

func (w *written) Write(p []byte) (int, error) {
	w.flights = append(w.flights, append([]byte(nil), p...))
	return len(p), nil
}

func TestARiderGoesInFrontOfTheNextFlightThatCanHaveOne(t *testing.T) {
	var w written
	tap := NewTap(iotest.ErrReader(io.EOF), &w, func() bool { return false })
	tap.Board(&Rider{Messages: []byte("once"), Answers: "12C"})
	tap.Board(&Rider{Messages: []byte("again"), Answers: "12C", Again: true})
	_, err := tap.Write([]byte("Qtext"))
	require.ErrorContains(t, err, "can't have")
	for _, flight := range []string{"Close", "Parse", "Close", "Bind"} {
		n, err := tap.Write([]byte(flight))
		require.NoError(t, err)
		assert.Equal(t, len(flight), n, "pgx wrote no more than that")
	}
	assert.Equal(t, []string{"Close", "onceagainParse", "Close", "againBind"}, texts(w.flights))
	went, _ := tap.GetOff()
	assert.True(t, went)

	w.flights = nil
	for _, flight := range []string{"Parse", "Query"} {
		_, err := tap.Write([]byte(flight))
		require.NoError(t, err)
	}
	assert.Equal(t, []string{"Parse", "Query"}, texts(w.flights))
	went, _ = tap.GetOff()
	assert.False(t, went)
}

func texts(flights [][]byte) (all []string) {
	for _, f := range flights {
		all = append(all, string(f))
	}
	return all
}

// brokenAfter writes so many bytes, and fails.
type brokenAfter int

func (n brokenAfter) Write(p []byte) (int, error) { return min(int(n), len(p)), errors.New("broken") }

// TestAGoodbyeInTheBackgroundDisturbsNoRider fails under the race detector if the two look at the same.
func TestAGoodbyeInTheBackgroundDisturbsNoRider(t *testing.T) {
	var w written
	tap := NewTap(iotest.ErrReader(io.EOF), &w, func() bool { return false })
	tap.Board(&Rider{Messages: []byte("once"), Answers: "12C"})
	var pgx sync.WaitGroup
	pgx.Go(func() { _, _ = tap.Write([]byte{'X', 0, 0, 0, 4}) })
	went, refused := tap.GetOff()
	pgx.Wait()
	assert.False(t, went)
	assert.Nil(t, refused)
	assert.Equal(t, []string{"X\x00\x00\x00\x04"}, texts(w.flights))
}

func TestAFlightOfWhichTheRiderWasSentInPartWasNotUnsent(t *testing.T) {
	for sent, want := range map[int]int{0: 0, 1: 1, 5: 1, 6: 1, 7: 2, 9: 4} {
		tap := NewTap(iotest.ErrReader(io.EOF), brokenAfter(sent), func() bool { return false })
		mark := tap.Mark()
		tap.Board(&Rider{Messages: []byte("rider"), Answers: "12C"})
		n, err := tap.Write([]byte("Bind"))
		require.Error(t, err)
		assert.Equal(t, want, n, "%d bytes were sent", sent)
		assert.Equal(t, sent > 0, tap.Mark() != mark)
	}
}

// TestWhatIsTheRidersIsTakenOutOfTheAnswer has a server answer a flight with a rider, in pieces of any size, with what it may
// say at any time among the answers, and with an error at any place.
func TestWhatIsTheRidersIsTakenOutOfTheAnswer(t *testing.T) {
	rapid.Check(t, checkRider)
}

func FuzzRider(f *testing.F) { f.Fuzz(rapid.MakeFuzz(checkRider)) }

func checkRider(t *rapid.T) {
	var sent, want []byte
	asynchronous := func() {
		for range rapid.IntRange(0, 2).Draw(t, "asynchronous messages") {
			m := serverMessage(rapid.SampledFrom([]byte("NSA")).Draw(t, "kind"), rapid.StringN(0, 20, 20).Draw(t, "body"))
			sent, want = append(sent, m...), append(want, m...)
		}
	}
	var riders []*Rider
	var refused *Rider
	for range rapid.IntRange(1, 4).Draw(t, "riders") {
		rider := &Rider{Messages: []byte("rider"), Answers: rapid.SampledFrom([]string{"12C", "31", "2C", "2C2C"}).Draw(t, "answers")}
		riders = append(riders, rider)
		for _, kind := range rider.Answers {
			asynchronous()
			switch {
			case refused != nil:
				continue
			case rapid.IntRange(0, 9).Draw(t, "refused") == 0:
				refused = rider
				m := serverMessage('E', "SERROR")
				sent, want = append(sent, m...), append(want, m...)
				continue
			case kind == 'C':
				for range rapid.IntRange(0, 2).Draw(t, "rows") {
					sent = append(sent, serverMessage('D', rapid.StringN(0, 20, 20).Draw(t, "row"))...)
				}
			}
			sent = append(sent, serverMessage(byte(kind), rapid.StringN(0, 8, 8).Draw(t, "body"))...)
		}
	}
	if refused == nil {
		for _, kind := range "12DDC" {
			asynchronous()
			m := serverMessage(byte(kind), rapid.StringN(0, 40, 40).Draw(t, "body of the statement's"))
			sent, want = append(sent, m...), append(want, m...)
		}
	}
	m := serverMessage('Z', "T")
	sent, want = append(sent, m...), append(want, m...)

	var w written
	tap := NewTap(&pieces{sent, rapid.SliceOf(rapid.IntRange(1, 12)).Draw(t, "pieces")}, &w, func() bool { return false })
	tap.Board(riders...)
	if _, err := tap.Write([]byte("Bind")); err != nil {
		t.Fatal(err)
	}
	var got []byte
	buffer := make([]byte, rapid.IntRange(1, 64).Draw(t, "buffer"))
	for {
		n, err := tap.Read(buffer)
		got = append(got, buffer[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil || n == 0 {
			t.Fatalf("%d bytes, %v", n, err)
		}
	}
	if string(got) != string(want) {
		t.Fatalf("got  %q\nwant %q", got, want)
	}
	if really := tap.RiderRefused(); really != refused {
		t.Fatalf("refused: %v, want %v", really, refused)
	}
	if tap.rides.taking.Load() != nil {
		t.Fatal("something more would be taken out")
	}
}
