//go:build lab

package rivals

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A node is one server of a cluster.
type node struct {
	name    string
	address string // host:port
	program *program
}

// dsn is the URL of the node alone.
func (n *node) dsn() string {
	return "postgres://postgres@" + n.address + "/postgres?sslmode=disable&connect_timeout=2"
}

// A watch asks all nodes all the time which of them is the primary.
type watch struct {
	mu   sync.Mutex // guards seen
	seen map[*node]*sight
}

// A sight is what a node has answered last.
type sight struct {
	up       bool // it does answer
	primary  bool
	started  time.Time // when its server was
	promoted time.Time // when this server was first seen as a primary
}

// startWatch starts a watch that the end of the test ends.
func startWatch(t *testing.T, nodes []*node) *watch {
	w := &watch{seen: map[*node]*sight{}}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, n := range nodes {
		w.seen[n] = &sight{}
		wg.Go(func() { // ends with ctx
			for ctx.Err() == nil {
				w.look(ctx, n)
				w.down(n)
				pause(interval)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return w
}

// interval is between two looks.
const interval = 5 * time.Millisecond

// look asks a node over one connection, as long as that lasts.
func (w *watch) look(ctx context.Context, n *node) {
	conn, err := pgx.Connect(ctx, n.dsn())
	if err != nil {
		return
	}
	defer conn.Close(context.Background())
	for {
		var standby bool
		var started time.Time
		ask, cancel := context.WithTimeout(ctx, time.Second)
		err := conn.QueryRow(ask, "select pg_is_in_recovery(), pg_postmaster_start_time()").Scan(&standby, &started)
		cancel()
		if err != nil {
			return
		}
		w.note(n, !standby, started)
		pause(interval)
	}
}

func (w *watch) note(n *node, primary bool, started time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.seen[n]
	if primary && (!s.primary || !s.started.Equal(started)) {
		s.promoted = time.Now()
	}
	s.up, s.primary, s.started = true, primary, started
}

func (w *watch) down(n *node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[n].up = false
}

// primary is the node that was promoted last, or has started again as a primary, of those that answer; nil if there is none.
func (w *watch) primary() (last *node, promoted time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n, s := range w.seen {
		if s.up && s.primary && s.promoted.After(promoted) {
			last, promoted = n, s.promoted
		}
	}
	return last, promoted
}

// after waits for a primary that was promoted after then, and returns it, and when that was.
func (w *watch) after(t *testing.T, then time.Time) (*node, time.Time) {
	t.Helper()
	for began := time.Now(); ; pause(interval) {
		if n, at := w.primary(); n != nil && at.After(then) {
			return n, at
		}
		if time.Since(began) > patience {
			t.Fatalf("after %v there is no new primary", patience)
		}
	}
}
