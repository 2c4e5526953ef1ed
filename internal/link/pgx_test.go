package link

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"reflect"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/pgerror"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// Each test of this file is about one thing that pgx does, that this package relies on, and that pgx doesn't promise. They use
// pgx alone: if one of them fails after an upgrade, the code that its comment names has to be looked at. internal/README.md
// has the list of all such tests.

// Statements that are kept: prepared.go and plans.go.

// cachedName is the name under which (*Conn).Prepare prepares a text.
func cachedName(text string) string {
	digest := sha256.Sum256([]byte(text))
	return cachePrefix + hex.EncodeToString(digest[:24])
}

func TestPgxStillNamesCachedStatementsAfterTheDigestOfTheirText(t *testing.T) {
	t.Parallel()
	std, _ := traced(t)
	const text = "select $1::int"
	exec(t, std.Conn(), text, 1)
	var name string
	ask := std.Conn().QueryRow(t.Context(), "select name from pg_prepared_statements where statement = $1", text)
	require.NoError(t, ask.Scan(&name))
	assert.Equal(t, cachedName(text), name)
}

// TestPgxStillTakesOverWhatWasPreparedUnderACachedStatementsName is why db.Prepare costs no round trip at the first execution.
func TestPgxStillTakesOverWhatWasPreparedUnderACachedStatementsName(t *testing.T) {
	t.Parallel()
	std, told := traced(t)
	const text = "select $1::int"
	_, err := std.Conn().Prepare(t.Context(), cachedName(text), text)
	require.NoError(t, err)
	told.forget()
	exec(t, std.Conn(), text, 1)
	assert.Equal(t, []string{"query: " + text, "prepare: " + text, "end of prepare, it had been there", "end of query"}, told.told)
}

// TestPgxStillPreparesAndClosesStatementsByTheseBytes is what (*Conn).together relies on: it sends them before pgx does.
func TestPgxStillPreparesAndClosesStatementsByTheseBytes(t *testing.T) {
	t.Parallel()
	var written []string
	cfg := parse(t, pgtest.NewDatabase(t))
	cfg.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		return pgproto3.NewFrontend(r, writerFunc(func(p []byte) (int, error) {
			written = append(written, string(p))
			return w.Write(p)
		}))
	}
	conn := connect(t, cfg).Conn()
	const name, text = "name", "select $1::int"
	written = nil
	_, err := conn.Prepare(t.Context(), name, text)
	require.NoError(t, err)
	require.NoError(t, conn.Deallocate(t.Context(), name))
	assert.Equal(t, []string{
		string(flightOf(&pgproto3.Parse{Name: name, Query: text}, &pgproto3.Describe{ObjectType: 'S', Name: name})),
		string(flightOf(&pgproto3.Close{ObjectType: 'S', Name: name})),
	}, written)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestPgxStillFailsABatchWithATextThatPrepareHasPrepared is why batchAhead deallocates such statements.
func TestPgxStillFailsABatchWithATextThatPrepareHasPrepared(t *testing.T) {
	t.Parallel()
	std, _ := traced(t)
	const text = "select $1::int"
	_, err := std.Conn().Prepare(t.Context(), cachedName(text), text)
	require.NoError(t, err)
	batch := &pgx.Batch{}
	batch.Queue(text, 1)
	err = std.Conn().SendBatch(t.Context(), batch).Close()
	assert.Equal(t, "42P05", sqlState(err), "%v", err)
}

// TestPgxStillPreparesAnewWhatHasFailed is what (*Conn).Outdated relies on: sent again, a statement gets a new plan.
func TestPgxStillPreparesAnewWhatHasFailed(t *testing.T) {
	t.Parallel()
	std, told := traced(t)
	exec(t, std.Conn(), "create table t (a int)")
	const text = "select * from t where a = $1"
	exec(t, std.Conn(), text, 1)
	exec(t, std.Conn(), "alter table t add b int")
	_, err := std.Conn().Exec(t.Context(), text, 1)
	require.Equal(t, "0A000", sqlState(err), "%v", err)
	told.forget()
	exec(t, std.Conn(), text, 1)
	assert.Contains(t, told.told, "end of prepare")
}

