package repeats

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgprod/pgprod/internal/activity"
)

// program runs statements by a clock of its own.
type program struct {
	*Detector
	at   int64
	told []activity.Repetition
}

func newProgram() *program {
	p := &program{at: int64(time.Hour)}
	p.Detector = New(func(_ context.Context, r activity.Repetition) { p.told = append(p.told, r) })
	return p
}

// run runs a statement of a millisecond several times.
func (p *program) run(ctx context.Context, summary string, times int) {
	for range times {
		p.statement(ctx, summary, time.Millisecond, time.Millisecond)
	}
}

// statement runs a statement, after a pause.
func (p *program) statement(ctx context.Context, summary string, pause, took time.Duration) {
	p.at += int64(pause)
	r := p.Began(ctx, summary, p.at)
	p.at += int64(took)
	r.Ended(p.at)
}

// request returns a context as a server makes it for a request.
func request(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return ctx
}

// span returns a context with a span, given the number of its trace and its own.
func span(ctx context.Context, traceID, spanID byte) context.Context {
	return trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{traceID}, SpanID: trace.SpanID{spanID}, TraceFlags: trace.FlagsSampled,
	}))
}

func TestAStatementIsFoundWhenItRunsTheTenthTimeInARow(t *testing.T) {
	p := newProgram()
	ctx := request(t)
	p.run(ctx, "SELECT orders", 1)
	p.run(ctx, "SELECT items", Enough-1)
	require.Empty(t, p.told)
	p.run(ctx, "SELECT items", 1)
	require.Len(t, p.told, 1)
	got := p.told[0]
	assert.Equal(t, "SELECT items", got.Summary)
	assert.Equal(t, Enough, got.Times)
	assert.Equal(t, 1, got.Found)
	assert.Regexp(t, `^testing\.tRunner testing\.go:\d+$`, got.Caller, "this package isn't the application's")
	assert.Equal(t, got.Caller, got.Stack[0])
	assert.Equal(t, p.told, p.List())
}

func TestARowThatGoesOnIsTheSameFindingWithMoreTimes(t *testing.T) {
	p := newProgram()
	ctx := request(t)
	p.run(ctx, "SELECT items", 52)
	assert.Len(t, p.told, 1)
	got := p.List()[0]
	assert.Equal(t, 52, got.Times)
	assert.Equal(t, 1, got.Found)

	p.run(ctx, "SELECT orders", 1)
	p.run(ctx, "SELECT items", 20)
	assert.Len(t, p.told, 1, "the same line")
	got = p.List()[0]
	assert.Equal(t, 52, got.Times, "the longest")
	assert.Equal(t, 2, got.Found)
	assert.False(t, got.Last.Before(got.First))

	p.run(ctx, "SELECT prices", Enough)
	assert.Len(t, p.told, 2)
	assert.Equal(t, "SELECT items", p.List()[0].Summary, "the most in a row first")
}

func TestAnotherStatementInBetweenBeginsANewRow(t *testing.T) {
	p := newProgram()
	ctx := request(t)
	for range 3 * Enough {
		p.run(ctx, "SELECT items", Enough-1)
		p.run(ctx, "SELECT orders", 1)
	}
	assert.Empty(t, p.told)
}

func TestWhatTicksOrPollsIsNoRow(t *testing.T) {
	p := newProgram()
	ctx := request(t)
	for range 3 * Enough {
		p.statement(ctx, "SELECT jobs", maxPause+1, time.Millisecond)
	}
	assert.Empty(t, p.told)
	for range Enough {
		p.statement(ctx, "SELECT jobs", maxPause, time.Millisecond)
	}
	assert.Len(t, p.told, 1, "a shorter pause")
}

func TestSlowStatementsAreARowAsWell(t *testing.T) {
	p := newProgram()
	ctx := request(t)
	for range Enough {
		p.statement(ctx, "SELECT items", time.Millisecond, 5*time.Second)
	}
	assert.Len(t, p.told, 1)
}

func TestOtherRequestsDontHideARowAndAreNoneTogether(t *testing.T) {
	p := newProgram()
	loop := request(t)
	for range Enough - 1 {
		p.run(loop, "SELECT items", 1)
		p.run(request(t), "SELECT orders", 1)
		p.run(request(t), "SELECT items", 1)
	}
	assert.Empty(t, p.told)
	p.run(loop, "SELECT items", 1)
	assert.Len(t, p.told, 1)
}

func TestGoroutinesWithoutAContextOfTheirOwnAreParents(t *testing.T) {
	p := newProgram()
	ctx := context.Background()
	elsewhere := func(summary string) {
		var w sync.WaitGroup
		w.Go(func() { p.run(ctx, summary, 1) })
		w.Wait()
	}
	for range Enough - 1 {
		elsewhere("SELECT items")
		p.run(ctx, "SELECT items", 1)
		elsewhere("SELECT orders")
	}
	assert.Empty(t, p.told)
	p.run(ctx, "SELECT items", 1)
	assert.Len(t, p.told, 1)
}

func TestContextsThatAreMadeForOneCallDontHideARow(t *testing.T) {
	type key struct{}
	for name, made := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"with a timeout": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Hour)
		},
		"with a value": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithValue(ctx, key{}, 1), func() {}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProgram()
			parent := request(t)
			for range Enough {
				ctx, cancel := made(parent)
				p.run(ctx, "SELECT items", 1)
				cancel()
			}
			assert.Len(t, p.told, 1)
		})
	}
}

