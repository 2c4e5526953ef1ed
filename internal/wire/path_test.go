package wire

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
)

// endsWith is a connection whose reads and writes end with an error.
type endsWith struct{ err error }

func (e endsWith) Read([]byte) (int, error)  { return 0, e.err }
func (e endsWith) Write([]byte) (int, error) { return 0, e.err }

func TestTheSystemsTimeoutIsNoDeadlineThatHasPassed(t *testing.T) {
	conn := endsWith{&net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ETIMEDOUT)}}
	tap := NewTap(conn, conn, func() bool { return false })
	_, read := tap.Read(make([]byte, 1))
	_, write := tap.Write([]byte(message('Q', "select 1")))
	for _, err := range []error{read, write, tap.Err()} {
		assert.EqualError(t, err, "the system has given the connection up, because nothing that was sent on it was acknowledged, "+
			"nor keep-alive: read tcp: read: connection timed out")
		assert.ErrorIs(t, err, syscall.ETIMEDOUT)
		_, network := errors.AsType[net.Error](err)
		assert.False(t, network, "pgx would take it for a timeout")
	}
}
