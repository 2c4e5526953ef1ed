package diary

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
)

func TestWhatHappensAgainIsCountedAndToldLaterWithTheTimeOfTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log log
		d := log.open(t, Options{})
		for range 10 {
			d.Lost(Failure{Text: "connection reset"})
		}
		last := time.Now()
		assert.Len(t, log.take(), 3)
		time.Sleep(time.Minute)
		assert.Equal(t, []line{{
			"level": slog.LevelWarn, "message": "pgprod: the server closed a connection, idle ones are replaced", "pool": "orders",
			"error": "connection reset", "repeated": int64(7), "last": last,
		}}, log.take())
	})
}

func TestWhatIsOnlyCountedIsToldByClose(t *testing.T) {
	var log log
	d := log.open(t, Options{})
	for range 10 {
		d.Unserved(t.Context(), Failure{Type: "timeout"}, time.Second)
	}
	assert.Len(t, log.take(), 3)
	d.Close()
	lines := log.take()
	require.Len(t, lines, 1)
	assert.EqualValues(t, 7, lines[0]["repeated"])
}

func TestStatementsDoNotCrowdOutWhatHappensToThePool(t *testing.T) {
	var log log
	d := log.open(t, Options{Slow: time.Second})
	for i := range 1000 {
		d.Statement(t.Context(), Statement{Named: &named{summary: fmt.Sprint(i)}, Took: time.Second})
	}
	assert.Len(t, log.take(), 60)
	d.Lost(Failure{})
	assert.Len(t, log.take(), 1)
	d.Close()
	lines := log.take()
	require.NotEmpty(t, lines)
	last := lines[len(lines)-1]
	assert.Equal(t, "pgprod: too much happens at once to log all of it, some lines were left out", last["message"])
	assert.Positive(t, last["left_out"])
}

func TestALineHasTheSpanOfItsContext(t *testing.T) {
	var log log
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	log.open(t, Options{Echo: true}).Statement(trace.ContextWithSpanContext(t.Context(), span), ended(0))
	lines := log.take()
	require.Len(t, lines, 1)
	assert.Equal(t, span.TraceID().String(), lines[0]["trace_id"])
	assert.Equal(t, span.SpanID().String(), lines[0]["span_id"])
}

func TestWithoutALoggerTheDefaultAtTheTimeOfTheLineIsUsed(t *testing.T) {
	d := New(Options{})
	defer d.Close()
	before := slog.Default()
	defer slog.SetDefault(before)
	var log log
	slog.SetDefault(slog.New(&log))
	d.Lost(Failure{})
	assert.Len(t, log.take(), 1)
}

// The handler is the application's: it may log to a table by way of the pool that it logs for.
func TestALogHandlerMayCallTheDiaryFromEachOfItsLines(t *testing.T) {
	var log log
	var d *Diary
	var depth atomic.Int32
	log.handled = func(string) {
		if depth.Add(1) == 1 {
			everything(context.Background(), d)
		}
		depth.Add(-1)
	}
	d = log.open(t, Options{Echo: true, EchoPool: true, Slow: time.Second})
	within(t, "by methods", func() { everything(t.Context(), d) })
	counted := log.open(t, Options{EchoPool: true, Slow: time.Second})
	d = counted
	within(t, "with limits, and by Close", func() {
		for range 10 {
			everything(t.Context(), counted)
		}
		counted.Close()
	})
}

func TestALogHandlerThatHangsKeepsNobodyElseWaiting(t *testing.T) {
	messages := map[string]bool{}
	{
		var log log
		everything(t.Context(), log.open(t, Options{Echo: true, EchoPool: true, Slow: time.Second}))
		everything(t.Context(), log.open(t, Options{EchoPool: true, Slow: time.Second}))
		for _, l := range log.take() {
			messages[l["message"].(string)] = true
		}
	}
	require.Len(t, messages, 26, "all that a diary writes, but for what was left out")
	for message := range messages {
		t.Run(message, func(t *testing.T) {
			var log log
			entered, leave := make(chan struct{}), make(chan struct{})
			var once sync.Once
			log.handled = func(m string) {
				if m == message {
					once.Do(func() {
						close(entered)
						<-leave
					})
				}
			}
			d := log.open(t, Options{Echo: message == "pgprod: statement", EchoPool: true, Slow: time.Second})
			var hanging sync.WaitGroup
			hanging.Go(func() { everything(context.Background(), d) })
			<-entered
			log.handled = func(string) {}
			within(t, message, func() { everything(context.Background(), d) })
			close(leave)
			hanging.Wait()
		})
	}
}

func TestWhereTheHandlerTakesNoLinesNothingIsAskedOrCounted(t *testing.T) {
	log := log{level: slog.LevelError + 1}
	d := log.open(t, Options{Echo: true, EchoPool: true, Slow: time.Second})
	everything(t.Context(), d)
	var n named
	d.Statement(t.Context(), Statement{Named: &n})
	d.Statement(t.Context(), Statement{Named: &n, Took: time.Hour})
	d.Statement(t.Context(), Statement{Named: &n, Waited: time.Hour})
	d.Statement(t.Context(), Statement{Named: &n, Error: &StatementError{Level: slog.LevelDebug}})
	d.Abandoned(&n, Failure{})
	d.Warned("01000", &n, func() string { n.asked++; return "" })
	assert.Zero(t, n.asked)
	assert.Empty(t, log.take())

	for range 10 {
		d.Lost(Failure{})
	}
	log.level = slog.LevelDebug
	d.Close()
	assert.Empty(t, log.take(), "a line that nobody would have got isn't one of those that are told later")
}

func TestADiaryIsSafeForConcurrentUse(t *testing.T) {
	var log log
	d := log.open(t, Options{EchoPool: true, Slow: time.Second})
	d.Watch()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				everything(context.Background(), d)
				_ = d.Statements()
			}
		})
	}
	all.Wait()
	d.Close()
	assert.NotEmpty(t, log.take())
}
