package diagnose

import (
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"

	"github.com/pgprod/pgprod/internal/activity"
)

// row is a row of sessionsQuery as a server sends it, of a session that has waited for ten seconds for what wait says. These
// tests emulate the server in what a real one can't be brought to in a test.
func row(pid, leader, state, waitType, event, by string) [][]byte {
	texts := []string{pid, leader, "-1", "100", "10", "9", "20", "app", "shop", "client backend", state, waitType, event, "-7",
		"f", by, "", "", "f", "shop"}
	row := make([][]byte, len(texts))
	for i, text := range texts {
		row[i] = []byte(text)
	}
	return row
}

// sessionsOf are those of an answer.
func sessionsOf(rows ...[][]byte) *Sessions {
	s, _ := read([]*pgconn.Result{{Rows: rows}}) // fails for rows of another length only
	return s
}

// judged is what the first session of an answer was found to do, by a statement that has run for so long.
func (s *Sessions) judged(after time.Duration) *activity.Cause {
	cause := &activity.Cause{After: after}
	s.judge(cause, s.all[0])
	return cause
}

// chain are the pids of a cause's chain.
func chain(c *activity.Cause) (pids []uint32) {
	for _, b := range c.Chain {
		pids = append(pids, b.PID)
	}
	return pids
}

func TestARowOfTheServersAnswerIsRead(t *testing.T) {
	s := newSession(row("7", "6", "active", "Lock", "tuple", "9 8 9 0"))
	assert.Equal(t, &session{
		Blocker: activity.Blocker{
			PID: 7, Kind: "client backend", Application: "shop", User: "app", State: "active",
			InState: 10 * time.Second, InTransaction: 20 * time.Second, Wait: activity.Wait{Type: "Lock", Event: "tuple"},
		},
		leader: 6, clientPort: -1, exists: 100 * time.Second, query: 10 * time.Second, queryID: -7, by: []uint32{9, 8, 0},
	}, s)
}

func TestAStatementThatWaitsForItsParallelWorkersWaitsForWhatTheyWaitFor(t *testing.T) {
	leader := row("7", "0", "active", "IPC", "ExecuteGather", "")
	reads := row("8", "7", "active", "IO", "DataFileRead", "")
	cause := sessionsOf(leader, reads, row("9", "7", "active", "Lock", "extend", "5"),
		row("5", "0", "active", "", "", "")).judged(time.Minute)
	assert.Equal(t, "Lock/extend", cause.Wait.String())
	assert.True(t, cause.Parallel)
	assert.Equal(t, []uint32{5}, chain(cause))

	cause = sessionsOf(leader, row("9", "7", "active", "", "", ""), reads).judged(time.Minute)
	assert.Equal(t, "waits for IO/DataFileRead in a parallel worker (for the disk)", cause.String())
	cause = sessionsOf(leader, row("8", "7", "active", "", "", "")).judged(time.Minute)
	assert.Equal(t, activity.Running, cause.State)
	cause = sessionsOf(leader, row("8", "6", "active", "", "", "")).judged(time.Minute)
	assert.Equal(t, "waits for IPC/ExecuteGather (for its parallel workers)", cause.String(), "the workers have not begun")
}

func TestAChainEndsWhereItComesRoundOrIsNotKnown(t *testing.T) {
	lock := func(pid, by string) [][]byte { return row(pid, "0", "active", "Lock", "transactionid", by) }
	round := sessionsOf(lock("7", "8"), lock("8", "9"), lock("9", "7"))
	assert.Equal(t, []uint32{8, 9}, chain(round.judged(time.Minute)), "a deadlock")
	assert.Equal(t, []uint32{8}, chain(sessionsOf(lock("7", "8"), lock("8", "8")).judged(time.Minute)))
	assert.Equal(t, []uint32{8, 10}, chain(sessionsOf(lock("7", "8"), lock("8", "10")).judged(time.Minute)), "it is gone")
	assert.Equal(t, []uint32{0}, chain(sessionsOf(lock("7", "0")).judged(time.Minute)), "a prepared transaction")
	assert.Empty(t, chain(sessionsOf(lock("7", "")).judged(time.Minute)), "it has just got the lock")
}

func TestOfSeveralBlockersTheOneIsNamedThatIsNotBlockedItself(t *testing.T) {
	old := row("9", "0", "idle in transaction", "Client", "ClientRead", "")
	old[6] = []byte("3600")
	s := sessionsOf(row("7", "0", "active", "Lock", "relation", "5 8 9"), row("5", "0", "active", "Lock", "relation", "8 9"),
		row("8", "0", "active", "", "", ""), old)
	for range 3 {
		cause := s.judged(time.Minute)
		assert.Equal(t, []uint32{9}, chain(cause), "its transaction is the oldest")
		assert.Equal(t, 2, cause.Others)
		slices.Reverse(s.all[0].by)
	}
}

func TestAnIdleSessionHasSeenTheStatementOnlyIfItsLastOneBeganWithIt(t *testing.T) {
	idle := row("7", "0", "idle", "Client", "ClientRead", "")
	assert.Equal(t, activity.Reading, sessionsOf(idle).judged(10*time.Second).State)
	assert.Equal(t, activity.Unseen, sessionsOf(idle).judged(5*time.Second).State)
	never := row("7", "0", "idle", "Client", "ClientRead", "")
	never[4] = nil
	assert.Equal(t, activity.Unseen, sessionsOf(never).judged(time.Minute).State)
}

func TestATextIsAStatementsIfItIsTheSameUpToTagsAndWhatTheServerCutsOff(t *testing.T) {
	long := "select " + string(make([]byte, 2000))
	for _, one := range []struct {
		shown, sql string
		is         bool
	}{
		{"select 1", "select 1", true},
		{"select 1 /*traceparent='00-1'*/", "select 1", true},
		{"select 1 ;", "select 1", true},
		{"select 12", "select 1", false},
		{"select 1 from a", "select 1", false},
		{"select 1", "select 1 from a", false},
		{long[:1023], long, true},
		{"", "", false},
		{"select 1", "", false},
	} {
		assert.Equal(t, one.is, (&session{text: one.shown}).runs(one.sql), "%.40q", one.shown)
	}
}
