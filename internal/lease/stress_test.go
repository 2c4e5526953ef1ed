package lease

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A garage is a Dialer that keeps idle connections, as package pool does, and notices if one is given to two callers.
type garage struct {
	t      *testing.T
	q      *Queue
	places int64

	exist atomic.Int64

	mu   sync.Mutex // guards what follows
	idle []*vehicle
}

type vehicle struct{ busy atomic.Bool }

func (g *garage) Dial(ctx context.Context) error {
	if n := g.exist.Add(1); n > g.places {
		g.t.Errorf("%d connections in %d places", n, g.places)
	}
	t := time.NewTimer(rand.N(200 * time.Microsecond))
	defer t.Stop()
	select {
	case <-ctx.Done():
		g.exist.Add(-1)
		return ctx.Err()
	case <-t.C:
	}
	if rand.IntN(64) == 0 {
		g.exist.Add(-1)
		return errRefused
	}
	g.keep(&vehicle{})
	return nil
}

func (g *garage) DialEnded() {}

func (g *garage) Hopeless(error) bool { return false }

func (g *garage) keep(v *vehicle) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.idle = append(g.idle, v)
}

func (g *garage) take() *vehicle {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.idle) == 0 {
		return nil
	}
	v := g.idle[0]
	g.idle = g.idle[1:]
	return v
}

func (g *garage) scrap() {
	g.exist.Add(-1)
	g.q.Closed()
}

// drive is one caller's whole visit.
func (g *garage) drive(ctx context.Context, limit time.Duration) error {
	_, err := g.q.Acquire(ctx, limit)
	for err == nil {
		v := g.take()
		if v == nil { // an idle one was scrapped at this very moment
			_, err = g.q.Retry(ctx, limit, true)
			continue
		}
		if v.busy.Swap(true) {
			g.t.Error("a connection was given to two callers")
		}
		if rand.IntN(16) == 0 { // it turns out to be dead
			g.scrap()
			_, err = g.q.Retry(ctx, limit, true)
			continue
		}
		if rand.IntN(4) == 0 {
			time.Sleep(rand.N(50 * time.Microsecond)) // work
		}
		v.busy.Store(false)
		if rand.IntN(16) == 0 {
			g.scrap()
		} else {
			g.keep(v)
		}
		g.q.Release()
		return nil
	}
	return err
}

func TestUnderStressEveryPlaceComesBack(t *testing.T) {
	for _, places := range []int{1, 3, 16} {
		g := &garage{t: t, places: int64(places)}
		g.q = NewQueue(0, places, g)
		var served, sentAway atomic.Int64
		var wg sync.WaitGroup
		for range 32 {
			wg.Go(func() {
				for range 300 {
					ctx, cancel := context.WithCancel(context.Background())
					var limit time.Duration
					switch rand.IntN(4) {
					case 0:
						limit = 1 + rand.N(time.Millisecond)
					case 1:
						time.AfterFunc(rand.N(time.Millisecond), cancel)
					}
					switch err := g.drive(ctx, limit); {
					case err == nil:
						served.Add(1)
					case errors.Is(err, ErrTimeout) && limit > 0, errors.Is(err, context.Canceled) && limit == 0:
						sentAway.Add(1)
					default:
						t.Error(err)
					}
					cancel()
				}
			})
		}
		stop := make(chan struct{})
		var idler sync.WaitGroup
		idler.Go(func() { // scraps idle connections; ended by stop
			for tick := time.NewTicker(100 * time.Microsecond); ; {
				select {
				case <-stop:
					tick.Stop()
					return
				case <-tick.C:
					if v := g.take(); v != nil {
						g.scrap()
					}
				}
			}
		})
		wg.Wait()
		close(stop)
		idler.Wait()
		s := g.q.Stats()
		require.Zero(t, s.Lent+s.Waiting, "%+v", s)
		require.EqualValues(t, sentAway.Load(), s.Timeouts+s.Cancelled)
		require.LessOrEqual(t, s.PeakLent, places)
		require.Positive(t, served.Load())
		g.q.Close()
		s = g.q.Stats()
		require.Zero(t, s.Dialing)
		require.Len(t, g.idle, s.Open)
		require.EqualValues(t, g.exist.Load(), s.Open)
	}
}

func TestUnderStressCloseWakesEverybody(t *testing.T) {
	for range 50 {
		g := &garage{t: t, places: 4}
		g.q = NewQueue(0, 4, g)
		errs := make([]error, 32)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() {
				for errs[i] == nil {
					errs[i] = g.drive(context.Background(), time.Minute)
				}
			})
		}
		time.AfterFunc(rand.N(2*time.Millisecond), g.q.Close)
		wg.Wait()
		g.q.Close()
		require.False(t, slices.ContainsFunc(errs, func(err error) bool { return !errors.Is(err, ErrClosed) }), "%v", errs)
		s := g.q.Stats()
		require.Zero(t, s.Lent+s.Waiting+s.Dialing, "%+v", s)
		require.Len(t, g.idle, s.Open)
	}
}
