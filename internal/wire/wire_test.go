package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func newTap(r string, w io.Writer) *Tap {
	return NewTap(strings.NewReader(r), w, func() bool { return false })
}

func TestAMarkChangesWithWhatWasWritten(t *testing.T) {
	tap := newTap("", io.Discard)
	before := tap.Mark()
	_, err := tap.Write([]byte("Q"))
	require.NoError(t, err)
	assert.NotEqual(t, before, tap.Mark())
}

func TestAMarkStaysWhereNothingGotOut(t *testing.T) {
	broken := errors.New("broken pipe")
	tap := newTap("", writerFunc(func([]byte) (int, error) { return 0, broken }))
	before := tap.Mark()
	_, err := tap.Write([]byte("Q"))
	require.ErrorIs(t, err, broken)
	assert.Equal(t, before, tap.Mark())
	assert.Equal(t, broken, tap.Err())
}

func TestPartOfAMessageCounts(t *testing.T) {
	tap := newTap("", writerFunc(func(p []byte) (int, error) { return 1, io.ErrShortWrite }))
	before := tap.Mark()
	_, _ = tap.Write([]byte("Query"))
	assert.NotEqual(t, before, tap.Mark())
}

func TestPgxsFarewellDoesNotCount(t *testing.T) {
	tap := newTap("", io.Discard)
	before := tap.Mark()
	_, _ = tap.Write([]byte{'X', 0, 0, 0, 4})
	assert.Equal(t, before, tap.Mark())
}

// TestPgxsFarewellLeavesTheRidersAlone fails under the race detector only: pgx writes it from a goroutine of its own.
func TestPgxsFarewellLeavesTheRidersAlone(t *testing.T) {
	tap := newTap("", io.Discard)
	var farewell sync.WaitGroup
	farewell.Go(func() { _, _ = tap.Write([]byte{'X', 0, 0, 0, 4}) })
	tap.Board(&Rider{Messages: []byte("P"), Answers: "1"})
	went, refused := tap.GetOff()
	farewell.Wait()
	assert.False(t, went)
	assert.Nil(t, refused)
}

func TestTheFirstFailureIsKept(t *testing.T) {
	tap := newTap("a", writerFunc(func([]byte) (int, error) { return 0, io.ErrClosedPipe }))
	buf := make([]byte, 1)
	_, err := tap.Read(buf)
	require.NoError(t, err)
	assert.NoError(t, tap.Err())
	_, _ = tap.Read(buf)
	_, _ = tap.Write(buf)
	assert.Equal(t, io.EOF, tap.Err())
}

func TestAReaderWhoComesAfterTheDeadlineGetsWhatIsThere(t *testing.T) {
	client, server := connected(t, "tcp", "127.0.0.1:0")
	asked := 0
	tap := NewTap(client, client, func() bool {
		asked++
		_ = client.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		return true
	})
	_, err := server.Write([]byte("E"))
	require.NoError(t, err)
	require.NoError(t, client.SetReadDeadline(time.Now()))
	buf := make([]byte, 8)
	n, err := tap.Read(buf)
	require.NoError(t, err)
	assert.Equal(t, "E", string(buf[:n]))
	_, err = tap.Read(buf)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	assert.Equal(t, 2, asked, "once for each read")
}

func TestADeadlineThatTheConnectionOutlivesIsNotItsEnd(t *testing.T) {
	client, server := connected(t, "tcp", "127.0.0.1:0")
	tap := NewTap(client, client, func() bool { return false })
	buf := make([]byte, 1)
	require.NoError(t, client.SetReadDeadline(time.Now()))
	_, err := tap.Read(buf)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.ErrorIs(t, tap.Err(), os.ErrDeadlineExceeded)
	require.NoError(t, client.SetReadDeadline(time.Time{}))
	_, err = server.Write([]byte("ZZ"))
	require.NoError(t, err)
	_, err = tap.Read(buf)
	require.NoError(t, err)
	require.NoError(t, tap.Err())
}

