//go:build linux

package lab

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/lab/netlab"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// A fault is what happens to the primary while workers write.
type fault struct {
	name string
	setup
	inject func(t *testing.T, c *cluster)
	// promotes is whether the second server becomes the primary then. Otherwise the first stays it.
	promotes bool
	// planned is that it costs nobody an error.
	planned bool
	// mend is what comes after the fault; nil: nothing. Workers must have success at last.
	mend func(t *testing.T, c *cluster)
	// nowhere is that nobody has success before it is mended.
	nowhere bool
	// goal is what issue 17 asks for.
	goal string
}

var faults = []fault{
	{name: "black hole, promotion", setup: confirmed, inject: wire(netlab.Cut), promotes: true,
		goal: "last reply to next success ≤ 1.5 s"},
	{name: "black hole, nowhere to go", inject: wire(netlab.Cut), mend: wire(netlab.Wire{}), nowhere: true,
		goal: "last reply to error ≤ 2.2 s"},
	{name: "crash, promotion", setup: confirmed, inject: crash, promotes: true, goal: "promotion to next success ≤ 1 s"},
	{name: "switchover", inject: shutdown, promotes: true, planned: true, goal: "no error"},
	{name: "frozen, promotion", setup: confirmed, inject: freeze, promotes: true},
	{name: "only requests are lost, promotion", setup: confirmed, inject: wire(netlab.Wire{Deaf: true}), promotes: true},
	{name: "only replies are lost, promotion", setup: confirmed, inject: wire(netlab.Wire{Mute: true}), promotes: true},
	{name: "rebooted under its address", inject: reboot},
}

// farTooLong is many times what an outage takes, and half of what it takes if nobody notices that a host is silent.
const farTooLong = 15 * time.Second

var confirmed = setup{confirmed: true}

func wire(w netlab.Wire) func(*testing.T, *cluster) {
	return func(t *testing.T, c *cluster) { c.set(t, 0, w) }
}

func crash(t *testing.T, c *cluster)  { require.NoError(t, c.servers[0].Crash()) }
func freeze(t *testing.T, c *cluster) { require.NoError(t, c.servers[0].Freeze()) }
func shutdown(t *testing.T, c *cluster) {
	require.NoError(t, c.servers[0].Shutdown(t.Context(), pgtest.Fast))
}

// reboot is a loss of power: no packet tells of it, and the server comes back with its data.
func reboot(t *testing.T, c *cluster) {
	c.set(t, 0, netlab.Cut)
	require.NoError(t, c.servers[0].Crash())
	require.NoError(t, c.hosts[0].Reboot())
	require.NoError(t, c.servers[0].Resume(t.Context()))
}

func TestWhateverHappensToThePrimaryNothingIsLostOrDoubledAndWorkGoesOn(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			together(t)
			for run := range *runs {
				t.Run(fmt.Sprint(run+1), func(t *testing.T) { f.try(t, ourselves) })
			}
			for _, other := range others {
				for run := range *rivals {
					t.Run(fmt.Sprint(other.name, " ", run+1), func(t *testing.T) { f.try(t, other) })
				}
			}
		})
	}
}

// limit is how long a crew is watched after a fault. pgx has no limit of its own for a statement.
func (c client) limit() time.Duration {
	if c.pgprod {
		return patience
	}
	return 15 * time.Second
}

// try injects the fault once, under load of a client.
func (f fault) try(t *testing.T, of client) {
	c := newCluster(t, f.setup)
	w := startCrew(t, of, c.dsn())
	w.warm(t)
	injected := time.Now()
	f.inject(t, c)
	promoted := time.Now()
	primary := 0
	if f.promotes {
		c.promote(t)
		promoted, primary = time.Now(), 1
	}
	recovered := f.awaitEnd(t, c, w, promoted)
	o := observe(w.done(injected.Add(-time.Second)), injected, promoted, time.Now())
	hung := w.leave(time.Second)
	v := judge(w.done(time.Time{}), c.rows(t, primary))
	v.hung = hung
	figures.add(f, of, o, v)
	t.Logf("%s: %v; %+v", of.name, o, v)
	if !of.pgprod {
		return
	}
	v.check(t)
	assert.True(t, recovered, "workers have success in the end")
	assert.Less(t, o.outage, farTooLong, "half of command_timeout, which would end it too")
	if f.planned {
		assert.Empty(t, w.errors(), "a switchover costs nobody an error")
	}
}

// awaitEnd waits until all workers have seen the fault's end.
func (f fault) awaitEnd(t *testing.T, c *cluster, w *crew, promoted time.Time) (recovered bool) {
	t.Helper()
	since := promoted
	if f.nowhere {
		const longEnough = 5 * time.Second // who has no connection goes on waiting for one
		w.await(longEnough, since, failed)
	}
	if f.mend != nil {
		f.mend(t, c)
		since = time.Now()
	}
	return w.await(w.client.limit(), since, succeeded(since))
}