// TestPgxStillSendsWhatHasNoArgumentsByTheSimpleProtocol is why a text of several statements can be executed, and why
// takesCache says that such a text goes past the cache.
func TestPgxStillSendsWhatHasNoArgumentsByTheSimpleProtocol(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	std := connect(t, parse(t, proxy.DSN()))
	proxy.Reset()
	_, err := std.ExecContext(t.Context(), "select 1; select 2", nil)
	require.NoError(t, err)
	assert.Equal(t, map[byte]int{'Q': 1}, proxy.Stats().Messages)
	_, err = std.ExecContext(t.Context(), "select 1", named(pgx.QueryExecModeCacheDescribe))
	require.NoError(t, err)
	assert.Equal(t, map[byte]int{'Q': 2}, proxy.Stats().Messages, "whatever way its caller has asked for")
}

// TestPgxStillPreparesAQueryWithoutArguments is why (*Conn).Query asks bypass of each query, and (*Conn).Exec doesn't.
func TestPgxStillPreparesAQueryWithoutArguments(t *testing.T) {
	t.Parallel()
	std, told := traced(t)
	require.NoError(t, query(t, std, "select 1").Close())
	assert.Contains(t, told.told, "end of prepare")
}

// TestPgxStillTakesTheLastOfSeveralModes is why a way to send a statement that the caller has chosen wins over that of bypass.
func TestPgxStillTakesTheLastOfSeveralModes(t *testing.T) {
	t.Parallel()
	std, told := traced(t)
	require.NoError(t, query(t, std, "select $1::int", pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, 1).Close())
	assert.NotContains(t, told.told, "end of prepare")
}

// What the tracer is told: trace.go and statement.go.

func TestPgxStillTracesNeitherPingsNorTheClosingOfStatements(t *testing.T) {
	t.Parallel()
	std, told := traced(t)
	_, err := std.Conn().Prepare(t.Context(), "mine", "select 1")
	require.NoError(t, err)
	told.forget()
	require.NoError(t, std.Conn().Ping(t.Context()))
	require.NoError(t, std.Conn().Deallocate(t.Context(), "mine"))
	require.NoError(t, std.Conn().DeallocateAll(t.Context()))
	assert.Empty(t, told.told)
}

// TestPgxStillReportsTheEndOfAQueryWhenItsRowsAreClosed is why a statement's time covers its rows.
func TestPgxStillReportsTheEndOfAQueryWhenItsRowsAreClosed(t *testing.T) {
	t.Parallel()
	std, told := traced(t)
	rows := query(t, std, "select 1")
	assert.NotContains(t, told.told, "end of query")
	require.NoError(t, rows.Close())
	assert.Contains(t, told.told, "end of query")
}

// TestPgxStillEndsAQueryWithoutRowsBeforeItReturns is why another query may begin while its rows are still held.
func TestPgxStillEndsAQueryWithoutRowsBeforeItReturns(t *testing.T) {
	t.Parallel()
	std, told := traced(t)
	query(t, std, "select 1 where false")
	assert.Contains(t, told.told, "end of query")
}

func TestPgxStillReportsTheEndOfABatchThatFailsEarlyTwice(t *testing.T) {
	t.Parallel()
	std, told := traced(t)
	batch := &pgx.Batch{}
	batch.Queue("select wrong")
	require.Error(t, std.Conn().SendBatch(t.Context(), batch).Close())
	assert.Equal(t, []string{"batch", "end of batch, failed", "end of batch, failed"}, told.told)
}

// TestPgxStillReportsNoEndOfACopyWhoseColumnsItAsksForInVain is why TracePrepareEnd ends such a COPY.
func TestPgxStillReportsNoEndOfACopyWhoseColumnsItAsksForInVain(t *testing.T) {
	t.Parallel()
	std, told := traced(t)
	_, err := std.Conn().CopyFrom(t.Context(), pgx.Identifier{"none"}, []string{"a"}, pgx.CopyFromRows(nil))
	require.Error(t, err)
	assert.Equal(t, []string{`copy: "none"`, `prepare: select "a" from "none"`, "end of prepare, failed"}, told.told)
}

