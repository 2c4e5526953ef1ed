package faulttest

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest/loopback"
)

// lateServer answers the first question only when it has been asked to cancel it, as a server does whose signal comes too
// late, and lets that signal hit the next one. No real server can be made to do so on demand.
type lateServer struct {
	listener  net.Listener
	cancelled chan struct{} // closed by the first cancel request
	once      sync.Once
	questions atomic.Int32
	wg        sync.WaitGroup
}

func startLateServer(t *testing.T) *lateServer {
	listener, err := loopback.Listen()
	require.NoError(t, err)
	s := &lateServer{listener: listener, cancelled: make(chan struct{})}
	s.wg.Go(func() { // ends when the listener is closed
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { defer conn.Close(); s.serve(pgproto3.NewBackend(conn, conn)) }) // ends when the client leaves
		}
	})
	t.Cleanup(func() { _ = listener.Close(); s.wg.Wait() })
	return s
}

func (s *lateServer) serve(b *pgproto3.Backend) {
	switch m, err := b.ReceiveStartupMessage(); m.(type) {
	case *pgproto3.CancelRequest:
		s.once.Do(func() { close(s.cancelled) })
		return
	default:
		if err != nil {
			return
		}
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"})
	b.Send(&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"})
	b.Send(&pgproto3.BackendKeyData{ProcessID: 7, SecretKey: []byte{1, 2, 3, 4}})
	for {
		b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		if b.Flush() != nil {
			return
		}
		m, err := b.Receive()
		if _, asks := m.(*pgproto3.Query); err != nil || !asks {
			return
		}
		s.answer(b)
	}
}

func (s *lateServer) answer(b *pgproto3.Backend) {
	switch s.questions.Add(1) {
	case 1:
		<-s.cancelled
	case 2:
		b.Send(&pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: "57014", Message: "canceling statement"})
		return
	}
	b.Send(&pgproto3.CommandComplete{CommandTag: []byte("INSERT 0 1")})
}

func TestACancelThatComesAfterThePingItWasForHitsNoStatement(t *testing.T) {
	t.Parallel()
	s := startLateServer(t)
	db := openPool(t, fmt.Sprintf("postgres://u@%s/d?sslmode=disable&preflight=off&default_query_exec_mode=simple_protocol&pool_size=1&max_overflow=0",
		s.listener.Addr()))
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_ = conn.PingContext(ctx)
	_, err = conn.ExecContext(t.Context(), "insert into t values (1)")
	require.NoError(t, err)
	assert.EqualValues(t, 4, s.questions.Load(), "another ping took the blow, and was repeated")
}
