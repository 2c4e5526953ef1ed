// Package wire is between pgx and the network connection. A Tap knows whether anything of a statement was written and how
// the server's answer began, and has riders travel in front of a statement. A Probe knows whether the server has closed an
// idle connection.
//
//	wire.go    Tap: what was written and what was heard
//	time.go    how long the server takes to answer
//	watch.go   whether it says anything, for those who look from outside; the end of a connection whose server says nothing
//	rider.go   what travels in front of a statement
//	probe_*.go Probe, and peek_*.go the system calls it makes
//	path*.go   whether what was sent is acknowledged
//	dialled.go a connection that the application's dial function has made
//	pump.go    a connection without a socket
package wire

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"sync/atomic"
)

// A Tap sits between pgx's message buffers and the connection, above TLS, so that it sees the protocol in the clear. pgx
// reads and writes through it, from one goroutine at a time each way. Methods say where others may be called concurrently.
//
// It answers six questions:
//
//   - Was anything written since Mark? If not, the server can't have run the statement, and it may be sent on another
//     connection. The promise that no statement runs twice depends on this.
//   - Was anything executed? A flight that only prepares a statement is written, and yet nothing can have happened. And has a
//     statement's completion come? See Executions and Completed.
//   - Was a statement refused before it was executed? Then it may be sent again, see Refused.
//   - What ended the connection? When the reply to a simple query is lost pgx forgets the reason, and says "conn closed";
//     Err still has it.
//   - How long did the server take to answer, and how long was its answer read? See Timing.
//   - Does the server say anything at all? See Listen.
type Tap struct {
	r      io.Reader
	w      io.Writer
	secure bool        // when a Write fails with n == 0, a part may have been sent nevertheless, see mayHide
	late   func() bool // called when a read has run into its deadline: whether to read once more

	writes   atomic.Int64          // how many writes have reached the connection, at least in part
	runs     atomic.Int64          // how many of them have the server execute something
	answered atomic.Int64          // the value of writes when the server last said ReadyForQuery
	sent     atomic.Uint32         // the type of the first message of the latest write
	failure  atomic.Pointer[error] // the first error of a read or a write; nil: none
	outside  outside               // what other goroutines want of it

	ahead [][]byte // flights that were sent before pgx writes them; used by the goroutine that makes pgx write
	rides rides    // what travels in front of statements

	timing timing // where the time goes

	// The fields below are used by the goroutine that reads, and by no other.

	message   partial // the message that is being read
	completed int64   // the value of writes when a statement's completion last came
	heardAt   int64   // the value of writes when bytes last came from the server
	refused   bool    // the answer to that write began with an error
}

var _ io.ReadWriter = (*Tap)(nil)

// partial is how far a message was read. A message may be cut anywhere between two reads.
type partial struct {
	header [headerSize]byte // its type and its length
	got    int              // how many bytes of the header have been read
	body   int              // how many bytes of the message are left behind the header
}

// headerSize is the size in bytes of what each message begins with: 1 for its type, 4 for its length without the type.
const headerSize = 5

// NewTap returns a Tap in front of r and w. When a read of r has run into its deadline, the Tap calls late, in the reading
// goroutine. If late reports true (it has set another deadline) the Tap reads once more.
func NewTap(r io.Reader, w io.Writer, late func() bool) *Tap {
	return &Tap{r: r, w: w, secure: mayHide(w), late: late}
}

// Read implements io.Reader. It notes what the server says, and the first error.
func (t *Tap) Read(p []byte) (int, error) {
	n, err := t.read(p)
	for n > 0 {
		if n = t.rides.take(p[:n]); n > 0 || err != nil {
			break
		}
		n, err = t.read(p) // all of it was riders' answers, and a Read that returns nothing would be taken for a mistake
	}
	if n > 0 {
		t.heard(p[:n])
	}
	switch {
	case err != nil:
		err = t.orSevered(orGivenUp(err))
		t.noteFailure(err)
	case t.failure.Load() != nil:
		t.forgetDeadline()
	}
	return n, err
}