// TestPgxStillBeginsAndEndsTransactionsByTheseTexts is what visit.go and statement.go know them by.
func TestPgxStillBeginsAndEndsTransactionsByTheseTexts(t *testing.T) {
	t.Parallel()
	std, told := traced(t)
	for _, options := range []pgx.TxOptions{{}, {IsoLevel: pgx.Serializable}, {AccessMode: pgx.ReadOnly}} {
		told.forget()
		tx, err := std.Conn().BeginTx(t.Context(), options)
		require.NoError(t, err)
		require.NoError(t, tx.Commit(t.Context()))
		tx, err = std.Conn().BeginTx(t.Context(), options)
		require.NoError(t, err)
		require.NoError(t, tx.Rollback(t.Context()))
		require.Len(t, told.told, 8)
		for _, i := range []int{0, 4} {
			assert.True(t, strings.HasPrefix(told.told[i], "query: begin"), told.told[i])
		}
		assert.Equal(t, "query: commit", told.told[2])
		assert.Equal(t, "query: rollback", told.told[6])
	}
	assert.True(t, commits("commit") && isCommit("commit") && isCommit("begin read only"))
}

// What goes wrong on a connection: explain.go, exec.go and tx.go.

// TestPgxStillSaysConnClosedWhereTheReplyToASimpleQueryIsLost is why (*Conn).Real asks the tap for the reason.
func TestPgxStillSaysConnClosedWhereTheReplyToASimpleQueryIsLost(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	std := connect(t, parse(t, proxy.DSN()))
	proxy.SwallowReply(faultproxy.FIN, 1, faultproxy.Containing("lost"))
	_, err := std.ExecContext(t.Context(), "select 'lost'", nil)
	require.ErrorIs(t, err, pgconn.ErrConnClosed)
	assert.False(t, errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF), "%v", err)
}

// TestPgxStillSaysErrBadConnOfWhatIsSafeToRetry is why Real looks at what the tracer was told.
func TestPgxStillSaysErrBadConnOfWhatIsSafeToRetry(t *testing.T) {
	t.Parallel()
	std, told := traced(t)
	query(t, std, "select generate_series(1, 2)") // its rows stay open
	_, err := std.ExecContext(t.Context(), "select 1", nil)
	assert.Equal(t, driver.ErrBadConn, err)
	_, err = std.QueryContext(t.Context(), "select 1", nil)
	assert.Equal(t, driver.ErrBadConn, err)
	for _, err := range told.errs {
		assert.True(t, pgconn.SafeToRetry(err), "%v", err)
	}
	require.NotEmpty(t, told.errs)
}

// TestPgxStillSaysErrBadConnOfAConnectionThatIsClosedAndTracesNothing is why an earlier statement's error may be the reason.
func TestPgxStillSaysErrBadConnOfAConnectionThatIsClosedAndTracesNothing(t *testing.T) {
	t.Parallel()
	std, told := traced(t)
	require.NoError(t, std.Conn().Close(t.Context()))
	_, err := std.ExecContext(t.Context(), "select 1", nil)
	assert.Equal(t, driver.ErrBadConn, err)
	_, err = std.QueryContext(t.Context(), "select 1", nil)
	assert.Equal(t, driver.ErrBadConn, err)
	assert.Empty(t, told.told)
}

// TestPgxStillEndsOpenRowsEarlyWhenItRefusesAStatement is why ErrBusy is said without asking pgx, in pgx's words.
func TestPgxStillEndsOpenRowsEarlyWhenItRefusesAStatement(t *testing.T) {
	t.Parallel()
	std, _ := traced(t)
	const cached = "select $1::int"
	exec(t, std.Conn(), cached, 1)
	rows, err := std.Conn().Query(t.Context(), "select generate_series(1, 3)")
	require.NoError(t, err)
	require.True(t, rows.Next())
	_, err = std.Conn().Exec(t.Context(), cached, 1)
	require.EqualError(t, err, "conn busy")
	assert.True(t, strings.HasPrefix(ErrBusy.Error(), "pgprod: conn busy"))
	assert.False(t, rows.Next(), "the second row is there")
}

