package activity_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/activity"
)

// look is when the server was asked.
var look = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)

// waiter is a holder whose statement was found to wait for the first of a chain.
func waiter(pid uint32, at time.Time, chain ...activity.Blocker) activity.Holder {
	return activity.Holder{
		PID: pid, Held: 3 * time.Second, Running: true, Runs: 2 * time.Second, Statement: "update accounts", Stack: []string{job},
		Cause: &activity.Cause{At: at, State: activity.Waiting, Wait: lock, Chain: chain},
	}
}

// outline is a tree by its pids: "1(2(3) 4)" is 1 on top, 2 and 4 below, and 3 below 2.
func outline(trees []*activity.Node) string {
	var all []string
	for _, n := range trees {
		name := fmt.Sprint(n.PID)
		if n.PID == 0 {
			name = n.Prepared
		}
		if len(n.Below) > 0 {
			name += "(" + outline(n.Below) + ")"
		}
		all = append(all, name)
	}
	return strings.Join(all, " ")
}

func TestATreeHasTheRootOnTopAndBelowWhoWaits(t *testing.T) {
	for _, c := range []struct {
		want    string
		holders []activity.Holder
	}{
		{"", []activity.Holder{{PID: 1}, {PID: 2, Cause: &activity.Cause{State: activity.Running}}}},
		{"9(1 2)", []activity.Holder{waiter(1, look, idle(9)), waiter(2, look, idle(9))}},
		{"9(1(2(3)))", []activity.Holder{
			waiter(3, look, busy(2, lock), busy(1, lock), idle(9)), waiter(1, look, idle(9)), waiter(2, look, busy(1, lock), idle(9)),
		}},
		{"9(5(1)) 8(2)", []activity.Holder{waiter(2, look, idle(8)), waiter(1, look, busy(5, lock), idle(9))}},
		{"order 7(1)", []activity.Holder{waiter(1, look, activity.Blocker{Prepared: "order 7", InState: time.Hour})}},
	} {
		assert.Equal(t, c.want, outline(activity.TreeOf(c.holders)))
	}
}

func TestADeadlockIsATreeWithOneOfItOnTop(t *testing.T) {
	two := activity.TreeOf([]activity.Holder{waiter(1, look, busy(2, lock)), waiter(2, look, busy(1, lock))})
	assert.Len(t, strings.Split(outline(two), "("), 2, outline(two))
	three := activity.TreeOf([]activity.Holder{
		waiter(1, look, busy(2, lock), busy(3, lock)), waiter(2, look, busy(3, lock), busy(1, lock)),
		waiter(3, look, busy(1, lock), busy(2, lock)), waiter(4, look, busy(1, lock), busy(2, lock), busy(3, lock)),
	})
	require.Len(t, three, 1)
	assert.True(t, three[0].Deadlock)
	assert.Equal(t, 3, three[0].Blocks())
	assert.Contains(t, three[0].Notes()[0], "a deadlock")
	activity.Walk(three[0].Below, func(n *activity.Node, _ int) { assert.False(t, n.Deadlock) })
}

func TestOfWhatWasFoundOfASessionTheLatestCounts(t *testing.T) {
	earlier, later := look, look.Add(time.Second)
	changed := []activity.Holder{waiter(1, earlier, busy(5, lock), idle(7)), waiter(2, later, busy(5, lock), idle(8))}
	assert.Equal(t, "8(5(1 2))", outline(activity.TreeOf(changed)))
	changed[0], changed[1] = changed[1], changed[0]
	assert.Equal(t, "8(5(2 1))", outline(activity.TreeOf(changed)))
	over := []activity.Holder{waiter(1, earlier, busy(5, lock), idle(7)), waiter(2, later, idle(5))}
	assert.Equal(t, "5(1 2)", outline(activity.TreeOf(over)), "5 has got its lock")
}

func TestANodeOfThePoolsOwnSaysWhoHasIt(t *testing.T) {
	own := idle(12)
	own.Own = &activity.Own{Held: 42 * time.Second, Summary: "select orders", Stack: []string{job}}
	waits := waiter(13, look, own)
	waits.TraceID, waits.Cause.Others, waits.Cause.Itself = "4bf92f3577b34da6a3ce929d0e0e4736", 1, true
	tops := activity.TreeOf([]activity.Holder{waits})
	require.Equal(t, "12(13)", outline(tops))
	top, below := tops[0], tops[0].Below[0]
	assert.Equal(t, "pid 12", top.Name())
	assert.Equal(t, "application billing, user b", top.Who())
	assert.Equal(t, "idle in transaction for 42s", top.Does())
	assert.Equal(t, "held since 42s by billing.(*Job).run job.go:88", top.HeldBy())
	assert.Equal(t, "select orders", top.Text)
	assert.Equal(t, "waits for Lock/transactionid for 2s", below.Does())
	assert.Equal(t, "held since 3s by billing.(*Job).run job.go:88", below.HeldBy())
	assert.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", below.TraceID)
	assert.Len(t, below.Notes(), 2)
	assert.Equal(t, 2*time.Second, below.Runs)
}

func TestANodeSaysWhatLittleIsKnown(t *testing.T) {
	for want, b := range map[string]activity.Blocker{
		"pid 7||":                  {PID: 7},
		"a prepared transaction||": {},
		`prepared transaction "o 7"||prepared for 3h0m0s`:                                  {Prepared: "o 7", InState: 3 * time.Hour},
		"pid 7|autovacuum worker|active for 80ms":                                          {PID: 7, Kind: "autovacuum worker", State: "active", InState: 80 * time.Millisecond},
		"pid 7|user b|its state is hidden from this role, pg_read_all_stats would show it": {PID: 7, User: "b", Hidden: true},
		"pid 7||waits for Lock":                                                            {PID: 7, Hidden: true, Wait: activity.Wait{Type: "Lock"}},
	} {
		n := activity.Node{Blocker: b}
		assert.Equal(t, want, n.Name()+"|"+n.Who()+"|"+n.Does())
		assert.Empty(t, n.HeldBy())
	}
}

// Behind a pooler our pids are made up, and may be those of others' sessions.
func TestAPidThatAPoolerHasMadeUpIsNobodyElses(t *testing.T) {
	made := waiter(9, look, idle(9))
	made.Cause.ByText = true
	tops := activity.TreeOf([]activity.Holder{made})
	assert.Equal(t, "9(9)", outline(tops))
	assert.Empty(t, tops[0].Whose(), "it may be this pool's own")
	assert.Equal(t, "this pool's own", tops[0].Below[0].Whose())
	elsewhere := waiter(9, look, idle(4))
	elsewhere.Server = "10.0.0.2:5432"
	assert.Equal(t, "9(1) 4(9)", outline(activity.TreeOf([]activity.Holder{waiter(1, look, idle(9)), elsewhere})))
}
