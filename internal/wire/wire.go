// Package wire looks at the network connection below pgx without touching it: what of a statement has been
// written, and whether the server has hung up.
package wire

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
)

// A Tap sits between pgx's message buffers and the connection, above TLS, so that it sees the protocol in the clear.
//
// It answers three questions. Was a byte written since Mark? The promise that no statement runs twice hangs on that. Was
// a statement refused before it was executed? Then it may be sent again, see Refused. And what ended the connection? pgx
// forgets the reason when the reply to a simple query is lost, and says "conn closed".
type Tap struct {
	r       io.Reader
	w       io.Writer
	secure  bool // a TLS record may be half sent when its Write fails with n == 0
	late    func() bool
	written atomic.Int64
	sent    atomic.Uint32 // the kind of the first message that was written last
	failure atomic.Pointer[error]

	answered atomic.Int64 // written, when the server's last word was ReadyForQuery

	// What follows belongs to whoever reads, which is one goroutine at a time.
	tail    [readySize]byte // the last bytes that were read
	heardOf int64           // what written was when the server was last heard
	refused bool            // the answer to it began with an error
}

// readySize is the size of ReadyForQuery: its type, its length and the state of the transaction.
const readySize = 6

// NewTap returns a Tap in front of r and w. When a read has run into its deadline late is asked whether to try it once
// more.
func NewTap(r io.Reader, w io.Writer, late func() bool) *Tap {
	_, secure := w.(*tls.Conn)
	return &Tap{r: r, w: w, secure: secure, late: late}
}

// Read implements io.Reader.
func (t *Tap) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) && t.late() {
		n, err = t.r.Read(p)
	}
	if n > 0 {
		t.heard(p[:n])
	}
	switch {
	case err != nil:
		t.fail(err)
	case t.failure.Load() != nil:
		t.revive()
	}
	return n, err
}

// heard looks whether an answer begins with an error, and whether the server's last word is ReadyForQuery, which it says
// when it has answered all that was sent.
func (t *Tap) heard(p []byte) {
	if mark := t.written.Load(); mark != t.heardOf {
		t.heardOf, t.refused = mark, beginsWithError(p)
	}
	if n := len(p); n < readySize {
		copy(t.tail[:], t.tail[n:])
		copy(t.tail[readySize-n:], p)
	} else {
		copy(t.tail[:], p[n-readySize:])
	}
	if t.tail[0] == 'Z' && binary.BigEndian.Uint32(t.tail[1:]) == readySize-1 {
		t.answered.Store(t.written.Load())
	}
}

// Quiet reports whether the server has answered all that was written. It is safe for concurrent use.
//
// It looks at the end of what was read and not at each message: the end of a row can pass for ReadyForQuery, and of
// several answers that are under way the first counts. Whoever asks must have another reason to believe that nothing is
// under way.
func (t *Tap) Quiet() bool { return t.answered.Load() == t.written.Load() }

// Write implements io.Writer. pgx's farewell (a lone Terminate) is not counted: pgx writes it from a goroutine of its
// own when a connection has failed, at a time when the caller is asking whether the failed statement got out.
func (t *Tap) Write(p []byte) (int, error) {
	n, err := t.w.Write(p)
	if (n > 0 || t.secure) && !isTerminate(p) {
		if kind := uint32(p[0]); t.sent.Load() != kind { // a store costs more than a load
			t.sent.Store(kind)
		}
		t.written.Add(1)
	}
	if err != nil {
		t.fail(err)
	}
	return n, err
}

func (t *Tap) fail(err error) { t.failure.CompareAndSwap(nil, &err) }

// revive forgets a deadline that the connection has outlived.
func (t *Tap) revive() {
	if err := t.failure.Load(); errors.Is(*err, os.ErrDeadlineExceeded) {
		t.failure.CompareAndSwap(err, nil)
	}
}

// Mark returns a value that changes with every write that reached the connection. It is safe for concurrent use.
func (t *Tap) Mark() int64 { return t.written.Load() }

// Refused reports whether what was written last was a statement of the extended protocol, and the server answered it
// with an error before anything else: in place of BindComplete, so that it executed nothing of it. Only the goroutine
// that reads may ask, when the answer is complete. It is false where the first piece that was read of the answer
// doesn't tell.
func (t *Tap) Refused() bool {
	const parse, bind = 'P', 'B'
	sent := t.sent.Load()
	return t.refused && t.heardOf == t.written.Load() && (sent == parse || sent == bind)
}

// beginsWithError reports whether an error comes first in an answer, but for what the server may say at any time
// (notices, changed settings, notifications) and that it has parsed the statement.
func beginsWithError(answer []byte) bool {
	const header = 5 // the kind, and the length of the message without the kind
	for len(answer) > header {
		switch answer[0] {
		case 'E':
			return answer[header] == 'S' // the severity, which PostgreSQL says first: no byte in the middle of a message
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

// Err returns the first error of the connection, or nil. It is safe for concurrent use.
func (t *Tap) Err() error {
	if err := t.failure.Load(); err != nil {
		return *err
	}
	return nil
}

func isTerminate(p []byte) bool {
	return len(p) == 5 && p[0] == 'X' && p[1] == 0 && p[2] == 0 && p[3] == 0 && p[4] == 4
}

// State is what a Probe found.
type State int

const (
	// Quiet: the connection is up as far as this host knows, and nothing is waiting to be read.
	Quiet State = iota
	// Pending: the server has sent something while nobody was asking: a notice, a changed setting, or a goodbye.
	Pending
	// Dead: the server has closed the connection, or its last words are an error.
	Dead
	// Unknown: this platform or this kind of connection can't be looked at without reading.
	Unknown
)

// rawConn returns the socket below c, or nil where there is none.
func rawConn(c net.Conn) net.Conn {
	if t, ok := c.(*tls.Conn); ok {
		return t.NetConn()
	}
	return c
}

// judge tells what the first byte that waits on an idle connection means.
func judge(first byte, secure bool) State {
	const (
		errorResponse = 'E'  // PostgreSQL says why it is about to hang up
		tlsAlert      = 0x15 // close_notify, or worse
	)
	if (secure && first == tlsAlert) || (!secure && first == errorResponse) {
		return Dead
	}
	return Pending
}
