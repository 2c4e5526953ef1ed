package pool

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/pgprod/pgprod/internal/clock"
)

// ask has a question asked that began a while ago, and returns what became of it, how often it was asked, and how long it took.
func ask(t *testing.T, limit, ago time.Duration, knock func(ctx context.Context, n int) error) (o outcome, n int, took time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Hour - time.Duration(clock.Now())) // the bubble begins in 2000, package clock when the process does
		q := &question{began: clock.Now() - int64(ago), place: &place{}, limit: limit, pause: time.Second / knocks}
		q.ctx, q.stop = context.WithCancel(t.Context())
		asked := make(chan int, 100)
		asked <- 0
		q.knock = func(ctx context.Context, gss bool) error {
			i := <-asked
			asked <- i + 1
			assert.Equal(t, i < 2, gss)
			return knock(ctx, i)
		}
		start := time.Now()
		q.ask()
		o, n, took = q.outcome(), <-asked, time.Since(start)
	})
	return o, n, took
}

var errNobody = errors.New("nobody answers")

// nobody doesn't answer.
func nobody(ctx context.Context, _ int) error { <-ctx.Done(); return errNobody }

func TestWhatBecomesOfAQuestion(t *testing.T) {
	o, n, took := ask(t, time.Second, 0, nobody)
	assert.Equal(t, []any{unanswered, 4, time.Second}, []any{o, n, took})

	o, n, took = ask(t, time.Second, 0, func(context.Context, int) error { return nil })
	assert.Equal(t, []any{answered, 1, time.Duration(0)}, []any{o, n, took}, "as a rule there is one connection")

	o, n, took = ask(t, time.Second, 0, func(ctx context.Context, i int) error {
		if i == 3 {
			time.Sleep(100 * time.Millisecond)
			return nil
		}
		return errNobody // such as no route to the host
	})
	assert.Equal(t, []any{answered, 4, 850 * time.Millisecond}, []any{o, n, took}, "one of them is enough")

	o, _, _ = ask(t, time.Second, 0, func(ctx context.Context, _ int) error { <-ctx.Done(); return nil })
	assert.Equal(t, answered, o, "in the last moment")

	o, n, took = ask(t, 3*time.Second, 0, nobody)
	assert.Equal(t, []any{unanswered, 12, 3 * time.Second}, []any{o, n, took}, "a host that was slow has longer")
}

// TestAQuestionThatWasHeldUpSaysNothing: the goroutine that asks has begun late, as if this process had been stopped.
func TestAQuestionThatWasHeldUpSaysNothing(t *testing.T) {
	o, _, _ := ask(t, time.Second, 251*time.Millisecond, nobody)
	assert.Equal(t, unclear, o)
	o, _, _ = ask(t, time.Second, 200*time.Millisecond, nobody)
	assert.Equal(t, unanswered, o)
}

func TestAQuestionThatIsGivenUpSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &question{began: clock.Now(), place: &place{}, limit: time.Second, pause: time.Second / knocks}
		q.ctx, q.stop = context.WithCancel(t.Context())
		q.knock = func(ctx context.Context, _ bool) error { return nobody(ctx, 0) }
		time.AfterFunc(time.Second/2, q.giveUp)
		q.ask()
		assert.Equal(t, unclear, q.outcome())
	})
}

func TestThePaceOfAnswersIsForgottenByAndBy(t *testing.T) {
	at := &place{}
	at.notePace(800 * time.Millisecond)
	at.notePace(time.Millisecond)
	assert.Equal(t, int64(700*time.Millisecond), at.pace.Load())
	at.notePace(900 * time.Millisecond)
	assert.Equal(t, int64(900*time.Millisecond), at.pace.Load())
}
