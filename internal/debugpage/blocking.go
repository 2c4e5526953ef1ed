package debugpage

import (
	"strings"
	"time"

	"github.com/pgprod/pgprod/internal/activity"
)

// mostTree is how many sessions of the trees of who blocks whom are shown.
const mostTree = 60

// A session is a session in a tree of who blocks whom, with those that wait for it.
type session struct {
	*activity.Node
	Seen  string // how long ago the server said so
	Waits []session
}

// blocks returns the first sessions of the trees, from top to bottom, and how many are left out.
func blocks(s *activity.Snapshot) top[session] {
	left := mostTree
	shown := sessions(s, s.Blocking, &left)
	all := 0
	activity.Walk(s.Blocking, func(*activity.Node, int) { all++ })
	return top[session]{shown, max(0, all-mostTree)}
}

// sessions returns nodes with those below them, until left is 0.
func sessions(s *activity.Snapshot, nodes []*activity.Node, left *int) (all []session) {
	for _, n := range nodes {
		if *left == 0 {
			break
		}
		*left--
		all = append(all, session{n, ago(s.At, n.SeenAt), sessions(s, n.Below, left)})
	}
	return all
}

// A slow is a statement that was slow, with its time as text.
type slow struct {
	activity.SlowStatement
	Clock, Age string
}

// Parts says where the time went: in the queue, on the server, or in reading.
func (s slow) Parts() string {
	var parts []string
	for _, one := range []struct {
		what string
		took time.Duration
	}{{"waited for a connection before", s.Waited}, {"server", s.Server}, {"reading", s.Read}} {
		if one.took > 0 {
			parts = append(parts, one.what+" "+duration(one.took))
		}
	}
	return strings.Join(parts, ", ")
}

// slowOnes returns the last statements that were slow.
func slowOnes(s *activity.Snapshot) top[slow] {
	shown := first(s.Slow, mostRows)
	rows := make([]slow, len(shown.Rows))
	for i, one := range shown.Rows {
		rows[i] = slow{one, clock(s.At, one.At), ago(s.At, one.At)}
	}
	return top[slow]{rows, shown.More}
}

// A saving is how many round trips something has saved.
type saving struct {
	What  string
	Count int64
}

// Savings are what has saved round trips, in words.
func (v view) Savings() (all []saving) {
	s := v.Snapshot.Saved
	for _, one := range []saving{
		{"BEGIN", s.Begin}, {"settings", s.Settings}, {"cleaning", s.Cleaning}, {"keys of TxOnce", s.Keys},
		{"limits", s.Limits}, {"trace context", s.TraceContext},
	} {
		if one.Count > 0 {
			all = append(all, one)
		}
	}
	return all
}