// read reads once, and once more if late says so.
func (t *Tap) read(p []byte) (int, error) {
	if err := t.Severed(); err != nil {
		return 0, err
	}
	n, err := t.r.Read(p)
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) && t.Severed() == nil && t.late() {
		n, err = t.r.Read(p)
	}
	if t.outside.listens.Load() && n > 0 { // to store is dearer than to look
		t.outside.listens.Store(false)
	}
	return n, err
}

// heard is called with the bytes of each read. The first bytes after a write tell whether its answer begins with an error.
// The types of the messages tell what the server has completed.
func (t *Tap) heard(p []byte) {
	if writes := t.writes.Load(); writes != t.heardAt {
		t.heardAt, t.refused = writes, beginsWithError(p)
	}
	m := &t.message
	for len(p) > 0 {
		switch {
		case m.body > 0:
			n := min(m.body, len(p))
			m.body, p = m.body-n, p[n:]
		case m.got == 0 && len(p) >= headerSize:
			t.begins(p[0])
			m.body, p = bodySize(p[1:]), p[headerSize:]
		default:
			n := copy(m.header[m.got:], p)
			m.got, p = m.got+n, p[n:]
			if m.got == headerSize {
				t.begins(m.header[0])
				m.body, m.got = bodySize(m.header[1:]), 0
			}
		}
	}
}

// begins is called with the type of each message.
func (t *Tap) begins(kind byte) {
	if t.timing.cameTo != t.heardAt {
		t.timing.noteResult(kind, t.heardAt)
	}
	switch kind {
	case complete:
		t.completed = t.writes.Load()
	case ready:
		t.answered.Store(t.writes.Load())
	}
}

// bodySize returns how many bytes of a message follow its length, which length begins with.
func bodySize(length []byte) int { return max(0, int(int32(binary.BigEndian.Uint32(length)))-4) }

// Completed reports whether a statement of the latest write was completed. It says nothing of the transaction: by the
// extended protocol the server commits after the completion, and says so by ReadyForQuery. Call it from the goroutine that
// reads.
func (t *Tap) Completed() bool { return t.completed == t.writes.Load() }

// Committed reports whether the completion of the latest write's statement, outside of a transaction, shows that it is committed:
// by the simple protocol the server commits before it sends the completion, and by the extended protocol when it reads the Sync
// behind it. Call it from the goroutine that reads.
func (t *Tap) Committed() bool {
	sent := t.sent.Load()
	return t.Completed() && sent != parse && sent != bind
}

// Answered reports whether the server has said that it is ready for the next query since the latest write. Where several
// statements are under way it is true after the first answer. It is safe for concurrent use.
func (t *Tap) Answered() bool { return t.answered.Load() == t.writes.Load() }

// Write implements io.Writer. A Terminate message that is written alone is not counted: pgx writes it, from a goroutine of
// its own, when a connection has failed. At that time Mark is used to find out whether the failed statement was sent, and
// the riders are those of the goroutine that has sent it.
func (t *Tap) Write(p []byte) (n int, err error) {
	if err := t.Severed(); err != nil {
		t.noteFailure(err)
		return 0, err
	}
	if len(p) > smallFlight { // a smaller one is over at once
		t.outside.writing.Store(true)
		defer t.outside.writing.Store(false)
	}
	goodbye := isTerminate(p)
	switch {
	case goodbye:
		n, err = t.w.Write(p)
	case len(t.ahead) > 0:
		return t.takeIn(p)
	default:
		n, err = t.writeFlight(p)
	}
	if (n > 0 || t.secure) && !goodbye {
		if kind := uint32(p[0]); t.sent.Load() != kind { // mostly it is the same, and a load is cheaper than a store
			t.sent.Store(kind)
		}
		t.timing.noteSent(len(p))
		t.writes.Add(1)
		if executes(p) {
			t.runs.Add(1)
		}
	}
	if err != nil {
		err = t.orSevered(orGivenUp(err))
		t.noteFailure(err)
	}
	return n, err
}

