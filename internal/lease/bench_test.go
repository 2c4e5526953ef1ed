package lease

import (
	"container/list"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	errRefused  = errors.New("refused")
	errPassword = errors.New("wrong password") // the one that repeating doesn't help
)

// A network is a Dialer whose dials end when the test says how.
type network struct {
	mu    sync.Mutex // guards what follows
	dials []*dial    // under way, the oldest first
	begun int
}

type dial struct {
	began  time.Time
	answer chan error
}

func (n *network) Dial(ctx context.Context) error {
	d := &dial{began: time.Now(), answer: make(chan error, 1)}
	n.mu.Lock()
	n.dials = append(n.dials, d)
	n.begun++
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		n.dials = slices.DeleteFunc(n.dials, func(other *dial) bool { return other == d })
		n.mu.Unlock()
	}()
	select {
	case err := <-d.answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n *network) DialEnded() {}

func (n *network) Hopeless(err error) bool { return errors.Is(err, errPassword) }

func (n *network) underWay() []*dial {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.dials)
}

func (n *network) attempts() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.begun
}

// A bench is a queue in a synctest bubble: time stands still while anything can happen, and what a step sets off is
// over when the step returns.
type bench struct {
	*network
	q       *Queue
	callers []*caller
}

// onBench runs f in a bubble. Whatever f leaves behind is sent away with Close, or the bubble complains.
func onBench(t *testing.T, max int, f func(*testing.T, *bench)) {
	t.Helper()
	onBenchWithMin(t, 0, max, f)
}

// onBenchWithMin is onBench with a queue that keeps a minimum of connections.
func onBenchWithMin(t *testing.T, min, max int, f func(*testing.T, *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(min, max)
		defer b.q.Close()
		f(t, b)
	})
}

func newBench(min, max int) *bench {
	n := &network{}
	return &bench{network: n, q: NewQueue(min, max, n)}
}

// A caller is one call of Acquire or Retry.
type caller struct {
	cancel  context.CancelFunc
	outcome chan outcome
	done    bool // what follows is known
	waited  time.Duration
	err     error
}

type outcome struct {
	waited time.Duration
	err    error
}

func (c *caller) owns() bool { return c.done && c.err == nil }

type acquisition func(context.Context, time.Duration) (time.Duration, error)

// call starts acquire and lets it go as far as it can.
func (b *bench) call(ctx context.Context, acquire acquisition, limit time.Duration) *caller {
	c := &caller{outcome: make(chan outcome, 1)}
	b.callers = append(b.callers, c)
	ctx, c.cancel = context.WithCancel(ctx)
	go func() { // ends with its context, its limit, or the bench's Close
		defer c.cancel()
		waited, err := acquire(ctx, limit)
		c.outcome <- outcome{waited, err}
	}()
	b.settle()
	return c
}

// settle lets everything go as far as it can without time going on, and notes what became of the callers.
func (b *bench) settle() {
	synctest.Wait()
	b.callers = slices.DeleteFunc(b.callers, func(c *caller) bool {
		select {
		case o := <-c.outcome:
			c.done, c.waited, c.err = true, o.waited, o.err
		default:
		}
		return c.done
	})
}

func (b *bench) acquire(limit time.Duration) *caller {
	return b.call(context.Background(), b.q.Acquire, limit)
}

func (b *bench) retry(limit time.Duration) *caller {
	return b.call(context.Background(), b.retryAfter(false), limit)
}

// retryAfter is Retry for a caller that has waited before, or hasn't.
func (b *bench) retryAfter(hasWaited bool) acquisition {
	return func(ctx context.Context, limit time.Duration) (time.Duration, error) {
		return b.q.Retry(ctx, limit, hasWaited)
	}
}

func (b *bench) acquireMany(n int) []*caller {
	callers := make([]*caller, n)
	for i := range callers {
		callers[i] = b.acquire(0)
	}
	return callers
}

// end ends the oldest dial.
func (b *bench) end(err error) {
	b.underWay()[0].answer <- err
	b.settle()
}

func (b *bench) endAll(err error) {
	for _, d := range b.underWay() {
		d.answer <- err
	}
	b.settle()
}

func (b *bench) advance(d time.Duration) {
	time.Sleep(d) // in a bubble: moves the clock
	b.settle()
}

func (b *bench) release() {
	b.q.Release()
	b.settle()
}

// closed ends a connection that is lent: its owner still has to Release or Retry.
func (b *bench) closed() {
	b.q.Closed()
	b.settle()
}

// open makes n connections, none of which is lent.
func (b *bench) open(t *testing.T, n int) {
	t.Helper()
	for b.q.Stats().Open < n {
		c := b.acquire(0)
		if !c.done {
			b.end(nil)
		}
		require.True(t, c.owns())
	}
	for b.q.Stats().Lent > 0 {
		b.release()
	}
}

// lend makes n connections and lends them all.
func (b *bench) lend(t *testing.T, n int) {
	t.Helper()
	for range n {
		c := b.acquire(0)
		if !c.done {
			b.end(nil)
		}
		require.True(t, c.owns())
	}
}

// stageWaiter puts a waiter into the queue of which the test itself is the goroutine.
func (b *bench) stageWaiter() (*waiter, *list.Element) {
	b.q.mu.Lock()
	defer b.q.mu.Unlock()
	w := newWaiter().(*waiter)
	return w, b.q.enqueueLocked(w)
}

func owners(callers []*caller) (n int) {
	for _, c := range callers {
		if c.owns() {
			n++
		}
	}
	return n
}