// TestPgxStillClosesTheConnectionWhoseBeginItRefuses is the other reason for ErrBusy.
func TestPgxStillClosesTheConnectionWhoseBeginItRefuses(t *testing.T) {
	t.Parallel()
	std, _ := traced(t)
	query(t, std, "select generate_series(1, 3)") // its rows stay open
	_, err := std.Conn().Begin(t.Context())
	require.EqualError(t, err, "conn busy")
	assert.True(t, std.Conn().IsClosed())
}

// TestPgxStillClosesTheConnectionOfABeginWhoseContextHasEnded is why AlreadyEnded is asked before.
func TestPgxStillClosesTheConnectionOfABeginWhoseContextHasEnded(t *testing.T) {
	t.Parallel()
	std, _ := traced(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := std.Conn().Begin(ctx)
	require.ErrorIs(t, err, context.Canceled)
	assert.True(t, std.Conn().IsClosed())
}

// TestPgxStillPanicsInAFunctionOfItsOwnOnAReplyThatMakesNoSense is how panickedInPgx knows whose fault a panic is: by the
// names of the functions, and by the runtime's in front of them. The reply has one column, and a row of two values.
func TestPgxStillPanicsInAFunctionOfItsOwnOnAReplyThatMakesNoSense(t *testing.T) {
	t.Parallel()
	cfg := parse(t, "host=localhost user=u sslmode=disable default_query_exec_mode=simple_protocol")
	serve(t, cfg, func(server net.Conn) {
		backend := logIn(t, server)
		_, _ = backend.Receive()
		backend.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("a"), DataTypeOID: 23}}})
		backend.Send(&pgproto3.DataRow{Values: [][]byte{[]byte("1"), []byte("2")}})
		backend.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
		backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		_ = backend.Flush()
		_, _ = io.Copy(io.Discard, server)
	})
	rows := query(t, connect(t, cfg), "select a")
	err := panicOf(func() { _ = rows.Next(make([]driver.Value, 1)) })
	assert.ErrorContains(t, err, "pgprod: the server's reply makes no sense: ")

	var none *tracer
	err = panicOf(func() { none.forget() })
	assert.ErrorContains(t, err, "pgprod: a panic in the midst of a statement: ", "not in pgx")
}

// panicOf is the error of a panic in do, nil if there is none.
func panicOf(do func()) (err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = newPanicError(panicked)
		}
	}()
	do()
	return nil
}

// Results: rows.go.

// TestPgxStillKeepsOneDescriptionOfAResultPerConnection is why newRows reads the columns of a query that has ended.
func TestPgxStillKeepsOneDescriptionOfAResultPerConnection(t *testing.T) {
	t.Parallel()
	std, _ := traced(t)
	ended := query(t, std, "select 1::int8 as a where false")
	require.Equal(t, "INT8", ended.ColumnTypeDatabaseTypeName(0))
	query(t, std, "select now() as b where false")
	assert.Equal(t, "TIMESTAMPTZ", ended.ColumnTypeDatabaseTypeName(0))
}

// TestPgxStillRemembersTheNamesOfColumnsItWasAskedFor is why newRows keeps none of them.
func TestPgxStillRemembersTheNamesOfColumnsItWasAskedFor(t *testing.T) {
	t.Parallel()
	std, _ := traced(t)
	ended := query(t, std, "select 1 as a where false")
	require.Equal(t, []string{"a"}, ended.Columns())
	query(t, std, "select 2 as b where false")
	assert.Equal(t, []string{"a"}, ended.Columns())
}

// TestPgxStillHandsNoticesOverInTheGoroutineThatReads is why noticed takes no lock for the statement under way.
func TestPgxStillHandsNoticesOverInTheGoroutineThatReads(t *testing.T) {
	t.Parallel()
	var stack string
	cfg := parse(t, pgtest.NewDatabase(t))
	cfg.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) { stack = string(debug.Stack()) }
	exec(t, connect(t, cfg).Conn(), "do $$ begin raise notice 'x'; end $$")
	assert.Contains(t, stack, t.Name())
}

// Contexts: conn.go and package guard.

// A watcher is what pgx asks to end a statement. It notes in order what it is told, as pgx's tracer, too.
type watcher struct {
	tracer
	conn   *pgconn.PgConn
	called chan struct{} // gets a value when a context has ended
	cancel func()        // is called when the server says something
}