// executes reports whether one of these messages makes the server execute something. Messages that prepare or describe a
// statement, bind its arguments, or close it don't.
func executes(p []byte) bool {
	for len(p) >= headerSize {
		switch p[0] {
		case parse, bind, describe, closing, flush, syncing:
		default:
			return true
		}
		p = p[min(len(p), headerSize+bodySize(p[1:])):]
	}
	return len(p) > 0
}

// noteFailure keeps the first error; later ones mostly follow from it.
func (t *Tap) noteFailure(err error) { t.failure.CompareAndSwap(nil, &err) }

// forgetDeadline is called when a read has succeeded after an error. If the error was a deadline, it has not ended the
// connection.
func (t *Tap) forgetDeadline() {
	if err := t.failure.Load(); errors.Is(*err, os.ErrDeadlineExceeded) {
		t.failure.CompareAndSwap(err, nil)
	}
}

// Mark returns a value that changes with every write that has reached the connection, if only in part. Two equal marks mean
// that nothing was sent in between. It is safe for concurrent use.
func (t *Tap) Mark() int64 { return t.writes.Load() }

// Executions returns a value that changes with every write that has reached the connection, if only in part, and makes the
// server execute a statement of pgx's. Two equal values mean that the server can't have executed any in between. It is safe for
// concurrent use.
func (t *Tap) Executions() int64 { return t.runs.Load() }

// Refused reports whether the latest write was a statement of the extended protocol (it begins with Parse or Bind) whose
// answer began with an error, in place of BindComplete. The server has then executed nothing of it.
//
// Call it from the goroutine that reads, when the answer is complete. It judges by the bytes of the first read after the
// write: if the error came in a later read the result is false.
func (t *Tap) Refused() bool {
	sent := t.sent.Load()
	return t.refused && t.heardAt == t.writes.Load() && (sent == parse || sent == bind)
}

// beginsWithError reports whether the first message of an answer is an error. It skips ParseComplete, and what the server
// may send at any time: notices, changed settings and notifications.
func beginsWithError(answer []byte) bool {
	for len(answer) > headerSize {
		switch answer[0] {
		case 'E':
			// PostgreSQL's errors begin with the field S, the severity. Without it this is no error, but the middle of a
			// message.
			return answer[headerSize] == 'S'
		case 'N', 'S', 'A', '1':
			next := 1 + uint64(binary.BigEndian.Uint32(answer[1:]))
			if next > uint64(len(answer)) {
				return false
			}
			answer = answer[next:]
		default:
			return false
		}
	}
	return false
}

// Err returns the first error of the connection, as the network or TLS gave it, or nil. A deadline that was followed by a
// successful read isn't kept. It is safe for concurrent use.
func (t *Tap) Err() error {
	if err := t.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// isTerminate reports whether a write is one Terminate message and nothing else.
func isTerminate(p []byte) bool {
	return len(p) == 5 && p[0] == 'X' && p[1] == 0 && p[2] == 0 && p[3] == 0 && p[4] == 4
}

// State is what a Probe found out about a connection.
type State int

const (
	// Silent: nothing waits to be read, and as far as this host knows the connection is up.
	Silent State = iota
	// Pending: bytes from the server wait to be read, though no statement is under way: a notice, a changed setting, or
	// the error that announces the end of the session. Only a read can tell which.
	Pending
	// Dead: the other end has closed the connection, or what waits to be read is an error or a TLS alert.
	Dead
	// Unknown: this platform, or this kind of net.Conn, doesn't allow to look without reading.
	Unknown
)

// judge returns what the first byte that waits on an idle connection means. With TLS all but the type of the record is
// encrypted: an error can't be told from a notice there.
func judge(first byte, secure bool) State {
	const (
		errorResponse = 'E'  // the type of the message in which PostgreSQL says why it closes the connection
		tlsAlert      = 0x15 // the type of a TLS record: close_notify, or an error of TLS
	)
	if (secure && first == tlsAlert) || (!secure && first == errorResponse) {
		return Dead
	}
	return Pending
}
