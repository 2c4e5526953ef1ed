package diary

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgprod/pgprod/internal/activity"
)

func TestAnOrdinaryStatementIsNotAskedWhatItIsAndCostsNoAllocation(t *testing.T) {
	var log log
	d := log.open(t, Options{EchoPool: true, Slow: time.Second})
	var n named
	ctx := t.Context()
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		d.Statement(ctx, Statement{Named: &n, Took: time.Millisecond, Waited: time.Millisecond})
	}))
	assert.Zero(t, n.asked)
	assert.Empty(t, log.take())
}

func BenchmarkAnOrdinaryStatement(b *testing.B) {
	d := New(Options{Slow: time.Second})
	defer d.Close()
	var n named
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		d.Statement(ctx, Statement{Named: &n, Took: time.Millisecond})
	}
}

func TestASlowStatementIsALine(t *testing.T) {
	var log log
	d := log.open(t, Options{Slow: time.Second})
	s := ended(900 * time.Millisecond)
	d.Statement(t.Context(), s)
	assert.Empty(t, log.take())
	s.Waited, s.Server, s.Read = 100*time.Millisecond, 700*time.Millisecond, 150*time.Millisecond
	d.Statement(t.Context(), s)
	assert.Equal(t, []line{{
		"level": slog.LevelWarn, "message": "pgprod: slow statement", "pool": "orders", "db.query.summary": "SELECT orders",
		"waited": 100 * time.Millisecond, "server": 700 * time.Millisecond, "reading": 150 * time.Millisecond,
		"duration": 900 * time.Millisecond, "statement": "SELECT orders where id = ?", "rows": int64(7),
	}}, log.take())
	assert.Empty(t, d.Errors())
}

func TestSlowStatementsAreKeptTheNewestFirstWhateverTheLogTakes(t *testing.T) {
	log := log{level: slog.LevelError}
	d := log.open(t, Options{Slow: time.Second})
	d.Statement(t.Context(), ended(time.Second))
	assert.Empty(t, d.Slow(), "nobody watches")
	d.Watch()
	traced := func(flags trace.TraceFlags) context.Context {
		sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{0x4b}, SpanID: trace.SpanID{1}, TraceFlags: flags})
		return trace.ContextWithSpanContext(t.Context(), sc)
	}
	d.Statement(t.Context(), ended(time.Millisecond))
	d.Statement(traced(0), ended(time.Second))
	failed := failing(StatementError{Type: "57014"})
	failed.Cause, failed.Waited = &activity.Cause{State: activity.Running}, time.Second
	failed.Server, failed.Read = 900*time.Millisecond, 100*time.Millisecond
	d.Statement(traced(trace.FlagsSampled), failed)
	d.Statement(t.Context(), failing(StatementError{Type: "42P01"}))
	slow := d.Slow()
	require.Len(t, slow, 3)
	assert.Equal(t, "42P01", slow[0].Failed)
	assert.WithinDuration(t, time.Now(), slow[1].At, time.Minute)
	slow[1].At = time.Time{}
	assert.Equal(t, activity.SlowStatement{
		Summary: "SELECT orders", Took: time.Second, Waited: time.Second, Failed: "57014",
		Server: 900 * time.Millisecond, Read: 100 * time.Millisecond, TraceID: "4b000000000000000000000000000000",
		Cause: failed.Cause, Found: failed.Cause.String(),
	}, slow[1])
	assert.Empty(t, slow[2].TraceID, "it isn't sampled")
	assert.EqualValues(t, 7, slow[2].Rows)
	for range 2 * maxSlow {
		d.Statement(t.Context(), ended(time.Second))
	}
	assert.Len(t, d.Slow(), maxSlow)
}

func TestAWaitThatIsLongerThanItsStatementIsThePoolsMatter(t *testing.T) {
	var log log
	d := log.open(t, Options{Slow: time.Second, Echo: true})
	s := ended(time.Millisecond)
	s.Waited = time.Second
	for range 5 {
		d.Statement(t.Context(), s)
	}
	lines := log.take()
	require.Len(t, lines, 3)
	assert.Equal(t, line{
		"level": slog.LevelWarn, "message": "pgprod: a caller waited long for a connection", "pool": "orders",
		"waited": time.Second, "db.query.summary": "SELECT orders", "duration": time.Millisecond,
	}, lines[0])
}