var _ ctxwatch.Handler = (*watcher)(nil)

// HandleCancel is called in a goroutine of its own.
func (w *watcher) HandleCancel(context.Context) {
	_ = w.conn.CancelRequest(context.Background())
	w.called <- struct{}{}
}

func (w *watcher) HandleUnwatchAfterCancel() { w.begins("unwatched") }

// watched connects to a new database.
func watched(t *testing.T) (*pgx.Conn, *watcher) {
	t.Helper()
	cfg, w := parse(t, pgtest.NewDatabase(t)), &watcher{called: make(chan struct{}, 1)}
	cfg.Tracer = w
	cfg.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) { w.cancel() }
	cfg.BuildContextWatcherHandler = func(pg *pgconn.PgConn) ctxwatch.Handler {
		w.conn = pg
		return w
	}
	return connect(t, cfg).Conn(), w
}

// TestPgxStillEndsTheWatchOfAContextBeforeItReportsTheEndOfAStatement is what the guard relies on: its End, which TraceQueryEnd
// calls, needs no lock against HandleCancel.
func TestPgxStillEndsTheWatchOfAContextBeforeItReportsTheEndOfAStatement(t *testing.T) {
	t.Parallel()
	conn, w := watched(t)
	exec(t, conn, `create function slow() returns void language plpgsql as $$ begin
		raise notice 'it runs'; perform pg_sleep(60); end $$`)
	for _, args := range [][]any{nil, {1}} { // by the simple protocol, and by the extended one
		w.forget()
		var ctx context.Context
		ctx, w.cancel = context.WithCancel(t.Context())
		_, err := conn.Exec(ctx, "select slow()"+strings.Repeat(", $1::int", len(args)), args...)
		require.Equal(t, "57014", sqlState(err), "%v", err)
		<-w.called
		require.GreaterOrEqual(t, len(w.told), 3)
		assert.Equal(t, []string{"unwatched", "end of query, failed"}, w.told[len(w.told)-2:])
	}
}

// TestPgxStillGoesOnToWatchAContextWhenItIsClosedUnderTheBackground is why HangUp closes under another one.
// TestNobodyWatchesTheContextOfAConnectionThatIsGone, in package drivertest, shows that this helps.
func TestPgxStillGoesOnToWatchAContextWhenItIsClosedUnderTheBackground(t *testing.T) {
	t.Parallel()
	conn, w := watched(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := conn.Query(ctx, "select generate_series(1, 2)") // its rows stay open
	require.NoError(t, err)
	require.NoError(t, conn.Close(context.Background()))
	cancel()
	select {
	case <-w.called:
	case <-time.After(20 * time.Second):
		t.Fatal("nobody watches the context")
	}
}

// Dials: dialer.go.

// TestPgxStillSharesTheRunTimeParametersAndTheTLSOfAllDials is why adapt and refreshTLS make copies: what stdlib's hook
// gets is a copy of the configuration, but not of what that points to.
func TestPgxStillSharesTheRunTimeParametersAndTheTLSOfAllDials(t *testing.T) {
	t.Parallel()
	cfg := parse(t, "host=localhost user=u sslmode=prefer application_name=a")
	connector := stdlib.GetConnector(*cfg, stdlib.OptionBeforeConnect(func(_ context.Context, cc *pgx.ConnConfig) error {
		assert.Equal(t, reflect.ValueOf(cfg.RuntimeParams).Pointer(), reflect.ValueOf(cc.RuntimeParams).Pointer())
		assert.Same(t, cfg.TLSConfig, cc.TLSConfig)
		assert.Same(t, cfg.Fallbacks[0], cc.Fallbacks[0])
		cc.Password = "of this dial"
		return errNoServer
	}))
	_, err := connector.Connect(t.Context())
	require.ErrorIs(t, err, errNoServer)
	_, err = connector.Connect(t.Context())
	require.ErrorIs(t, err, errNoServer)
	assert.Empty(t, cfg.Password)
}

// TestPgxStillLosesTheCertificateOfATLSConfigThatIsCloned is why refreshTLS has pgx copy its configuration.
func TestPgxStillLosesTheCertificateOfATLSConfigThatIsCloned(t *testing.T) {
	t.Parallel()
	dsn, tlsOfServer := withCertificate(t)
	for name, c := range map[string]struct {
		copied func(*pgx.ConnConfig)
		shown  int
	}{
		"as it was parsed": {func(*pgx.ConnConfig) {}, 1},
		"copied by pgx":    {func(cc *pgx.ConnConfig) { cc.Config = *cc.Config.Copy() }, 1},
		"cloned":           {func(cc *pgx.ConnConfig) { cc.TLSConfig = cc.TLSConfig.Clone() }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, shown := parse(t, dsn), make(chan int, 1)
			serve(t, cfg, func(server net.Conn) {
				shown <- len(startTLS(t, server, tlsOfServer).ConnectionState().PeerCertificates)
			})
			c.copied(cfg)
			_, err := pgx.ConnectConfig(t.Context(), cfg)
			require.Error(t, err, "the server hangs up")
			assert.Equal(t, c.shown, <-shown)
		})
	}
}

