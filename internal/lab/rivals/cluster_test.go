//go:build lab

package rivals

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// A cluster is some nodes, and the clients that use them.
type cluster struct {
	nodes   []*node
	clients []client
	faults  []fault
	// whole waits until the primary has its standbys again.
	whole func(primary *node)
}

// A fault makes another node the primary.
type fault struct {
	name    string
	planned bool // nobody has to notice it
	inject  func(primary *node)
	mend    func(old *node) // nil: nothing has to be mended
}

// hosts is a DSN of all nodes, for whichever of them is the primary.
func hosts(nodes []*node) string {
	addresses := make([]string, len(nodes))
	for i, n := range nodes {
		addresses[i] = n.address
	}
	return "postgres://postgres@" + strings.Join(addresses, ",") +
		"/postgres?sslmode=disable&connect_timeout=5&target_session_attrs=read-write"
}

// compare runs the clients' loads on a cluster, injects its faults so many times, and adds what became of the calls to a table.
func compare(t *testing.T, c cluster, runs int, tab *table) {
	t.Helper()
	w := startWatch(t, c.nodes)
	primary, _ := w.after(t, time.Time{})
	c.whole(primary)
	loads := startLoads(t, primary.dsn(), c.clients)
	for run := range runs {
		for _, f := range c.faults {
			await(t, loads)
			old, _ := w.primary()
			injected := time.Now()
			f.inject(old)
			next, promoted := w.after(t, injected)
			t.Logf("run %d, %s: from %s to %s, which was promoted %v after the order", run+1, f.name, old.name,
				next.name, promoted.Sub(injected).Round(time.Millisecond))
			await(t, loads)
			if f.mend != nil {
				f.mend(old)
			}
			c.whole(next)
			for _, l := range loads {
				tab.add(t, f, l, next, injected, promoted)
			}
		}
	}
}

// streaming waits until a primary has so many standbys, of which the commits of one at least are waited for.
func streaming(t *testing.T, primary *node, standbys int) {
	t.Helper()
	for began := time.Now(); ; pause(50 * time.Millisecond) {
		states, err := standbysOf(primary)
		sync := slices.ContainsFunc(states, func(s string) bool { return s == "sync" || s == "quorum" })
		if err == nil && len(states) >= standbys && sync {
			return
		}
		if time.Since(began) > patience {
			require.NoError(t, err)
			t.Fatalf("%s has standbys %v after %v, not %d", primary.name, states, patience, standbys)
		}
	}
}

// standbysOf lists the sync_state of a primary's standbys that stream.
func standbysOf(primary *node) (states []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, primary.dsn())
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "select sync_state from pg_stat_replication where state = 'streaming'")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