func TestNoStatementIsSlowWhereTheLimitIsZero(t *testing.T) {
	var log log
	log.open(t, Options{}).Statement(t.Context(), ended(10_000*time.Hour))
	assert.Empty(t, log.take())
}

func TestWhoWantsAllStatementsGetsEachOfThem(t *testing.T) {
	var log log
	d := log.open(t, Options{Echo: true})
	for range 10 {
		d.Statement(t.Context(), ended(time.Millisecond))
	}
	lines := log.take()
	require.Len(t, lines, 10)
	assert.Equal(t, line{
		"level": slog.LevelInfo, "message": "pgprod: statement", "pool": "orders",
		"statement": "SELECT orders where id = ?", "duration": time.Millisecond, "rows": int64(7),
	}, lines[0])
	for range 10 {
		d.Statement(t.Context(), failing(StatementError{Level: slog.LevelError}))
	}
	assert.Len(t, log.take(), 10)
}

func TestAFailedStatementIsALineAndAnError(t *testing.T) {
	for _, c := range []struct {
		name   string
		e      StatementError
		want   line
		errors []string
	}{
		{"the server's", StatementError{
			Level: slog.LevelWarn, Type: "23505", Message: "duplicate key", SQLState: "23505", Constraint: "orders_pkey"},
			line{"error.type": "23505", "error_message": "duplicate key", "db.response.status_code": "23505", "constraint": "orders_pkey"},
			[]string{"statement: SELECT orders: duplicate key (SQLSTATE 23505)"}},
		{"the connection's", StatementError{Level: slog.LevelError, Type: "connection_lost", Message: "reset", HitsAll: true},
			line{"error.type": "connection_lost", "error_message": "reset"},
			[]string{"statement: SELECT orders: reset"}},
		{"its caller's", StatementError{Level: slog.LevelDebug, Type: "canceled", Message: "cancelled", HitsAll: true},
			line{"error.type": "canceled", "error_message": "cancelled"},
			nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := log{level: slog.LevelDebug}
			d := log.open(t, Options{Slow: time.Nanosecond})
			s := failing(c.e)
			s.Server, s.Read = 900*time.Millisecond, time.Millisecond
			d.Statement(t.Context(), s)
			c.want["server"], c.want["reading"] = s.Server, s.Read // since it was slow
			c.want["level"], c.want["message"], c.want["pool"] = c.e.Level, "pgprod: statement failed", "orders"
			c.want["db.query.summary"], c.want["duration"] = "SELECT orders", time.Second
			assert.Equal(t, []line{c.want}, log.take())
			assert.Equal(t, c.errors, said(d.Errors()))
			for _, one := range d.Errors() {
				assert.Equal(t, c.e.Level == slog.LevelWarn, one.Warning)
			}
		})
	}
}

func TestFailuresThatHitAllStatementsAreOfOneKind(t *testing.T) {
	var log log
	d := log.open(t, Options{})
	fail := func(hitsAll bool) {
		for i := range 10 {
			s := failing(StatementError{Level: slog.LevelError, Type: "25006", SQLState: "25006", HitsAll: hitsAll})
			s.Named = &named{summary: fmt.Sprint("SELECT ", i)}
			d.Statement(t.Context(), s)
		}
	}
	fail(true)
	assert.Len(t, log.take(), 3)
	assert.Len(t, d.Errors(), 1)
	fail(false)
	assert.Len(t, log.take(), 10)
	assert.Len(t, d.Errors(), 11)
}

func TestAnErrorIsKeptForTheLivePageWhoeverReadsTheLog(t *testing.T) {
	log := log{level: slog.LevelError + 1}
	d := log.open(t, Options{})
	d.Statement(t.Context(), failing(StatementError{Level: slog.LevelError, Message: "no such table"}))
	assert.Empty(t, log.take())
	assert.Equal(t, []string{"statement: SELECT orders: no such table"}, said(d.Errors()))
}

