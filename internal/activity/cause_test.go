package activity_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/docs"
)

// job is the frame of a caller.
const job = "github.com/acme/billing.(*Job).run job.go:88"

// disk is a wait for the disk.
var disk = activity.Wait{Type: "IO", Event: "DataFileRead"}

// lock is a wait for the end of another transaction.
var lock = activity.Wait{Type: "Lock", Event: "transactionid"}

// idle is a session that lies idle in a transaction.
func idle(pid uint32) activity.Blocker {
	return activity.Blocker{PID: pid, Kind: "client backend", Application: "billing", User: "b", State: "idle in transaction",
		InState: 42 * time.Second, InTransaction: time.Minute}
}

// busy is a session that waits itself.
func busy(pid uint32, w activity.Wait) activity.Blocker {
	return activity.Blocker{PID: pid, Kind: "client backend", User: "reports", State: "active", Wait: w,
		InState: 4200 * time.Millisecond}
}

func TestACauseSaysInOneLineWhatAStatementWaitsFor(t *testing.T) {
	relation := activity.Wait{Type: "Lock", Event: "relation"}
	own := idle(12)
	own.Own = &activity.Own{Held: 42 * time.Second, Summary: "UPDATE accounts", Stack: []string{job, "main.main main.go:3"}}
	untaken := idle(12)
	untaken.Own = &activity.Own{Held: time.Minute, Running: true, Summary: "UPDATE accounts"}
	for want, cause := range map[string]activity.Cause{
		"waits for Lock/transactionid held by pid 4711 (application billing, idle in transaction for 42s)": {Wait: lock,
			Chain: []activity.Blocker{idle(4711)}},
		"waits for Lock/transactionid held by pid 4711 (application billing, idle in transaction for 42s) and 2 more that hold it or come first": {Wait: lock,
			Chain: []activity.Blocker{idle(4711)}, Others: 2},
		"waits for Lock/transactionid held by pid 5 (user reports, active for 4.2s), which waits for Lock/relation held by " +
			"pid 4711 (application billing, idle in transaction for 42s)": {Wait: lock, Chain: []activity.Blocker{busy(5, relation), idle(4711)}},
		"waits for Lock/tuple held by pid 5 (user reports, active for 4.2s), which waits for Lock/transactionid held by " +
			"pid 6 (user reports, active for 4.2s), and so on; at the root of 3: pid 4711 (application billing, idle in transaction for 42s)": {Wait: activity.Wait{Type: "Lock", Event: "tuple"},
			Chain: []activity.Blocker{busy(5, lock), busy(6, relation), idle(4711)}},
		"waits for Lock/transactionid held by pid 12 (this pool's own, idle in transaction for 42s, held since 42s by " +
			"billing.(*Job).run job.go:88, last UPDATE accounts)": {Wait: lock, Chain: []activity.Blocker{own}},
		"waits for Lock/transactionid held by pid 12 (this pool's own, idle in transaction for 42s, held since 42s by " +
			"billing.(*Job).run job.go:88, last UPDATE accounts); perhaps for itself: a statement beside a transaction of the same " +
			"function waits for that transaction": {Wait: lock, Chain: []activity.Blocker{own}, Itself: true},
		"waits for Lock/transactionid held by pid 12 (this pool's own, idle in transaction for 42s, held since 1m0s by " +
			"a caller whose stack was not taken, in UPDATE accounts)": {Wait: lock, Chain: []activity.Blocker{untaken}},
		`waits for Lock/transactionid held by the prepared transaction "order 7" (for 42s)`: {Wait: lock,
			Chain: []activity.Blocker{{Prepared: "order 7", InState: 42 * time.Second}}},
		"waits for Lock/transactionid held by a prepared transaction": {Wait: lock, Chain: []activity.Blocker{{}}},
		"waits for Lock/relation held by pid 7 (autovacuum worker, active for 80ms)": {Wait: relation,
			Chain: []activity.Blocker{{PID: 7, Kind: "autovacuum worker", State: "active", InState: 80 * time.Millisecond}}},
		"waits for Lock/relation held by pid 7 (application billing, its state is hidden from this role, pg_read_all_stats would show it)": {
			Wait: relation, Chain: []activity.Blocker{{PID: 7, Application: "billing", User: "b", Hidden: true}}},
		"waits for Lock/relation held by pid 7 (nothing is known of it)":                    {Wait: relation, Chain: []activity.Blocker{{PID: 7}}},
		"waits for Client/ClientWrite (for this program to read the rows)":                  {Wait: activity.Wait{Type: "Client", Event: "ClientWrite"}},
		"waits for IO/DataFileRead in a parallel worker (for the disk)":                     {Wait: disk, Parallel: true},
		"the server is done: its answer is on the way, or this program is reading the rows": {State: activity.Reading},
		"the server is idle and hasn't got it: it is on the way, or lost":                   {State: activity.Unseen},
		"runs on the server, without a wait event (CPU, as a rule)":                         {State: activity.Running},
		"behind a pooler, as the only session with this text and age: waits for IO/WALSync": {ByText: true,
			Wait: activity.Wait{Type: "IO", Event: "WALSync"}},
	} {
		assert.Equal(t, want, cause.String())
	}
}