func TestAContextAndASpanAreParentsWhicheverGoroutine(t *testing.T) {
	for name, ctx := range map[string]context.Context{"context": request(t), "span": span(t.Context(), 1, 1)} {
		t.Run(name, func(t *testing.T) {
			p := newProgram()
			for range Enough {
				var w sync.WaitGroup
				w.Go(func() { p.run(ctx, "SELECT items", 1) })
				w.Wait()
			}
			assert.Len(t, p.told, 1)
		})
	}
}

func TestOtherSpansOfATraceDontHideARow(t *testing.T) {
	p := newProgram()
	for n := range Enough {
		p.run(span(request(t), 1, 1), "SELECT items", 1)
		p.run(span(request(t), 1, 2), fmt.Sprint("SELECT t", n), 1)
	}
	require.Len(t, p.told, 1)
	assert.Equal(t, "SELECT items", p.told[0].Summary)
}

func TestSpansOfSingleCallsDontHideARow(t *testing.T) {
	p := newProgram()
	for i := range byte(2 * Enough) {
		p.run(span(request(t), 1, i+1), "SELECT items", 1)
	}
	require.Len(t, p.told, 1)
	assert.Equal(t, 2*Enough, p.List()[0].Times)

	p = newProgram()
	for i := range byte(2 * Enough) {
		p.run(span(request(t), i+1, 1), "SELECT items", 1)
	}
	assert.Empty(t, p.told, "each is of another trace")
}

func TestARowThatIsFoundBySpanAndByTraceCountsOnce(t *testing.T) {
	p := newProgram()
	p.run(span(request(t), 1, 1), "SELECT items", 5)
	p.run(span(request(t), 1, 2), "SELECT items", 3*Enough) // by trace at the fifth, by span at the tenth
	require.Len(t, p.told, 1)
	assert.Equal(t, 1, p.List()[0].Found)
	assert.Equal(t, 3*Enough+5, p.List()[0].Times)
}

func TestNoMoreIsKeptThanTheLimitsSay(t *testing.T) {
	p := newProgram()
	loop := request(t)
	for n := range 3 * maxParents {
		if n%(maxParents/3) == 0 {
			p.run(loop, "SELECT items", 1)
		}
		p.statement(span(t.Context(), 1, 1), "SELECT orders", 0, 0)
		p.statement(trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: trace.TraceID{byte(n), byte(n >> 8), 1}, SpanID: trace.SpanID{1},
		})), "SELECT orders", 0, 0)
	}
	assert.LessOrEqual(t, len(p.now), maxParents)
	assert.LessOrEqual(t, len(p.old), maxParents)
	require.Positive(t, len(p.old))

	p = newProgram()
	for n := range 2 * maxFound {
		p.run(request(t), fmt.Sprint("SELECT t", n), Enough)
	}
	assert.Len(t, p.List(), maxFound)
	assert.Len(t, p.told, 2*maxFound)
	assert.NotContains(t, fmt.Sprint(p.List()), "SELECT t0 ", "the oldest made room")
	assert.Contains(t, fmt.Sprint(p.List()), fmt.Sprint("SELECT t", 2*maxFound-1))
}

func TestARowSurvivesThatOldParentsAreForgotten(t *testing.T) {
	p := newProgram()
	loop := request(t)
	for n := range Enough {
		p.statement(loop, "SELECT items", 0, 0)
		for range maxParents / 2 {
			n++
			ctx, cancel := context.WithCancel(t.Context())
			p.statement(ctx, "SELECT orders", 0, 0)
			cancel()
		}
	}
	assert.Len(t, p.told, 1)
}

func TestANilDetectorHasFoundNothing(t *testing.T) {
	var d *Detector
	assert.Empty(t, d.List())
	Rows{}.Ended(1)
}

func TestTheNumberOfAGoroutineIsItsOwn(t *testing.T) {
	mine := goroutine()
	require.Positive(t, mine)
	assert.Equal(t, mine, goroutine())
	var w sync.WaitGroup
	w.Go(func() { assert.NotEqual(t, mine, goroutine()) })
	w.Wait()

	var buf [1 << 10]byte // what is relied on of the runtime's text
	text := string(buf[:runtime.Stack(buf[:], false)])
	assert.True(t, strings.HasPrefix(text, fmt.Sprintf("goroutine %d [running]:", mine)), text)
}

// Statements of many goroutines at once, for the race detector.
func TestManyGoroutinesMayRunStatementsAtOnce(t *testing.T) {
	var mu sync.Mutex
	told := map[string]int{}
	d := New(func(_ context.Context, r activity.Repetition) {
		mu.Lock()
		defer mu.Unlock()
		told[r.Summary]++
	})
	var w sync.WaitGroup
	for n := range 8 {
		w.Go(func() {
			for i := range 1000 {
				d.Began(span(t.Context(), 1, byte(n%2+1)), fmt.Sprint("SELECT t", n), int64(i)).Ended(int64(i))
			}
			d.List()
		})
	}
	w.Wait()
	for summary, times := range told {
		assert.Equal(t, 1, times, summary)
	}
}

func BenchmarkAStatementInDevelopment(b *testing.B) {
	d := New(func(context.Context, activity.Repetition) {})
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	b.ReportAllocs()
	for i := range b.N {
		d.Began(ctx, [...]string{"SELECT orders", "SELECT items"}[i%2], int64(i)).Ended(int64(i))
	}
}

func BenchmarkTheNumberOfAGoroutine(b *testing.B) {
	var deep func(int)
	deep = func(n int) {
		if n > 0 {
			deep(n - 1)
			return
		}
		for b.Loop() {
			goroutine()
		}
	}
	deep(60)
}
