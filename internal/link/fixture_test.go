package link

import (
	"context"
	"crypto/tls"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// A tracer notes in order what pgx tells its tracer. It is used by one goroutine at a time, as pgx's connections are.
type tracer struct {
	told []string
	errs []error // of what has ended, as far as it has failed
}

var (
	_ pgx.QueryTracer    = (*tracer)(nil)
	_ pgx.PrepareTracer  = (*tracer)(nil)
	_ pgx.BatchTracer    = (*tracer)(nil)
	_ pgx.CopyFromTracer = (*tracer)(nil)
)

func (r *tracer) begins(what string) { r.told = append(r.told, what) }

func (r *tracer) ends(what string, err error) {
	if err != nil {
		what += ", failed"
		r.errs = append(r.errs, err)
	}
	r.told = append(r.told, what)
}

// forget forgets what was told so far.
func (r *tracer) forget() { r.told, r.errs = nil, nil }

func (r *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	r.begins("query: " + d.SQL)
	return ctx
}

func (r *tracer) TraceQueryEnd(_ context.Context, _ *pgx.Conn, d pgx.TraceQueryEndData) {
	r.ends("end of query", d.Err)
}

func (r *tracer) TracePrepareStart(ctx context.Context, _ *pgx.Conn, d pgx.TracePrepareStartData) context.Context {
	r.begins("prepare: " + d.SQL)
	return ctx
}

func (r *tracer) TracePrepareEnd(_ context.Context, _ *pgx.Conn, d pgx.TracePrepareEndData) {
	if d.AlreadyPrepared {
		r.ends("end of prepare, it had been there", d.Err)
		return
	}
	r.ends("end of prepare", d.Err)
}

func (r *tracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	r.begins("batch")
	return ctx
}

func (r *tracer) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

func (r *tracer) TraceBatchEnd(_ context.Context, _ *pgx.Conn, d pgx.TraceBatchEndData) {
	r.ends("end of batch", d.Err)
}

func (r *tracer) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceCopyFromStartData) context.Context {
	r.begins("copy: " + d.TableName.Sanitize())
	return ctx
}

func (r *tracer) TraceCopyFromEnd(_ context.Context, _ *pgx.Conn, d pgx.TraceCopyFromEndData) {
	r.ends("end of copy", d.Err)
}

// parse returns pgx's configuration for a DSN.
func parse(t *testing.T, dsn string) *pgx.ConnConfig {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	return cfg
}

// connect has stdlib make a connection, as a Dialer does, which the end of the test closes.
func connect(t *testing.T, cfg *pgx.ConnConfig) *stdlib.Conn {
	t.Helper()
	conn, err := stdlib.GetConnector(*cfg).Connect(t.Context())
	require.NoError(t, err)
	std := conn.(*stdlib.Conn)
	t.Cleanup(func() {
		_ = std.Close()
		<-std.Conn().PgConn().CleanupDone()
	})
	return std
}

// traced connects to a new database.
func traced(t *testing.T) (*stdlib.Conn, *tracer) {
	t.Helper()
	cfg, told := parse(t, pgtest.NewDatabase(t)), &tracer{}
	cfg.Tracer = told
	return connect(t, cfg), told
}

// exec executes a statement that must not fail.
func exec(t *testing.T, conn *pgx.Conn, query string, args ...any) {
	t.Helper()
	_, err := conn.Exec(t.Context(), query, args...)
	require.NoError(t, err, query)
}

// query has stdlib send a query that must not fail. Rows that the test leaves open end with the connection.
func query(t *testing.T, std *stdlib.Conn, text string, args ...any) *stdlib.Rows {
	t.Helper()
	rows, err := std.QueryContext(t.Context(), text, named(args...))
	require.NoError(t, err, text)
	return rows.(*stdlib.Rows)
}

func named(args ...any) []driver.NamedValue {
	all := make([]driver.NamedValue, len(args))
	for i, arg := range args {
		all[i] = driver.NamedValue{Ordinal: i + 1, Value: arg}
	}
	return all
}

// serve has cfg connect to a fake server, which is the other end of a pipe. The end of the test waits for serve to return.
func serve(t *testing.T, cfg *pgx.ConnConfig, serve func(net.Conn)) {
	t.Helper()
	done := make(chan struct{})
	client, server := net.Pipe()
	go func() { // ends when the client hangs up
		defer close(done)
		defer server.Close()
		serve(server)
	}()
	t.Cleanup(func() { client.Close(); <-done })
	cfg.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	cfg.DialFunc = func(context.Context, string, string) (net.Conn, error) { return client, nil }
}

// errNoServer is a dial's that a test wants to fail.
var errNoServer = errors.New("no server")

// logIn is a server's part of a login without a password.
func logIn(t *testing.T, server net.Conn) *pgproto3.Backend {
	backend := pgproto3.NewBackend(server, server)
	if _, err := backend.ReceiveStartupMessage(); err != nil {
		t.Errorf("no startup message: %v", err)
		return backend
	}
	backend.Send(&pgproto3.AuthenticationOk{})
	backend.Send(&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"}) // or pgx sends no simple query
	backend.Send(&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"})
	backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	_ = backend.Flush()
	return backend
}

// withCertificate writes a certificate with its key, and returns the DSN's keys for a client that shows it to the server,
// and the server's settings, which ask for one.
func withCertificate(t *testing.T) (dsn string, server *tls.Config) {
	t.Helper()
	ca, err := pgtest.NewCA()
	require.NoError(t, err)
	cert, key, err := ca.Issue([]string{"localhost"}, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	require.NoError(t, err)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(certFile, cert, 0o600))
	require.NoError(t, os.WriteFile(keyFile, key, 0o600))
	pair, err := tls.X509KeyPair(cert, key)
	require.NoError(t, err)
	return "host=localhost user=u sslmode=require sslcert=" + certFile + " sslkey=" + keyFile,
		&tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert, SessionTicketsDisabled: true}
}

// startTLS is a server's part of the beginning of TLS.
func startTLS(t *testing.T, server net.Conn, cfg *tls.Config) *tls.Conn {
	_, err := io.ReadFull(server, make([]byte, 8)) // the request for TLS
	if err == nil {
		_, err = io.WriteString(server, "S")
	}
	secure := tls.Server(server, cfg)
	if err == nil {
		err = secure.Handshake()
	}
	if err != nil {
		t.Errorf("no TLS: %v", err)
	}
	return secure
}

// sqlState is the SQLSTATE in an error, "" if it has none.
func sqlState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}
