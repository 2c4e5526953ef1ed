package drivertest

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// line is a line of log.
type line map[string]any

// logged is a log that tests can look at.
type logged struct{ buffer logBuffer }

// option makes a pool log there, from a level on.
func (l *logged) option(level slog.Level) pgprod.Option {
	return pgprod.WithLogger(slog.New(slog.NewJSONHandler(&l.buffer, &slog.HandlerOptions{Level: level})))
}

// lines are those whose message contains a text.
func (l *logged) lines(t testing.TB, message string) (all []line) {
	t.Helper()
	for text := range strings.Lines(l.buffer.String()) {
		one := line{}
		require.NoError(t, json.Unmarshal([]byte(text), &one))
		if strings.Contains(one["msg"].(string), message) {
			all = append(all, one)
		}
	}
	return all
}

// A slowHandler takes its time for the first line whose message contains a text.
type slowHandler struct {
	slog.Handler
	text    string
	once    sync.Once
	entered chan struct{} // closed when that line has come
	leave   chan struct{} // the test closes it to let the line pass
}

func newSlowHandler(text string) *slowHandler {
	return &slowHandler{
		Handler: slog.NewTextHandler(io.Discard, nil), text: text,
		entered: make(chan struct{}), leave: make(chan struct{}),
	}
}

func (h *slowHandler) Handle(ctx context.Context, r slog.Record) error {
	if strings.Contains(r.Message, h.text) {
		h.once.Do(func() {
			close(h.entered)
			<-h.leave
		})
	}
	return h.Handler.Handle(ctx, r)
}

func TestALogHandlerThatIsSlowWithAClosedConnectionHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	h := newSlowHandler("close: beyond pool_size")
	db := openPool(t, with(pgtest.NewDatabase(t), "pool_size", "1", "max_overflow", "3", "echo_pool", "on"), pgprod.WithLogger(slog.New(h)))
	conns := holdMany(t, db, 4)
	require.NoError(t, conns[0].Close())
	slow := make(chan error, 1)
	go func() { slow <- conns[1].Close() }() // ends when the handler may leave
	<-h.entered
	quick := make(chan error, 1)
	go func() { quick <- conns[2].Close() }() // ends at once
	select {
	case err := <-quick:
		require.NoError(t, err)
	case <-time.After(patience):
		assert.Fail(t, "it waits for somebody else's line of log")
	}
	close(h.leave)
	require.NoError(t, <-slow)
	require.NoError(t, conns[3].Close())
	eventually(t, db, func(s pgprod.PoolStatus) bool {
		return s.CheckedIn == 1 && s.CheckedOut == 0 && s.Closed["overflow"] == 3
	})
}