func TestTheManualHasTheWordsForEachIncident(t *testing.T) {
	manual, err := docs.Read("internal/docs/operations.md")
	require.NoError(t, err)
	relation, advisory := activity.Wait{Type: "Lock", Event: "relation"}, activity.Wait{Type: "Lock", Event: "advisory"}
	migration, unnamed, reports, own, hidden := idle(4711), idle(4711), busy(4712, lock), idle(4711), idle(4711)
	migration.Application, unnamed.Application, unnamed.User, reports.Application = "migration", "", "postgres", "reports"
	own.Own = &activity.Own{Held: 42 * time.Second, Summary: "update accounts", Stack: []string{job}}
	hidden.Kind, hidden.State, hidden.InState, hidden.Hidden = "", "", 0, true
	prepared := activity.Blocker{Prepared: "order 7", InState: 3*time.Hour + 2*time.Minute + 10*time.Second}
	for _, cause := range []activity.Cause{
		{Wait: lock, Chain: []activity.Blocker{idle(4711)}}, {Wait: relation, Chain: []activity.Blocker{migration}},
		{Wait: advisory, Chain: []activity.Blocker{unnamed}}, {Wait: lock, Chain: []activity.Blocker{reports, idle(4711)}},
		{Wait: lock, Chain: []activity.Blocker{own}}, {Wait: lock, Chain: []activity.Blocker{prepared}},
		{Wait: activity.Wait{Type: "Client", Event: "ClientWrite"}}, {State: activity.Reading}, {State: activity.Running},
		{State: activity.Unseen}, {Wait: disk}, {Wait: relation, Chain: []activity.Blocker{hidden}},
	} {
		assert.Contains(t, manual, "`"+cause.String()+"`")
	}
	own.Own = nil
	itself := activity.Cause{Wait: lock, Chain: []activity.Blocker{own}, Itself: true}
	_, words, _ := strings.Cut(itself.String(), "; ")
	assert.Contains(t, manual, "`; "+words+"`")
}

func TestTheRootOfAChainIsItsLast(t *testing.T) {
	assert.Nil(t, new(activity.Cause).Root())
	cause := activity.Cause{Chain: []activity.Blocker{busy(5, lock), idle(4711)}}
	assert.EqualValues(t, 4711, cause.Root().PID)
	deadlock := activity.Cause{Wait: lock, Chain: []activity.Blocker{busy(5, lock), busy(6, lock), busy(7, lock)}}
	assert.Nil(t, deadlock.Root())
	assert.Regexp(t, `held by pid 6 \(.*\), and so on$`, deadlock.String())
}

func TestACauseInJSONLeavesOutWhatIsNotKnown(t *testing.T) {
	got, err := json.Marshal(activity.Cause{State: activity.Running, After: time.Second})
	require.NoError(t, err)
	assert.JSONEq(t, `{"at":"0001-01-01T00:00:00Z","after_ns":1000000000,"state":"running"}`, string(got))
}