// connected returns both ends of a real connection.
func connected(t *testing.T, network, addr string) (client, server net.Conn) {
	l, err := net.Listen(network, addr)
	require.NoError(t, err)
	defer l.Close()
	client, err = net.Dial(network, l.Addr().String())
	require.NoError(t, err)
	server, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func TestAProbeSeesWithoutReading(t *testing.T) {
	for network, addr := range map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(t.TempDir(), "s")} {
		t.Run(network, func(t *testing.T) {
			client, server := connected(t, network, addr)
			p := NewProbe(client)
			assert.Equal(t, Silent, p.Peek())

			_, err := server.Write([]byte{'N', 1})
			require.NoError(t, err)
			require.Eventually(t, func() bool { return p.Peek() == Pending }, 5*time.Second, time.Millisecond)
			buf := make([]byte, 2)
			_, err = io.ReadFull(client, buf)
			require.NoError(t, err)
			assert.Equal(t, []byte{'N', 1}, buf, "nothing was taken")
			assert.Equal(t, Silent, p.Peek())

			_, err = server.Write([]byte{'E'})
			require.NoError(t, err)
			require.Eventually(t, func() bool { return p.Peek() == Dead }, 5*time.Second, time.Millisecond, "last words")
			_, err = io.ReadFull(client, buf[:1])
			require.NoError(t, err)

			require.NoError(t, server.Close())
			require.Eventually(t, func() bool { return p.Peek() == Dead }, 5*time.Second, time.Millisecond, "hung up")
			assert.Zero(t, testing.AllocsPerRun(100, func() { p.Peek() }))

			require.NoError(t, client.Close())
			assert.Equal(t, Dead, p.Peek())
		})
	}
}

func TestAProbeKnowsTLSOnlyByItsRecords(t *testing.T) {
	assert.Equal(t, Dead, judge(0x15, true), "an alert")
	assert.Equal(t, Pending, judge('E', true))
	assert.Equal(t, Pending, judge(0x15, false))
}

func TestAProbeOfSomethingElseKnowsNothing(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	assert.Equal(t, Unknown, NewProbe(a).Peek())
}

// message is one of the server's, or one's own.
func message(kind byte, body string) string {
	return string(kind) + string(binary.BigEndian.AppendUint32(nil, uint32(4+len(body)))) + body
}

func TestAStatementIsRefusedIfItsAnswerBeginsWithAnError(t *testing.T) {
	var (
		refusal  = message('E', "SERROR\x00C0A000\x00Mno\x00\x00") + message('Z', "I")
		bound    = message('2', "")
		parsed   = message('1', "")
		notice   = message('N', "SNOTICE\x00MEE\x00\x00")
		setting  = message('S', "TimeZone\x00UTC\x00")
		notified = message('A', "\x00\x00\x00\x01jobs\x00\x00")
	)
	for _, c := range []struct {
		name, sent, answer string
		want               bool
	}{
		{"in place of BindComplete", "B", refusal, true},
		{"in place of ParseComplete", "P", refusal, true},
		{"after ParseComplete", "P", parsed + refusal, true},
		{"after what may come at any time", "B", notice + setting + notified + refusal, true},
		{"after BindComplete", "B", bound + refusal, false},
		{"after BindComplete, too", "P", parsed + bound + refusal, false},
		{"not at all", "B", bound + message('C', "SELECT 1\x00") + message('Z', "I"), false},
		{"by the simple protocol, where it says nothing", "Q", refusal, false},
		{"in a copy", "d", refusal, false},
		{"behind what is not read yet", "B", notice[:9], false},
		{"in what is too short to tell", "B", refusal[:5], false},
		{"in the rest of a message that seems to be one", "B", "E, or so it says", false},
		{"a length that makes no sense", "B", "N\xff\xff\xff\xff" + refusal, false},
	} {
		tap := newTap(c.answer, io.Discard)
		assert.False(t, tap.Refused(), c.name)
		_, err := tap.Write([]byte(message(c.sent[0], "")))
		require.NoError(t, err)
		assert.False(t, tap.Refused(), "%s: not answered yet", c.name)
		_, err = tap.Read(make([]byte, 8192))
		require.NoError(t, err)
		assert.Equal(t, c.want, tap.Refused(), c.name)
		_, _ = tap.Write([]byte(message('B', "")))
		assert.False(t, tap.Refused(), "%s: of the last statement, and not of this one", c.name)
	}
}