func TestWhoWatchesSeesEachStatement(t *testing.T) {
	var log log
	d := log.open(t, Options{})
	d.Statement(t.Context(), ended(time.Second))
	d.Watch()
	assert.Empty(t, d.Statements())
	d.Statement(t.Context(), ended(time.Second))
	d.Statement(t.Context(), failing(StatementError{Level: slog.LevelDebug}))
	all := d.Statements()
	require.Len(t, all, 1)
	assert.Equal(t, "SELECT orders", all[0].Summary)
	assert.EqualValues(t, 2, all[0].Count)
	assert.EqualValues(t, 1, all[0].Errors)
	assert.EqualValues(t, 7, all[0].Rows)
}

func TestALongTextIsCutAtTheEndOfACharacter(t *testing.T) {
	assert.Equal(t, "é", shorten("é"))
	long := shorten("x" + strings.Repeat("é", maxText))
	assert.Equal(t, "x"+strings.Repeat("é", (maxText-1)/2)+"…", long)
}

func TestAStatementWhoseEndNobodySawIsToldAsFailed(t *testing.T) {
	var log log
	d := log.open(t, Options{})
	d.Abandoned(&named{summary: "SELECT orders"}, Failure{Type: "abandoned", Text: "given back in its middle"})
	assert.Equal(t, []line{{
		"level": slog.LevelError, "message": "pgprod: statement failed", "pool": "orders",
		"db.query.summary": "SELECT orders", "error.type": "abandoned", "error_message": "given back in its middle",
	}}, log.take())
}

func TestAWarningOfTheServerIsToldWithItsStatementIfThereIsOne(t *testing.T) {
	var log log
	d := log.open(t, Options{})
	text := func() string { return "there is no transaction in progress" }
	want := line{
		"level": slog.LevelWarn, "message": "pgprod: the server warns", "pool": "orders",
		"db.response.status_code": "25P01", "warning": "there is no transaction in progress",
	}
	d.Warned("25P01", nil, text)
	assert.Equal(t, []line{want}, log.take())
	want["db.query.summary"] = "COMMIT"
	d.Warned("25P01", &named{summary: "COMMIT"}, text)
	assert.Equal(t, []line{want}, log.take())
}

func TestACommitWithoutAnAnswerIsALine(t *testing.T) {
	var log log
	d := log.open(t, Options{})
	d.CommitUnknown("reply_lost", "the outcome is unknown", "connection lost")
	assert.Equal(t, []line{{
		"level": slog.LevelError, "message": "pgprod: the outcome is unknown", "pool": "orders", "reason": "reply_lost", "error_message": "connection lost",
	}}, log.take())
	require.Len(t, d.Errors(), 1)
	assert.Equal(t, "the outcome is unknown: connection lost", d.Errors()[0].Text)
}

func TestAStatementThatRanManyTimesInARowIsAWarning(t *testing.T) {
	var log log
	d := log.open(t, Options{})
	r := activity.Repetition{
		Summary: "SELECT items", Caller: "shop.(*Cart).Load cart.go:52", Stack: []string{"shop.(*Cart).Load cart.go:52", "main.main main.go:3"},
		Times: 10, Found: 1,
	}
	d.Repeated(t.Context(), r)
	r.Summary = "insert items"
	d.Repeated(t.Context(), r)
	lines := log.take()
	assert.Equal(t, line{
		"level": slog.LevelWarn, "pool": "orders", "db.query.summary": "SELECT items", "caller": r.Caller, "stack": r.Stack,
		"message": `pgprod: the same statement ran 10 times in a row under one parent: "SELECT items" called by shop.(*Cart).Load cart.go:52`,
		"instead": "ask for all rows at once, before the loop: a join, id = any($1), an ORM's preloading",
	}, lines[0])
	assert.Contains(t, lines[1]["instead"], "COPY")
}

func TestWhatIsNotKeptIsToldOnceForEachTextAndOfSoManyTexts(t *testing.T) {
	var log log
	d := log.open(t, Options{Echo: true})
	d.Unkept("set a = ?", "a setting", "server_settings")
	d.Unkept("set a = ?", "a setting", "server_settings")
	assert.Equal(t, []line{{
		"level": slog.LevelWarn, "message": "pgprod: a setting doesn't outlive its statement: the connection went back to the pool",
		"pool": "orders", "statement": "set a = ?", "instead": "server_settings",
	}}, log.take())
	for i := range 2 * maxOnceEach {
		d.Unkept(fmt.Sprint("set a", i), "a setting", "server_settings")
	}
	assert.Len(t, log.take(), maxOnceEach-1)
}