func TestAHealthyRunLogsNothing(t *testing.T) {
	t.Parallel()
	var log logged
	db := openPool(t, with(pgtest.NewDatabase(t), "pool_size", "2", "max_overflow", "2", "slow_query", "20s"), log.option(slog.LevelDebug))
	mustExec(t, db, "create table t (n int)")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for n := range 20 {
				if _, err := db.Exec("insert into t values ($1)", n); !assert.NoError(t, err) {
					return
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, db.Close())
	assert.Empty(t, log.buffer.String())
}

func TestAHealthyRunOfAnOrdinaryServiceLogsNothingPreflightIncluded(t *testing.T) {
	t.Parallel()
	var log logged
	server := pgtest.StartTB(t, pgtest.Config{
		Password: "for the superuser", Settings: map[string]string{"log_statement": "all"},
	})
	require.NoError(t, server.Exec(t.Context(), "create role app login password 's3cret'; create schema authorization app"))
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte("s3cret\n"), 0o600))
	dsn, err := url.Parse(server.DSN("postgres"))
	require.NoError(t, err)
	dsn.User = url.User("app")
	db := openPool(t, with(dsn.String(), "pool_size", "3", "max_overflow", "2", "password_file", file, "slow_query", "20s"), log.option(slog.LevelInfo),
		pgprod.WithPreflight(true))
	mustExec(t, db, "create table accounts (id int primary key, balance int)")
	mustExec(t, db, "insert into accounts select n, 100 from generate_series(1, 10) n")
	until := time.Now().Add(time.Second)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for n := worker; time.Now().Before(until); n++ {
				if !assert.NoError(t, transfer(db, 1+n%10, 1+(n+1)%10)) {
					return
				}
			}
		})
	}
	wg.Wait()
	pgtest.Eventually(t, patience, func() bool { // it comes when a connection lies idle
		said, err := os.ReadFile(server.LogFile())
		require.NoError(t, err)
		return bytes.Contains(said, []byte("select r.rolname"))
	}, "no preflight")
	assert.Equal(t, "healthy", pgprod.Check(t.Context(), db).Status)
	assert.EqualValues(t, 1000, get[int](t, db, "select sum(balance)::int from accounts"))
	warnings := pgprod.Check(t.Context(), db).Warnings
	require.NoError(t, db.Close())
	// A server's version is well until a day comes; what is said of it is no matter of this test.
	ofAge := func(text string) bool { return strings.Contains(text, "gets no fixes any more") }
	assert.Empty(t, slices.DeleteFunc(warnings, ofAge))
	assert.Empty(t, slices.DeleteFunc(slices.Collect(strings.Lines(log.buffer.String())), ofAge))
}

