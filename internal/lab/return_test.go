//go:build linux

package lab

import (
	"context"
	"database/sql"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/lab/netlab"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// A whereabouts remembers which hosts answer.
type whereabouts struct {
	home string

	mu       sync.Mutex           // guards the fields below
	arrivals map[uint32]time.Time // when each backend at home has answered first
	answers  map[string]int       // by host, since the last call of lately
}

// reader is a client by a pool that notes where it is.
func (w *whereabouts) reader(db *sql.DB) client {
	read := func(ctx context.Context, _ int64) error {
		var host string
		var pid uint32
		err := db.QueryRowContext(ctx, "select host(inet_server_addr()), pg_backend_pid()").Scan(&host, &pid)
		if err == nil {
			w.note(host, pid)
		}
		return err
	}
	c := ourselves
	c.open = func(t *testing.T, _ string) opened { return opened{call: read, close: closing(t, db)} }
	return c
}

func (w *whereabouts) note(host string, pid uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers[host]++
	if _, known := w.arrivals[pid]; !known && host == w.home {
		w.arrivals[pid] = time.Now()
	}
}

// forget begins anew.
func (w *whereabouts) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers, w.arrivals = map[string]int{}, map[uint32]time.Time{}
}

// lately returns how many answers have come since the last call, from home and from elsewhere.
func (w *whereabouts) lately() (home, elsewhere int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for host, n := range w.answers {
		if host == w.home {
			home += n
		} else {
			elsewhere += n
		}
	}
	w.answers = map[string]int{}
	return home, elsewhere
}

// most is the largest number of backends that have arrived within a time.
func (w *whereabouts) most(within time.Duration) (n, all int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var times []time.Time
	for _, at := range w.arrivals {
		times = append(times, at)
	}
	slices.SortFunc(times, time.Time.Compare)
	for i, from := range times {
		until := i
		for until < len(times) && times[until].Sub(from) < within {
			until++
		}
		n = max(n, until-i)
	}
	return n, len(times)
}

func TestReadsGoBackToAHostThatComesBackAndNobodyGetsAnError(t *testing.T) {
	together(t)
	c := newCluster(t, setup{})
	w := &whereabouts{home: c.hosts[0].Address()}
	w.forget()
	readers := startCrew(t, w.reader(newPool(t, c.dsnFor("any"))), "")
	readers.warm(t)
	_, elsewhere := w.lately()
	require.Zero(t, elsewhere, "the first host will do")

	c.set(t, 0, netlab.Cut)
	cut := time.Now()
	require.True(t, readers.await(patience, cut, succeeded(cut)), "reads go on elsewhere")
	assert.Less(t, time.Since(cut), farTooLong)
	t.Logf("everybody reads elsewhere after %v", time.Since(cut).Round(time.Millisecond))

	w.forget()
	c.set(t, 0, netlab.Wire{})
	back := time.Now()
	pgtest.Eventually(t, patience, func() bool {
		time.Sleep(200 * time.Millisecond) // a window with many calls of each worker
		home, elsewhere := w.lately()
		return home > 2*crewSize && elsewhere == 0
	}, "reads don't go back to the first host")
	most, all := w.most(100 * time.Millisecond)
	t.Logf("all reads are back after %v; of %d connections at most %d came within 100 ms",
		time.Since(back).Round(time.Millisecond), all, most)
	for _, d := range readers.done(back) {
		require.NoError(t, d.err, "going back costs nobody an error")
	}
}
