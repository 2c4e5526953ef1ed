package integration

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/lab/known"
	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// crewSize is how many workers each client has.
const crewSize = 16

// A crew is workers of one client that make one call after the other. Each call has a number of its own, and writes its rows
// under it.
type crew struct {
	outcomeClient
	proxy   *faultproxy.Proxy // nil: there is none
	workers [crewSize]crewMember

	close func() // the client's pool, once
	wg    sync.WaitGroup
}

type crewMember struct {
	successes atomic.Int64
	// The fields below may be read after the crew's end.
	outcomes []known.Outcome // of its calls, in order
	errors   []error
	longest  time.Duration // without success
}

// startCrew makes a table for a client, and lets its workers begin. They end with their calls once leaving is closed.
func startCrew(t *testing.T, c outcomeClient, s *stage, proxied bool, leaving <-chan struct{}) *crew {
	crew := &crew{outcomeClient: c}
	require.NoError(t, s.primary.Exec(t.Context(), "create table "+c.table()+" (id bigint, part int"+c.constraint+")"))
	dsn := s.dsn
	if proxied {
		crew.proxy = faultproxy.StartTB(t, dsn)
		dsn = crew.proxy.DSN()
	}
	call, closePool := c.open(t, dsn, c.table())
	crew.close = sync.OnceFunc(closePool)
	ctx, cancel := context.WithCancel(context.Background()) // of the calls: they have no deadline
	for i := range crew.workers {
		crew.wg.Go(func() { crew.work(ctx, i, call, leaving) }) // ends with leaving, or if that isn't reached with the test
	}
	t.Cleanup(func() {
		cancel()
		crew.wg.Wait()
		crew.close()
	})
	return crew
}

// end waits until all workers have the outcome of their last call, and closes the pool. They were told to leave.
func (c *crew) end(t *testing.T) {
	ended := make(chan struct{})
	go func() { // ends with the workers, which the test's end cuts short
		defer close(ended)
		c.wg.Wait()
		c.close()
	}()
	select {
	case <-ended:
	case <-time.After(outcomePatience):
		t.Fatalf("%s: a call doesn't end", c.name)
	}
}

func (c *crew) work(ctx context.Context, index int, call call, leaving <-chan struct{}) {
	me := &c.workers[index]
	pause := time.NewTicker(30 * time.Millisecond) // what the program does with its time else
	defer pause.Stop()
	var succeeded time.Time // zero before the first success: connecting for the first time is no outage
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-leaving:
			me.sinceSuccess(succeeded)
			return
		case <-pause.C:
		}
		err := call(ctx, callID(index, n))
		me.outcomes = append(me.outcomes, c.told(err))
		if err != nil {
			me.errors = append(me.errors, err)
			continue
		}
		me.successes.Add(1)
		me.sinceSuccess(succeeded)
		succeeded = time.Now()
	}
}

// sinceSuccess notes how long it is since the last success, if there was one.
func (w *crewMember) sinceSuccess(last time.Time) {
	if !last.IsZero() {
		w.longest = max(w.longest, time.Since(last))
	}
}

// callID is the number of a worker's n-th call.
func callID(worker, n int) int64 { return int64(n*crewSize + worker) }

// awaitCalls waits until each worker has had n more calls that succeed. Those of clients other than pgprod may not get so far.
func awaitCalls(t *testing.T, crews []*crew, n int64) {
	t.Helper()
	const others = 5 * time.Second
	began := time.Now()
	var goals [][crewSize]int64
	for _, c := range crews {
		var goal [crewSize]int64
		for i := range c.workers {
			goal[i] = c.workers[i].successes.Load() + n
		}
		goals = append(goals, goal)
	}
	for k, c := range crews {
		pgtest.Eventually(t, outcomePatience, func() bool {
			for i := range c.workers {
				if c.workers[i].successes.Load() < goals[k][i] {
					return !c.pgprod && time.Since(began) > others
				}
			}
			return true
		}, "%s doesn't go on", c.name)
	}
}

// A tally is what became of a crew's calls.
type tally struct {
	calls, errors, unknown int
	doubled, lost          int           // rows there twice; calls acknowledged and not there
	wrong                  int           // calls denied and there; halves of transactions; wrong answers
	longest                time.Duration // that a worker was without success
}

// tally compares a crew's table with what its workers were told.
func (c *crew) tally(t *testing.T, s *stage) (sum tally) {
	there := s.rows(t, c.table())
	for i := range c.workers {
		w := &c.workers[i]
		sum.calls += len(w.outcomes)
		sum.errors += len(w.errors)
		sum.longest = max(sum.longest, w.longest)
		for _, err := range w.errors {
			if errors.Is(err, errWrongAnswer) {
				sum.wrong++
			}
		}
		for n, told := range w.outcomes {
			if told == known.Unknown {
				sum.unknown++
			}
			parts := there[callID(i, n)]
			distinct := len(slices.Compact(slices.Sorted(slices.Values(parts))))
			sum.doubled += len(parts) - distinct
			switch {
			case c.writes == 0:
			case told == known.Acknowledged && distinct < c.writes:
				sum.lost++
			case told == known.Denied && distinct > 0, distinct != 0 && distinct != c.writes:
				sum.wrong++
			}
		}
	}
	return sum
}

// addresses are what differs from one connection's error to another's.
var addresses = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// countErrors adds the errors of the workers to counts, by their text.
func (c *crew) countErrors(counts map[string]int) {
	for i := range c.workers {
		for _, err := range c.workers[i].errors {
			counts[addresses.ReplaceAllString(err.Error(), "…")]++
		}
	}
}