// transfer is a transaction with reads, writes and prepared statements.
func transfer(db *sql.DB, from, to int) error {
	return pgprod.InTx(context.Background(), db, func(tx *sql.Tx) error {
		rows, err := tx.Query("select balance from accounts where id = any($1) order by id for update", []int{from, to})
		if err != nil {
			return err
		}
		for rows.Next() {
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
		_, err = tx.Exec("update accounts set balance = balance + case when id = $1 then -1 else 1 end where id in ($1, $2)", from, to)
		return err
	})
}

func TestAFailedStatementIsLoggedWithAllThatExplainsItAndNoValue(t *testing.T) {
	t.Parallel()
	var log logged
	tracer := sdktrace.NewTracerProvider()
	db := openPool(t, with(pgtest.NewDatabase(t), "pool_name", "failures"), log.option(slog.LevelInfo),
		pgprod.WithTracerProvider(tracer))
	mustExec(t, db, "create table t (n int, name text, constraint one_name unique (name))")
	mustExec(t, db, "insert into t values ($1, $2)", 1, "s3cret")

	ctx, span := tracer.Tracer("test").Start(context.Background(), "request")
	_, err := db.ExecContext(ctx, "insert into t values ($1, $2)", 2, "s3cret")
	span.End()
	require.Equal(t, "23505", sqlState(err))

	lines := log.lines(t, "pgprod: statement failed")
	require.Len(t, lines, 1)
	got := lines[0]
	for key, want := range map[string]any{
		"level": "WARN", "pool": "failures", "db.query.summary": "insert t", "error.type": "23505", "db.response.status_code": "23505",
		"constraint": "one_name", "trace_id": span.SpanContext().TraceID().String(),
		"error_message": `duplicate key value violates unique constraint "one_name"`,
	} {
		assert.Equal(t, want, got[key], key)
	}
	assert.NotEqual(t, span.SpanContext().SpanID().String(), got["span_id"], "it is the statement's own span")
	assert.Len(t, got["span_id"], 16)
	assert.Positive(t, got["duration"])
	assert.NotContains(t, log.buffer.String(), "s3cret")
}

func TestNoValueIsLoggedWhateverTheServerQuotes(t *testing.T) {
	t.Parallel()
	var log logged
	db := openPool(t, with(pgtest.NewDatabase(t), "echo", "on", "slow_query", "1us"), log.option(slog.LevelDebug))
	for _, statement := range []struct {
		sql  string
		args []any
	}{
		{"select $1::text::int", []any{"s3cret"}},
		{"select 's3cret'::int", nil},
		{"select 's3cret' from", nil},
		{"do $$ begin raise exception 'no s3cret'; end $$", nil},
		{"do $$ begin raise exception 'no s3cret' using errcode = '23514'; end $$", nil},
		{"select $1::text::regclass", []any{"s3cret"}},
		{"select current_setting($1)", []any{"s3cret"}},
		{"select nextval($1::text)", []any{"s3cret"}},
		{"select s3cret.* from (select 1) x /* s3cret */ where 's3cret' = 's3cret'", nil},
		{"select $1::int", []any{struct{ s3cret string }{"s3cret"}}},
		{"select 's3cret'", nil},
	} {
		rows, err := db.Query(statement.sql, statement.args...)
		if err == nil {
			_ = rows.Close()
		}
	}
	text := strings.ReplaceAll(log.buffer.String(), "select s3cret.* from", "") // a name
	text = strings.ReplaceAll(text, `missing FROM-clause entry for table \"s3cret\"`, "")
	assert.NotContains(t, text, "s3cret")
	assert.NotEmpty(t, log.lines(t, "statement failed"))
	assert.NotEmpty(t, log.lines(t, "slow statement"))
}

func TestWhatFailsAgainAndAgainIsLoggedAFewTimesAndCounted(t *testing.T) {
	t.Parallel()
	var log logged
	db := openPool(t, pgtest.NewDatabase(t), log.option(slog.LevelInfo))
	for range 500 {
		_, err := db.Exec("select 1/0")
		require.Equal(t, "22012", sqlState(err))
	}
	require.NoError(t, db.Close())
	lines := log.lines(t, "")
	assert.LessOrEqual(t, len(lines), 8)
	assert.Equal(t, 500, occurrences(lines))
}

// occurrences is how often what lines tell of has happened.
func occurrences(lines []line) (sum int) {
	for _, l := range lines {
		n, _ := l["repeated"].(float64)
		sum += max(1, int(n))
	}
	return sum
}

func TestASlowStatementIsLoggedWithItsWaitApart(t *testing.T) {
	t.Parallel()
	var log logged
	db := openPool(t, oneConn(pgtest.NewDatabase(t), "slow_query", "1s"), log.option(slog.LevelInfo))
	require.NoError(t, db.Ping()) // else a dial that takes longer makes it a long wait
	mustExec(t, db, "select pg_sleep(1.1)")
	lines := log.lines(t, "slow statement")
	require.Len(t, lines, 1)
	assert.Equal(t, "WARN", lines[0]["level"])
	assert.Equal(t, "select", lines[0]["db.query.summary"])
	assert.GreaterOrEqual(t, lines[0]["duration"], float64(1100*time.Millisecond))
	assert.EqualValues(t, 1, lines[0]["rows"])

	holder := hold(t, db)
	done := make(chan error, 1)
	go func() { _, err := db.Exec("select 1"); done <- err }()
	pgtest.Eventually(t, patience, func() bool { return statusOf(t, db).Waiting == 1 }, "nobody waits")
	start := time.Now()
	mustExec(t, holder, "select pg_sleep(1.1)")
	require.NoError(t, holder.Close())
	require.NoError(t, <-done)
	waits := log.lines(t, "a caller waited long for a connection")
	require.Len(t, waits, 1)
	got := waits[0]
	assert.Equal(t, "WARN", got["level"])
	assert.Equal(t, "select", got["db.query.summary"])
	assert.GreaterOrEqual(t, got["waited"], float64(time.Second), "the caller has waited for %v", time.Since(start))
	assert.Less(t, got["duration"], got["waited"])
	for _, l := range log.lines(t, "slow statement") {
		assert.Contains(t, l["statement"], "pg_sleep", "one that was quick is not slow since its caller waited")
	}
}

func TestNothingIsSlowWithZero(t *testing.T) {
	t.Parallel()
	var log logged
	db := openPool(t, with(pgtest.NewDatabase(t), "slow_query", "0"), log.option(slog.LevelDebug))
	mustExec(t, db, "select pg_sleep(0.05)")
	assert.Empty(t, log.buffer.String())
}

func TestEchoLogsEachStatementAndEchoPoolEachEventOfThePool(t *testing.T) {
	t.Parallel()
	var log logged
	db := openPool(t, with(pgtest.NewDatabase(t), "environment", "development", "pool_size", "1", "max_overflow", "1", "slow_query", "20s"),
		log.option(slog.LevelInfo))
	mustExec(t, db, "select 'abc' as x, $1::int", 7)
	statements := log.lines(t, "pgprod: statement")
	require.Len(t, statements, 1)
	assert.Equal(t, "select '?' as x, $1::int", statements[0]["statement"])
	assert.EqualValues(t, 1, statements[0]["rows"])

	a, b := hold(t, db), hold(t, db)
	pid := backendPID(t, b)
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
	_, err := db.Exec("deallocate all") // which makes its session dirty
	require.NoError(t, err)
	require.NoError(t, db.Close())
	for _, event := range []string{"connect", "overflow", "checkout", "checkin", "close: beyond pool_size", "close: its session"} {
		assert.NotEmpty(t, log.lines(t, "pgprod: "+event), event)
	}
	overflow := log.lines(t, "pgprod: overflow")
	assert.EqualValues(t, pid, overflow[0]["pid"])
	for _, l := range log.lines(t, "pgprod: close") {
		assert.Contains(t, []any{"overflow", "dirty", "closed"}, l["reason"])
	}
}

func TestOneCauseIsAFewLinesHoweverManyStatementsItHits(t *testing.T) {
	t.Parallel()
	var log logged
	db := openPool(t, with(pgtest.NewDatabase(t), "default_transaction_read_only", "on"), log.option(slog.LevelInfo))
	const tables, times = 40, 20
	for n := range tables * times {
		_, err := db.Exec(fmt.Sprintf("create table t%d (n int)", n%tables))
		require.Equal(t, "25006", sqlState(err))
	}
	require.NoError(t, db.Close())
	assert.LessOrEqual(t, len(log.lines(t, "")), 6)
	assert.Equal(t, tables*times, occurrences(log.lines(t, "statement failed")))
}

func TestManyCausesAreSoManyLinesAMinuteAndOneThatSaysHowManyWereLeftOut(t *testing.T) {
	t.Parallel()
	var log logged
	db := openPool(t, pgtest.NewDatabase(t), log.option(slog.LevelInfo))
	const tables, times = 90, 5
	for n := range tables * times {
		_, err := db.Exec(fmt.Sprintf("select from missing_%d", n%tables))
		require.Equal(t, "42P01", sqlState(err))
	}
	require.NoError(t, db.Close())
	left := log.lines(t, "some lines were left out")
	require.NotEmpty(t, left)
	lines := log.lines(t, "")
	assert.LessOrEqual(t, len(lines), 2*61, "by the minute")
	last := left[len(left)-1]
	assert.Equal(t, lines[len(lines)-1], last)
	assert.Equal(t, tables*times, occurrences(log.lines(t, "statement failed"))+int(last["left_out"].(float64)))
}

func TestWhatWasCountedInAnOutageIsToldBeforeItsEnd(t *testing.T) {
	t.Parallel()
	var log logged
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	require.NoError(t, proxy.Refuse())
	db := openPool(t, with(proxy.DSN(), "pool_timeout", "20ms"), log.option(slog.LevelInfo))
	const callers = 10
	for range callers {
		require.ErrorIs(t, db.Ping(), pgprod.ErrPoolTimeout)
	}
	last := time.Now()
	require.NoError(t, proxy.Admit())
	pgtest.Eventually(t, patience, func() bool { return db.Ping() == nil }, "no connection")
	lines := log.lines(t, "")
	end := slices.IndexFunc(lines, func(l line) bool { return l["msg"] == "pgprod: connected again" })
	require.Positive(t, end, "%v", lines)
	counted := lines[end-1]
	assert.Equal(t, "pgprod: a caller got no connection", counted["msg"])
	assert.GreaterOrEqual(t, counted["repeated"], float64(callers-3))
	when, err := time.Parse(time.RFC3339, counted["last"].(string))
	require.NoError(t, err)
	assert.WithinDuration(t, last, when, patience)
}

func TestALostConnectionsLineSaysHowThatWasNoticed(t *testing.T) {
	t.Parallel()
	var log logged
	proxy := faultproxy.StartTB(t, pgtest.NewDatabase(t))
	db := openPool(t, oneConn(proxy.DSN()), log.option(slog.LevelInfo))
	require.NoError(t, db.Ping())
	proxy.CloseAll(faultproxy.FIN)
	<-time.After(50 * time.Millisecond) // so that it arrives, and the connection isn't one of which the server was heard just now
	pgtest.Eventually(t, patience, func() bool { return db.Ping() == nil && len(log.lines(t, "the server closed a connection")) > 0 }, "nothing")
	assert.Equal(t, "found closed by the other end when it was to be lent", log.lines(t, "the server closed a connection")[0]["error"])
}

func TestARollbackOnALostConnectionIsLoggedAsThat(t *testing.T) {
	t.Parallel()
	var log logged
	db := openPool(t, pgtest.NewDatabase(t), log.option(slog.LevelInfo))
	tx, err := db.BeginTx(context.Background(), nil)
	require.NoError(t, err)
	pid := backendPID(t, tx)
	_, _ = tx.Exec("select nothing from nowhere where n = $1", 1) // pgx has a statement to take back
	terminate(t, pid)
	_, err = tx.Exec("select 1")
	require.Error(t, err)
	require.Error(t, tx.Rollback())
	failed := log.lines(t, "statement failed")
	require.GreaterOrEqual(t, len(failed), 2, "%v", failed)
	for _, l := range failed {
		assert.NotContains(t, l["error_message"], "deallocate", "%v", l)
	}
}

func TestEchoPoolTellsOfRecyclingAndInvalidation(t *testing.T) {
	t.Parallel()
	var log logged
	db := openPool(t, oneConn(pgtest.NewDatabase(t), "echo_pool", "on", "pool_recycle", "300ms"), log.option(slog.LevelInfo))
	pgtest.Eventually(t, patience, func() bool {
		require.NoError(t, db.Ping())
		return len(log.lines(t, "pgprod: recycle: older than pool_recycle")) > 0
	}, "nothing was recycled")
	assert.Equal(t, "lifetime", log.lines(t, "pgprod: recycle: ")[0]["reason"])

	db = openPool(t, oneConn(pgtest.NewDatabase(t), "echo_pool", "on"), log.option(slog.LevelInfo))
	pgtest.Eventually(t, patience, func() bool {
		if pid := uint32(0); db.QueryRow("select pg_backend_pid()").Scan(&pid) == nil {
			terminate(t, pid)
		}
		return len(log.lines(t, "pgprod: invalidate: dead, or as old as one that was lost")) > 0
	}, "nothing was invalidated")
	assert.Equal(t, "invalid", log.lines(t, "pgprod: invalidate: ")[0]["reason"])
}

func TestAnExhaustedPoolIsLogged(t *testing.T) {
	t.Parallel()
	var log logged
	db := openPool(t, oneConn(pgtest.NewDatabase(t), "pool_timeout", "1s"), log.option(slog.LevelInfo))
	holder := hold(t, db)
	for _, r := range askMany(t.Context(), db, 20) {
		require.ErrorIs(t, r.wait(t), pgprod.ErrPoolTimeout)
	}
	require.NoError(t, holder.Close())
	require.NoError(t, db.Close())
	lines := log.lines(t, "a caller got no connection")
	require.GreaterOrEqual(t, len(lines), 4)
	require.LessOrEqual(t, len(lines), 5)
	assert.Equal(t, "ERROR", lines[0]["level"])
	assert.Contains(t, lines[0]["error_message"], "pool_size 1, max_overflow 0, in use 1")
}

func TestWhatTheCallerCancelsIsNoFailureOfTheDatabase(t *testing.T) {
	t.Parallel()
	var log logged
	db := openPool(t, pgtest.NewDatabase(t), log.option(slog.LevelInfo))
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err := db.ExecContext(ctx, "select pg_sleep(60)")
	require.ErrorIs(t, err, context.Canceled)
	assert.Empty(t, log.buffer.String())
}

func TestACommandTimeoutIsLoggedAsWhatItIs(t *testing.T) {
	t.Parallel()
	pgtest.Confirmed(t, func(t *pgtest.Trial) {
		var log logged
		db := openPool(t, with(pgtest.NewDatabase(t), "command_timeout", "100ms"), log.option(slog.LevelInfo))
		require.NoError(t, db.Ping())
		requireCut(t, t.Cut(100*time.Millisecond, func() error {
			_, err := db.Exec("select pg_sleep(60)")
			return err
		}), context.DeadlineExceeded)
		lines := log.lines(t, "statement failed")
		require.Len(t, lines, 1)
		assert.Equal(t, "the statement exceeded command_timeout (100ms)", lines[0]["error_message"])
		assert.Equal(t, "57014", lines[0]["db.response.status_code"])
	})
}

func TestOnlyFailuresThatACallerGotAreLoggedAsFailed(t *testing.T) {
	t.Parallel()
	var log logged
	db := openPool(t, with(pgtest.NewDatabase(t), "pool_size", "8"), log.option(slog.LevelInfo))
	failed := 0
	for range 10 {
		terminate(t, fill(t, db, 4)...)
		for range 20 {
			if _, err := db.Exec("select 1"); err != nil {
				failed++
			}
		}
	}
	require.NoError(t, db.Close())
	assert.Equal(t, failed, occurrences(log.lines(t, "statement failed")), "what was tried again with success is no failure")
}

func TestAFailureInRawIsLogged(t *testing.T) {
	t.Parallel()
	var log logged
	db := openPool(t, oneConn(pgtest.NewDatabase(t)), log.option(slog.LevelInfo))
	mustExec(t, db, "create table t (a int)")
	read := func() error {
		return pgprod.Raw(context.Background(), db, func(conn *pgx.Conn) error {
			rows, _ := conn.Query(context.Background(), "select * from t where a = $1", 1)
			rows.Close()
			return rows.Err()
		})
	}
	require.NoError(t, read())
	mustExec(t, db, "alter table t add b int")
	require.Equal(t, "0A000", sqlState(read()), "Raw is pgx's own")
	assert.Len(t, log.lines(t, "statement failed"), 1)
}

func TestAPasswordFunctionsWordsAreForItsCallerAlone(t *testing.T) {
	t.Parallel()
	var log logged
	vault := errors.New("the vault said: token s3cret has expired")
	db := openPool(t, strings.Replace(pgtest.NewDatabase(t), ":s3cret@", "@", 1), log.option(slog.LevelDebug),
		pgprod.WithPasswordFunc(func(context.Context) (string, error) { return "", vault }), pgprod.WithPoolTimeout(time.Second))
	err := db.Ping()
	require.ErrorIs(t, err, vault)
	assert.ErrorContains(t, err, "password function: the vault said")
	h := pgprod.Check(context.Background(), db)
	assert.Contains(t, h.Reason, "password function: (*errors.errorString) (there is no password to log in with)")
	assert.NotEmpty(t, log.lines(t, "can't connect"))
	assert.NotContains(t, log.buffer.String()+h.Reason, "s3cret")
}
