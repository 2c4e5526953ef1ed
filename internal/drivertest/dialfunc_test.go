package drivertest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// nowhere is a name that no resolver has.
const nowhere = "db.pgprod.invalid"

// A road is a dial function that leads to a server, wherever the DSN says it is, and notes what it was asked for.
type road struct {
	server *pgtest.Server
	hides  bool // its connections have no socket, no addresses and no deadlines

	mu    sync.Mutex // guards asked
	asked []string
}

func (r *road) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	r.mu.Lock()
	r.asked = append(r.asked, network+" "+addr)
	r.mu.Unlock()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", fmt.Sprint(r.server.Port())))
	if err != nil || !r.hides {
		return c, err
	}
	return opaque{c}, nil
}

// dialled returns how often the function was called. All calls must have been for addr.
func (r *road) dialled(t *testing.T, addr string) int {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, asked := range r.asked {
		assert.Equal(t, "tcp "+addr, asked)
	}
	return len(r.asked)
}

// opaque is a connection as a tunnel has it: one can read and write, and no more.
type opaque struct{ inner net.Conn }

func (o opaque) Read(b []byte) (int, error)       { return o.inner.Read(b) }
func (o opaque) Write(b []byte) (int, error)      { return o.inner.Write(b) }
func (o opaque) Close() error                     { return o.inner.Close() }
func (opaque) LocalAddr() net.Addr                { return nil }
func (opaque) RemoteAddr() net.Addr               { return nil }
func (opaque) SetDeadline(time.Time) error        { return errors.ErrUnsupported }
func (o opaque) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (o opaque) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

// kinds are the kinds of connections that a dial function may return.
var kinds = map[string]bool{"a socket": false, "without a socket": true}

func TestEverythingButTheNetworkStaysTheDSNsWithADialFunction(t *testing.T) {
	t.Parallel()
	ca, err := pgtest.NewCA()
	require.NoError(t, err)
	server := pgtest.StartTB(t, pgtest.Config{TLS: &pgtest.TLS{CA: ca, Hosts: []string{nowhere}}})
	root := filepath.Join(t.TempDir(), "root.crt")
	require.NoError(t, os.WriteFile(root, ca.PEM(), 0o600))
	for kind, hides := range kinds {
		t.Run(kind, func(t *testing.T) {
			spans := tracetest.NewSpanRecorder()
			way := &road{server: server, hides: hides}
			db := openPool(t, fmt.Sprintf("postgres://postgres@%s:7654/postgres?sslmode=verify-full&sslrootcert=%s&pool_size=2", nowhere, root),
				pgprod.WithDialFunc(way.dial), pgprod.WithRootSpans(true),
				pgprod.WithTracerProvider(trace.NewTracerProvider(trace.WithSpanProcessor(spans))))
			require.Equal(t, "healthy", string(pgprod.Check(t.Context(), db).Status))
			fill(t, db, 2)
			assert.True(t, get[bool](t, db, isEncrypted))
			assert.Equal(t, 3, way.dialled(t, nowhere+":7654"), "two for the pool, and one for the health check")
			for _, span := range spans.Ended() {
				attributes := fmt.Sprint(span.Attributes())
				assert.Contains(t, attributes, nowhere, span.Name())
				assert.NotContains(t, attributes, "127.0.0.1", span.Name())
			}
			wrong := openPool(t, fmt.Sprintf("postgres://postgres@other.invalid:7654/postgres?sslmode=verify-full&sslrootcert=%s&pool_timeout=5s", root),
				pgprod.WithDialFunc(way.dial))
			require.ErrorContains(t, wrong.Ping(), "not other.invalid", "the name in the DSN is what TLS verifies")
		})
	}
}

