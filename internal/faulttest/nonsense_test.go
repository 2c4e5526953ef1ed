package faulttest

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pgprod/pgprod/internal/pgtest/loopback"
)

// nonsense is what a fake server does, by the bits of a number so that a fuzzer can choose.
type nonsense uint8

func (n nonsense) loggedIn() bool  { return n&1 == 0 } // it greets like a server and talks nonsense afterwards
func (n nonsense) hangsUp() bool   { return n&6 != 6 } // after it has spoken; otherwise it is silent from then on
func (n nonsense) again() bool     { return n&8 != 0 } // it says the same to whatever the client says next
func (n nonsense) statement() uint { return uint(n) >> 4 }

// A talker is a fake server.
type talker struct {
	listener net.Listener
	nonsense nonsense
	text     []byte
	wg       sync.WaitGroup

	mu    sync.Mutex // guards conns
	conns []net.Conn
}

func startTalker(t *testing.T, n nonsense, text []byte) *talker {
	t.Helper()
	listener, err := loopback.Listen()
	require.NoError(t, err)
	s := &talker{listener: listener, nonsense: n, text: text}
	s.wg.Go(s.accept) // ends with close
	return s
}

func (s *talker) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns = append(s.conns, conn)
		s.mu.Unlock()
		s.wg.Go(func() { s.talk(conn) }) // ends with its connection, which the client or close ends
	}
}

func (s *talker) talk(conn net.Conn) {
	defer conn.Close()
	buffer := make([]byte, 4096)
	if _, err := conn.Read(buffer); err != nil { // the startup message, in one piece because it is small
		return
	}
	if s.nonsense.loggedIn() {
		_, _ = conn.Write(greeting)
		if _, err := conn.Read(buffer); err != nil {
			return
		}
	}
	for once := true; once || s.nonsense.again(); once = false {
		if _, err := conn.Write(s.text); err != nil {
			return
		}
		if s.nonsense.again() {
			if _, err := conn.Read(buffer); err != nil {
				return
			}
		}
	}
	if !s.nonsense.hangsUp() {
		_, _ = io.Copy(io.Discard, conn)
	}
}

func (s *talker) close() {
	_ = s.listener.Close()
	s.mu.Lock()
	for _, conn := range s.conns {
		_ = conn.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// encode makes the bytes of messages.
func encode(messages ...pgproto3.BackendMessage) (raw []byte) {
	for _, m := range messages {
		var err error
		if raw, err = m.Encode(raw); err != nil {
			panic(err)
		}
	}
	return raw
}

var (
	ready    = &pgproto3.ReadyForQuery{TxStatus: 'I'}
	greeting = encode(&pgproto3.AuthenticationOk{}, &pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"},
		&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"},
		&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{1, 2, 3, 4}}, ready)
)

// column describes one of a type.
func column(oid uint32, format int16) *pgproto3.RowDescription {
	return &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{
		{Name: []byte("c"), DataTypeOID: oid, DataTypeSize: -1, TypeModifier: -1, Format: format}}}
}

func row(values ...[]byte) *pgproto3.DataRow { return &pgproto3.DataRow{Values: values} }

var done = &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}

// sayings are replies that no sane server gives, and some that it does.
var sayings = [][]byte{
	nil,
	{0},
	[]byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
	[]byte("E\x00\x00\x00\x00"),
	[]byte("R\xff\xff\xff\xff"),
	[]byte("D\x00\x00\x00\x06\xff\xff"),
	[]byte("T\x00\x00\x00\x06\xff\xff"),
	[]byte("Z\x00\x00\x00\x05I"),
	[]byte("D\x00\xff\xff\xff"), // 16 MB are announced
	[]byte("S"),
	[]byte("N\x00\x00\x00\x05\x00"),
	greeting,
	encode(column(23, 0), row([]byte("1")), done, ready),
	encode(column(23, 1), row([]byte{1}), done, ready),
	encode(column(1184, 1), row([]byte{1, 2, 3}), done, ready),
	encode(column(1184, 0), row([]byte("when")), done, ready),
	encode(column(16, 1), row([]byte{}), done, ready),
	encode(column(17, 0), row([]byte(`\xzz`)), done, ready),
	encode(column(1700, 1), row([]byte{0, 1}), done, ready),
	encode(column(23, 0), row(), done, ready),
	encode(column(23, 0), row([]byte("1"), []byte("2")), done, ready),
	encode(row([]byte("1")), done, ready),
	encode(column(23, 7), row([]byte("1")), done, ready),
	encode(done, ready),
	encode(done, done, done),
	encode(&pgproto3.ReadyForQuery{TxStatus: '?'}),
	encode(&pgproto3.ReadyForQuery{TxStatus: 'E'}),
	encode(&pgproto3.ParseComplete{}, &pgproto3.ParameterDescription{ParameterOIDs: []uint32{23, 23, 23}}, column(23, 0), ready),
	encode(&pgproto3.ParseComplete{}, &pgproto3.ParameterDescription{}, &pgproto3.NoData{}, ready),
	encode(&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, column(23, 0), row(nil), done, ready),
	encode(&pgproto3.BindComplete{}, &pgproto3.PortalSuspended{}, ready),
	encode(&pgproto3.CopyInResponse{OverallFormat: 0, ColumnFormatCodes: []uint16{0}}),
	encode(&pgproto3.CopyOutResponse{OverallFormat: 0, ColumnFormatCodes: []uint16{0}}, &pgproto3.CopyData{Data: []byte("x")}),
	encode(&pgproto3.CopyBothResponse{}),
	encode(&pgproto3.EmptyQueryResponse{}, ready),
	encode(&pgproto3.FunctionCallResponse{Result: []byte("x")}, ready),
	encode(&pgproto3.NotificationResponse{PID: 1, Channel: "c", Payload: "p"}, ready),
	encode(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "", Message: "x"}),
	encode(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "57014", Message: "statement timeout"}, ready),
	encode(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P01", Message: "x"}, ready),
	encode(&pgproto3.AuthenticationMD5Password{Salt: [4]byte{1, 2, 3, 4}}),
	encode(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}}),
	encode(&pgproto3.AuthenticationSASLContinue{Data: []byte("r=x,s=y,i=0")}),
	encode(&pgproto3.AuthenticationSASLFinal{Data: []byte("v=x")}),
	encode(&pgproto3.AuthenticationGSS{}),
	encode(&pgproto3.NegotiateProtocolVersion{NewestMinorProtocol: 9, UnrecognizedOptions: []string{"x"}}),
	encode(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: make([]byte, 256)}, ready),
	encode(&pgproto3.ParameterStatus{Name: "client_encoding", Value: "EBCDIC"}, ready),
}

