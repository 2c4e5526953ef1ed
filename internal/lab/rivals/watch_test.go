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
	mu        sync.Mutex // guards what follows
	primaries map[*node]bool
	promoted  map[*node]time.Time // when it was first seen as a primary, after it was none
}

// startWatch starts a watch that the end of the test ends.
func startWatch(t *testing.T, nodes []*node) *watch {
	w := &watch{primaries: map[*node]bool{}, promoted: map[*node]time.Time{}}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, n := range nodes {
		wg.Go(func() { // ends with ctx
			for ctx.Err() == nil {
				w.look(ctx, n)
				w.note(n, false)
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
		ask, cancel := context.WithTimeout(ctx, time.Second)
		err := conn.QueryRow(ask, "select pg_is_in_recovery()").Scan(&standby)
		cancel()
		if err != nil {
			return
		}
		w.note(n, !standby)
		pause(interval)
	}
}

func (w *watch) note(n *node, primary bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if primary && !w.primaries[n] {
		w.promoted[n] = time.Now()
	}
	w.primaries[n] = primary
}

// primary is the node that was promoted last, of those that are primaries; nil if there is none.
func (w *watch) primary() (last *node, promoted time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n, is := range w.primaries {
		if is && w.promoted[n].After(promoted) {
			last, promoted = n, w.promoted[n]
		}
	}
	return last, promoted
}

// other waits for a primary that isn't old, and returns it, and when it was promoted.
func (w *watch) other(t *testing.T, old *node) (*node, time.Time) {
	t.Helper()
	for began := time.Now(); ; pause(interval) {
		if n, at := w.primary(); n != nil && n != old {
			return n, at
		}
		if time.Since(began) > patience {
			t.Fatalf("after %v there is no other primary than %s", patience, old.name)
		}
	}
}