func TestCancelRequestsGoThroughTheDialFunction(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	for kind, hides := range kinds {
		t.Run(kind, func(t *testing.T) {
			way := &road{server: server, hides: hides}
			db := openPool(t, oneConn(fmt.Sprintf("postgres://postgres@%s:7654/postgres?sslmode=disable", nowhere),
				"command_timeout", "300ms"), pgprod.WithDialFunc(way.dial))
			pid := backendPID(t, db)
			_, err := db.Exec("select pg_sleep(60)")
			requireCut(t, err, context.DeadlineExceeded)
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(50*time.Millisecond, cancel)
			_, err = db.ExecContext(ctx, "select pg_sleep(60)")
			requireCut(t, err, context.Canceled)
			assert.Equal(t, pid, backendPID(t, db), "the connection lives on")
			assert.Equal(t, 3, way.dialled(t, nowhere+":7654"))
		})
	}
}

func TestARestartBehindADialFunctionCostsIdleConnectionsNothing(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{})
	for kind, hides := range kinds {
		t.Run(kind, func(t *testing.T) {
			way := &road{server: server, hides: hides}
			db := openPool(t, fmt.Sprintf("postgres://postgres@%s:7654/postgres?sslmode=disable&pool_size=3", nowhere), pgprod.WithDialFunc(way.dial))
			for range 3 {
				fill(t, db, 3)
				require.NoError(t, server.Restart(t.Context(), pgtest.Fast))
				mustExec(t, db, "select 1")
			}
		})
	}
}

func TestAFailureOfTheDialFunctionIsTheDialsAndHangsNobody(t *testing.T) {
	t.Parallel()
	type dial = func(context.Context, string, string) (net.Conn, error)
	released := make(chan struct{})
	t.Cleanup(func() { close(released) })
	for name, f := range map[string]struct {
		dial dial
		want string
	}{
		"error": {func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("the bastion is closed")
		}, "the bastion is closed"},
		"nothing": {func(context.Context, string, string) (net.Conn, error) { return nil, nil }, "neither a connection nor an error"},
		"panic":   {func(context.Context, string, string) (net.Conn, error) { panic("a bug of the function's") }, "a bug of the function's"},
		"goexit":  {func(context.Context, string, string) (net.Conn, error) { runtime.Goexit(); return nil, nil }, "dial function: the function has ended its goroutine"},
		"hangs": {func(context.Context, string, string) (net.Conn, error) { <-released; return nil, nil },
			"context deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			db := openPool(t, "host="+nowhere+" sslmode=disable pool_timeout=700ms connect_timeout=200ms", pgprod.WithDialFunc(f.dial))
			err := db.Ping()
			require.ErrorIs(t, err, pgprod.ErrPoolTimeout)
			require.ErrorContains(t, err, f.want)
		})
	}
}

func TestADialFunctionThatHangsHoldsACancelRequestUpNoLongerThanItsTime(t *testing.T) {
	t.Parallel()
	way := &road{server: pgtest.StartTB(t, pgtest.Config{})}
	released := make(chan struct{})
	t.Cleanup(func() { close(released) })
	db := openPool(t, oneConn(fmt.Sprintf("postgres://postgres@%s:7654/postgres?sslmode=disable", nowhere), "command_timeout", "200ms"),
		pgprod.WithDialFunc(func(ctx context.Context, network, addr string) (net.Conn, error) {
			if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < time.Second { // a cancel request's
				<-released
			}
			return way.dial(ctx, network, addr)
		}))
	pid := backendPID(t, db)
	_, err := db.Exec("select pg_sleep(60)")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.NotEqual(t, pid, backendPID(t, db), "a connection whose statement couldn't be cancelled is given up")
}

func TestWithADialFunctionPgprodDoesNotWarnOfWhatItCannotKnow(t *testing.T) {
	t.Parallel()
	log := &logBuffer{}
	way := &road{server: pgtest.StartTB(t, pgtest.Config{})}
	dsn := fmt.Sprintf("postgres://postgres@%s:7654/postgres?sslmode=disable", nowhere)
	db := openPool(t, dsn, pgprod.WithDialFunc(way.dial), pgprod.WithLogger(log.logger()))
	mustExec(t, db, "select 1")
	assert.NotContains(t, log.String(), "sslmode")

	refused := openPool(t, fmt.Sprintf("postgres://postgres@%s:7654/postgres", nowhere), pgprod.WithDialFunc(way.dial))
	require.ErrorContains(t, refused.Ping(), "server refused TLS connection", "the default stays require")
}