// TestPgxStillBuildsItsFrontendOnTheTLSConnectionItself is how wire.NewTap knows of TLS, and (*Conn).Encrypted.
func TestPgxStillBuildsItsFrontendOnTheTLSConnectionItself(t *testing.T) {
	t.Parallel()
	dsn, tlsOfServer := withCertificate(t)
	cfg := parse(t, dsn)
	serve(t, cfg, func(server net.Conn) {
		secure := startTLS(t, server, tlsOfServer)
		logIn(t, secure)
		_, _ = io.Copy(io.Discard, secure)
	})
	var writer io.Writer
	cfg.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		writer = w
		return pgproto3.NewFrontend(r, w)
	}
	conn := connect(t, cfg).Conn()
	require.IsType(t, (*tls.Conn)(nil), writer)
	assert.Same(t, writer, conn.PgConn().Conn())
}

// TestPgxStillCountsItsTimeoutForEachAddressAndNotForTheResolver is why a Dialer has a Limit.
func TestPgxStillCountsItsTimeoutForEachAddressAndNotForTheResolver(t *testing.T) {
	t.Parallel()
	cfg := parse(t, "host=name user=u sslmode=disable connect_timeout=5")
	cfg.LookupFunc = func(ctx context.Context, _ string) ([]string, error) {
		_, limited := ctx.Deadline()
		assert.False(t, limited)
		return []string{"192.0.2.1", "192.0.2.2"}, nil
	}
	var deadlines []time.Time
	cfg.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		deadline, limited := ctx.Deadline()
		assert.True(t, limited)
		deadlines = append(deadlines, deadline)
		return nil, errNoServer
	}
	_, err := pgx.ConnectConfig(t.Context(), cfg)
	require.ErrorIs(t, err, errNoServer)
	require.Len(t, deadlines, 2)
	assert.True(t, deadlines[1].After(deadlines[0]))
}

// TestPgxStillDialsForACancelRequestWhenAConnectionHasFailed is why connectOrCancel marks the context of a connect, and why
// dialToCancel bounds what pgx does in a goroutine of its own.
func TestPgxStillDialsForACancelRequestWhenAConnectionHasFailed(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	cfg := parse(t, proxy.DSN())
	dial, dials := cfg.DialFunc, 0
	cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials++
		if dials == 1 {
			assert.NotNil(t, ctx.Value(connecting{}), "the values of the connect's context")
			return dial(ctx, network, address)
		}
		assert.Nil(t, ctx.Value(connecting{}), "a context of pgx's own")
		deadline, limited := ctx.Deadline()
		assert.True(t, !limited || time.Until(deadline) > guard.CancelGrace, "pgx hurries by itself")
		return nil, errNoServer
	}
	conn, err := pgx.ConnectConfig(context.WithValue(t.Context(), connecting{}, true), cfg)
	require.NoError(t, err)
	proxy.SwallowReply(faultproxy.FIN, 1, faultproxy.Containing("lost"))
	_, err = conn.Exec(t.Context(), "select 'lost'")
	require.Error(t, err)
	require.True(t, conn.IsClosed())
	<-conn.PgConn().CleanupDone()
	assert.Equal(t, 2, dials)
}