func TestOnlyTheBeginningOfAnAnswerTells(t *testing.T) {
	refusal := message('E', "SERROR\x00C0A000\x00Mno\x00\x00")
	tap := newTap(message('2', "")+refusal, io.Discard)
	_, _ = tap.Write([]byte(message('B', "")))
	_, _ = tap.Read(make([]byte, 5))
	_, err := tap.Read(make([]byte, 8192))
	require.NoError(t, err)
	assert.False(t, tap.Refused())
}

func TestWhatAnAnswerSaysIsSeenHoweverItIsCutIntoReads(t *testing.T) {
	message := func(kind byte, body string) string {
		return string(kind) + string(binary.BigEndian.AppendUint32(nil, uint32(4+len(body)))) + body
	}
	row := message('D', "\x00\x01\x00\x00\x00\x06CZ\x00\x00\x00\x05") // looks like the ends of others
	for name, c := range map[string]struct {
		answer              string
		completed, answered bool
	}{
		"complete":      {message('2', "") + row + message('C', "SELECT 1\x00") + message('Z', "I"), true, true},
		"not committed": {message('2', "") + message('C', "INSERT 0 1\x00") + message('E', "SFATAL\x00\x00"), true, false},
		"ended instead": {message('2', "") + row + message('E', "SFATAL\x00\x00"), false, false},
		"refused":       {message('E', "SERROR\x00\x00") + message('Z', "E"), false, true},
		"nothing":       {"", false, false},
		"half a header": {message('2', "") + "C\x00\x00", false, false},
	} {
		for size := 1; size <= len(c.answer)+1; size++ {
			var sent bytes.Buffer
			tap := NewTap(inPieces(c.answer, size), &sent, func() bool { return false })
			_, err := tap.Write([]byte(message('Q', "select\x00")))
			require.NoError(t, err)
			_, err = io.ReadAll(tap)
			require.NoError(t, err)
			assert.Equal(t, c.completed, tap.Completed(), "%s in reads of %d", name, size)
			assert.Equal(t, c.answered, tap.Answered(), "%s in reads of %d", name, size)
			_, err = tap.Write([]byte(message('Q', "select\x00")))
			require.NoError(t, err)
			assert.False(t, tap.Completed() || tap.Answered(), "the next one isn't")
		}
	}
}

// inPieces returns a reader that returns so many bytes at a time.
func inPieces(text string, size int) io.Reader {
	var all []io.Reader
	for text != "" {
		n := min(size, len(text))
		all, text = append(all, strings.NewReader(text[:n])), text[n:]
	}
	return io.MultiReader(all...)
}

func TestOnlyAFlightThatExecutesIsAnExecution(t *testing.T) {
	encode := func(messages ...pgproto3.FrontendMessage) (flight []byte) {
		for _, m := range messages {
			var err error
			flight, err = m.Encode(flight)
			require.NoError(t, err)
		}
		return flight
	}
	parse, sync := &pgproto3.Parse{Name: "a", Query: "select $1"}, &pgproto3.Sync{}
	bind, describe := &pgproto3.Bind{PreparedStatement: "a", Parameters: [][]byte{[]byte("E")}}, &pgproto3.Describe{ObjectType: 'S', Name: "a"}
	for name, c := range map[string]struct {
		flight []byte
		want   int64
	}{
		"prepare":      {encode(parse, describe, sync), 0},
		"deallocate":   {encode(&pgproto3.Close{ObjectType: 'S', Name: "a"}, &pgproto3.Flush{}, sync), 0},
		"execute":      {encode(bind, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, sync), 1},
		"all in one":   {encode(parse, bind, &pgproto3.Execute{}, sync), 1},
		"simple":       {encode(&pgproto3.Query{String: "select"}), 1},
		"rows of COPY": {encode(&pgproto3.CopyData{Data: []byte("x")}), 1},
		"farewell":     {encode(&pgproto3.Terminate{}), 0},
	} {
		tap := NewTap(strings.NewReader(""), io.Discard, func() bool { return false })
		_, err := tap.Write(c.flight)
		require.NoError(t, err)
		assert.Equal(t, c.want, tap.Executions(), name)
	}
}