// clientStatements are what the driver is asked to do with a server that talks nonsense.
var clientStatements = []func(context.Context, *sql.DB){
	func(ctx context.Context, db *sql.DB) { _, _ = db.ExecContext(ctx, "select 1") },
	func(ctx context.Context, db *sql.DB) { _, _ = db.ExecContext(ctx, "select $1", 1) },
	func(ctx context.Context, db *sql.DB) { readAll(db.QueryContext(ctx, "select 1")) },
	func(ctx context.Context, db *sql.DB) { readAll(db.QueryContext(ctx, "select $1", "x")) },
	func(ctx context.Context, db *sql.DB) { _ = db.PingContext(ctx) },
	func(ctx context.Context, db *sql.DB) {
		if tx, err := db.BeginTx(ctx, nil); err == nil {
			_, _ = tx.ExecContext(ctx, "select 1")
			_ = tx.Commit()
		}
	},
	func(ctx context.Context, db *sql.DB) {
		if stmt, err := db.PrepareContext(ctx, "select $1::int"); err == nil {
			readAll(stmt.QueryContext(ctx, 1))
			_ = stmt.Close()
		}
	},
	func(ctx context.Context, db *sql.DB) {
		if conn, err := db.Conn(ctx); err == nil {
			_, _ = conn.ExecContext(ctx, "select 1")
			readAll(conn.QueryContext(ctx, "select 2"))
			_ = conn.Close()
		}
	},
}

// readAll looks at everything that rows offer.
func readAll(rows *sql.Rows, err error) {
	if err != nil {
		return
	}
	defer rows.Close()
	for {
		types, err := rows.ColumnTypes()
		if err != nil {
			return
		}
		values := make([]any, len(types))
		for i, c := range types {
			values[i] = new(any)
			_, _ = c.Length()
			_, _, _ = c.DecimalSize()
			_, _ = c.DatabaseTypeName(), c.ScanType()
		}
		for rows.Next() {
			_ = rows.Scan(values...)
		}
		if !rows.NextResultSet() {
			return
		}
	}
}

// endure has the driver talk to a fake server: it must neither panic nor hang nor leave anything behind.
func endure(t *testing.T, n nonsense, mode string, text []byte) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	server := startTalker(t, n, text)
	db := openPool(t, fmt.Sprintf("postgres://user:secret@%s/db?sslmode=disable&connect_timeout=100ms&pool_timeout=100ms"+
		"&command_timeout=50ms&default_query_exec_mode=%s", server.listener.Addr(), mode))
	began := time.Now()
	clientStatements[n.statement()%uint(len(clientStatements))](context.Background(), db)
	assert.Less(t, time.Since(began), slack, "of the statement")
	began = time.Now()
	require.NoError(t, db.Close())
	assert.Less(t, time.Since(began), slack, "of Close")
	server.close()
	require.NoError(t, goleak.Find(before))
}

func FuzzAServerThatTalksNonsense(f *testing.F) {
	for i, text := range sayings {
		f.Add(uint8(2<<4), uint8(i), text)   // to a query without parameters
		f.Add(uint8(i<<4), uint8(i/8), text) // to anything
		if i == len(sayings)/4 {
			f.Add(uint8(i<<4|8), uint8(i), text) // to every message
			f.Add(uint8(i<<4|1), uint8(i), text) // before the login
			f.Add(uint8(i<<4|6), uint8(i), text) // and not a word more
			f.Add(uint8(i<<4|7), uint8(i), text)
		}
	}
	f.Fuzz(func(t *testing.T, how, mode uint8, text []byte) {
		endure(t, nonsense(how), execModes[int(mode)%len(execModes)], text)
	})
}