// TestPgxStillSaysWhoAndThenWhatOfEachHost is the form that connectFailures has.
func TestPgxStillSaysWhoAndThenWhatOfEachHost(t *testing.T) {
	t.Parallel()
	fails := func(hosts string) error {
		cfg := parse(t, "sslmode=disable port=5432 user=u dbname=d host="+hosts)
		cfg.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
		cfg.DialFunc = func(_ context.Context, _, address string) (net.Conn, error) {
			return nil, errors.New(address + "\nfails")
		}
		_, err := pgx.ConnectConfig(t.Context(), cfg)
		require.Error(t, err)
		return err
	}
	assert.EqualError(t, joinFailures([]error{fails("a"), fails("b")}), fails("a,b").Error())
	_, is := errors.AsType[*pgconn.ConnectError](joinFailures([]error{fails("a"), fails("b")}))
	assert.True(t, is)
}

// TestPgxStillTakesAPortFromTheLookup is how a check reaches the address that a connection was made to.
func TestPgxStillTakesAPortFromTheLookup(t *testing.T) {
	t.Parallel()
	cfg := parse(t, "sslmode=disable port=5432 user=u dbname=d host=a")
	cfg.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"192.0.2.1:5433", "2001:db8::1"}, nil }
	var dialled []string
	cfg.DialFunc = func(_ context.Context, _, address string) (net.Conn, error) {
		dialled = append(dialled, address)
		return nil, errNoServer
	}
	_, err := pgx.ConnectConfig(t.Context(), cfg)
	require.ErrorIs(t, err, errNoServer)
	assert.Equal(t, []string{"192.0.2.1:5433", "[2001:db8::1]:5432"}, dialled)
}

// TestPgxStillCallsItsHooksInThisOrder is why a dial is claimed in AfterConnect: the server has been judged, and nothing else was done.
func TestPgxStillCallsItsHooksInThisOrder(t *testing.T) {
	t.Parallel()
	cfg := parse(t, pgtest.NewDatabase(t))
	var called []string
	cfg.ValidateConnect = func(_ context.Context, pg *pgconn.PgConn) error {
		assert.NotZero(t, pg.PID())
		called = append(called, "validate "+pg.ParameterStatus("in_hot_standby"))
		return nil
	}
	cfg.AfterConnect = func(context.Context, *pgconn.PgConn) error {
		called = append(called, "after connect")
		return errNoServer
	}
	_, err := stdlib.GetConnector(*cfg, stdlib.OptionAfterConnect(func(context.Context, *pgx.Conn) error {
		called = append(called, "hook")
		return nil
	})).Connect(t.Context())
	require.ErrorIs(t, err, errNoServer)
	assert.Equal(t, []string{"validate off", "after connect"}, called)
}

// TestPgxStillSaysThisIfTheServerAsksForNoCertificate is how pgerror.EndsLogins knows an error that ends the chain.
func TestPgxStillSaysThisIfTheServerAsksForNoCertificate(t *testing.T) {
	t.Parallel()
	dsn, server := withCertificate(t)
	server.ClientAuth = tls.NoClientCert
	cfg := parse(t, dsn+" sslcertmode=require")
	serve(t, cfg, func(nc net.Conn) { logIn(t, startTLS(t, nc, server)) })
	_, err := pgx.ConnectConfig(t.Context(), cfg)
	require.Error(t, err)
	assert.True(t, pgerror.EndsLogins(err), "%v", err)
}

// TestPgxStillLeavesAConnectionOpenWhoseHookFails is why configure closes it.
func TestPgxStillLeavesAConnectionOpenWhoseHookFails(t *testing.T) {
	t.Parallel()
	var conn *pgx.Conn
	hook := func(_ context.Context, pc *pgx.Conn) error {
		conn = pc
		return errNoServer
	}
	_, err := stdlib.GetConnector(*parse(t, pgtest.NewDatabase(t)), stdlib.OptionAfterConnect(hook)).Connect(t.Context())
	require.ErrorIs(t, err, errNoServer)
	assert.False(t, conn.IsClosed())
	require.NoError(t, conn.Close(t.Context()))
}
