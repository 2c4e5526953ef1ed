//go:build lab

package rivals

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/lab/known"
)

const (
	// workers is how many each client has.
	workers = 16
	// think is what a worker does with its time else.
	think = 100 * time.Millisecond
	// callTimeout is each call's deadline: pgprod's command_timeout, for those who have none.
	callTimeout = 30 * time.Second
)

// A deed is one call of a worker, and what it was told.
type deed struct {
	id           int64
	began, ended time.Time
	told         known.Outcome
	err          error
}

// A load is the workers of one client, each with its own deeds. Each call has a number of its own, the key of its row.
type load struct {
	client
	wg sync.WaitGroup

	mu    sync.Mutex // guards deeds
	deeds [workers][]deed
}

// startLoads makes a table for each client, without a key, so that what is there twice can be seen, and lets workers begin. The
// end of the test ends them.
func startLoads(t *testing.T, admin string, clients []client) (loads []*load) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), admin)
	require.NoError(t, err)
	for _, c := range clients {
		_, err := conn.Exec(t.Context(), "create table "+c.table()+" (id bigint not null)")
		require.NoError(t, err)
	}
	require.NoError(t, conn.Close(t.Context()))
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	for _, c := range clients {
		l := &load{client: c}
		insert, closePool := c.open(t, c.dsn, c.insertion())
		for worker := range workers {
			l.wg.Go(func() { l.work(ctx, worker, insert) }) // ends with ctx
		}
		t.Cleanup(func() {
			cancel()
			l.wg.Wait()
			closePool()
		})
		loads = append(loads, l)
	}
	return loads
}

// work makes one call after the other.
func (l *load) work(ctx context.Context, worker int, insert insert) {
	pause(think / workers * time.Duration(worker)) // so that they don't all call at the same moments
	tick := time.NewTicker(think)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		d := deed{id: int64(n*workers + worker), began: time.Now()}
		call, cancel := context.WithTimeout(ctx, callTimeout)
		d.err = insert(call, d.id)
		cancel()
		if ctx.Err() != nil {
			return // cut short by the test's end, and counted nowhere
		}
		d.told, d.ended = l.told(d.err), time.Now()
		l.mu.Lock()
		l.deeds[worker] = append(l.deeds[worker], d)
		l.mu.Unlock()
	}
}

// since returns each worker's deeds that have ended since then.
func (l *load) since(then time.Time) (all [workers][]deed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, deeds := range l.deeds {
		at := len(deeds)
		for at > 0 && deeds[at-1].ended.After(then) {
			at--
		}
		all[i] = deeds[at:len(deeds):len(deeds)]
	}
	return all
}

// busy reports whether each worker has had some successes that began after then.
func (l *load) busy(then time.Time) bool {
	const some = 3
	for _, deeds := range l.since(then) {
		successes := 0
		for _, d := range deeds {
			if d.told == known.Acknowledged && d.began.After(then) {
				successes++
			}
		}
		if successes < some {
			return false
		}
	}
	return true
}

// await waits until all workers of all clients get on, which those of others than pgprod may not.
func await(t *testing.T, loads []*load) {
	t.Helper()
	const others = 30 * time.Second
	began := time.Now()
	for _, l := range loads {
		for !l.busy(began) {
			if !l.pgprod && time.Since(began) > others {
				t.Logf("%s: not all workers get on after %v", l.name, others)
				break
			}
			if time.Since(began) > patience {
				t.Fatalf("%s: not all workers get on after %v", l.name, patience)
			}
			pause(20 * time.Millisecond)
		}
	}
}
