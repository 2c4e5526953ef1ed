package diagnose

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/clock"
	"github.com/pgprod/pgprod/internal/guard"
	"github.com/pgprod/pgprod/internal/link"
)

// sessionsQuery asks for the sessions that some statements run in, for those that block them, and for those that block
// these. %[1]s is an array of pids, %[2]d the pid that we know the asking connection by, %[3]s the column query_id,
// %[4]t whether it is about all sessions that do something in place of those of statements.
//
// pg_blocking_pids locks all of the server's lock table for a moment. So it is called only if one of the statements waits
// for a lock, and then for so many sessions that wait for one, ours first, and for those that may not be seen.
//
// If pg_backend_pid() is not the pid that we know, there is a pooler, which has made up the pids. Then the sessions of
// the same role and database that are active are returned, with their texts.
const sessionsQuery = `with a as materialized (select * from pg_stat_activity),
ours as materialized (select pid from a where pid = any('%[1]s') or leader_pid = any('%[1]s')
  or pg_backend_pid() <> %[2]d and state = 'active' and pid <> pg_backend_pid()
  and usename = session_user and datname = current_database()
  or %[4]t and datid is not null and (state <> 'idle' or query = '<insufficient privilege>') and pid <> pg_backend_pid()),
w as materialized (select pid, case wait_event when 'SafeSnapshot' then pg_safe_snapshot_blocking_pids(pid)
    else pg_blocking_pids(pid) end as by_pids
  from (select pid, wait_event from a where wait_event_type = 'Lock' or wait_event = 'SafeSnapshot'
      or %[4]t and query = '<insufficient privilege>' and pid in (select pid from pg_locks where not granted)
    order by pid in (select pid from ours) desc limit 64) waiting
  where %[4]t or exists (select from a join ours using (pid) where wait_event_type = 'Lock' or wait_event = 'SafeSnapshot')),
b as materialized (select * from w union all select pid, pg_blocking_pids(pid) from a
  where query = '<insufficient privilege>' and pid in (select unnest(by_pids) from w))
select pid, coalesce(leader_pid, 0), coalesce(client_port, 0),
  extract(epoch from clock_timestamp() - backend_start), extract(epoch from clock_timestamp() - query_start),
  extract(epoch from clock_timestamp() - state_change), extract(epoch from clock_timestamp() - xact_start),
  usename, application_name, backend_type, state, wait_event_type, wait_event, %[3]s,
  query = '<insufficient privilege>', array_to_string(by_pids, ' '),
  case when 0 = any(by_pids) then (select extract(epoch from clock_timestamp() - x.prepared) || ' ' || x.gid
    from pg_locks l join pg_locks h on h.pid is null and h.granted and (h.locktype, h.database, h.relation, h.page, h.tuple,
      h.virtualxid, h.transactionid, h.classid, h.objid, h.objsubid) is not distinct from (l.locktype, l.database,
      l.relation, l.page, l.tuple, l.virtualxid, l.transactionid, l.classid, l.objid, l.objsubid)
    join pg_locks own on own.pid is null and own.locktype = 'transactionid' and own.virtualtransaction = h.virtualtransaction
    join pg_prepared_xacts x on x.transaction = own.transactionid
    where l.pid = a.pid and not l.granted limit 1) end,
  case when pg_backend_pid() <> %[2]d or %[4]t then query end, pg_backend_pid() <> %[2]d, datname
from a left join b using (pid)
where pid in (select pid from ours union select pid from b union select unnest(by_pids) from b)
limit 1000`

// A session is a row of sessionsQuery.
type session struct {
	activity.Blocker
	leader     uint32        // the pid of the session whose parallel worker it is; 0: it is no parallel worker
	clientPort int           // 0: not known
	exists     time.Duration // how long it has existed; -1: not known, as the next one
	query      time.Duration // how long ago its present or last statement began
	queryID    int64
	by         []uint32 // who blocks it; 0 is a prepared transaction
	prepared   activity.Blocker
	text       string // of its statement; "" unless there is a pooler, or all sessions were asked for
	database   string
}

// Sessions are what the server has said of some statements' sessions and of those that block them.
type Sessions struct {
	at     time.Time // when the answer came
	now    int64     // the same by package clock
	pooled bool      // there is a pooler between us and the server
	app    string    // our application_name
	all    []*session
	byPID  map[uint32]*session
}

// An Asked is a statement under way that the server is asked about.
type Asked struct {
	Conn *link.Conn
	link.Moment
}

// sessions asks the server about statements, over a connection to the same server.
func (h *Prober) sessions(ctx context.Context, c *link.Conn, asked []Asked) (*Sessions, error) {
	var pids []string
	for _, a := range asked {
		if pid := a.Conn.PID(); pid <= math.MaxInt32 { // those that a pooler makes up may be larger
			pids = append(pids, strconv.FormatUint(uint64(pid), 10))
		}
	}
	results, err := c.Ask(ctx, question(pids, c.PID(), c.ServerMajor(), false), guard.Cancelling)
	if err != nil {
		return nil, err
	}
	s, err := read(results)
	if err == nil {
		s.app = h.cfg.Conn.RuntimeParams["application_name"]
	}
	return s, err
}

// question is sessionsQuery with its parameters.
func question(pids []string, pid uint32, major int, all bool) string {
	queryID := "query_id"
	if major < 14 {
		queryID = "null"
	}
	return fmt.Sprintf(sessionsQuery, "{"+strings.Join(pids, ",")+"}", pid, queryID, all)
}

// read reads the answer to sessionsQuery.
func read(results []*pgconn.Result) (*Sessions, error) {
	s := &Sessions{at: time.Now(), now: clock.Now(), byPID: map[uint32]*session{}}
	for _, result := range results {
		for _, row := range result.Rows {
			if len(row) != 20 {
				return nil, errors.New("pgprod: the server's answer about its sessions makes no sense")
			}
			one := newSession(row)
			s.all, s.byPID[one.PID] = append(s.all, one), one
			s.pooled, one.database = string(row[18]) == "t", string(row[19])
		}
	}
	return s, nil
}

// newSession reads a row of sessionsQuery.
func newSession(row [][]byte) *session {
	text := func(i int) string { return string(row[i]) }
	s := &session{
		Blocker: activity.Blocker{
			PID: pid(text(0)), InState: ago(text(5)), InTransaction: max(0, ago(text(6))),
			User: text(7), Application: text(8), Kind: text(9), State: text(10),
			Wait: activity.Wait{Type: text(11), Event: text(12)}, Hidden: text(14) == "t",
		},
		leader: pid(text(1)), exists: ago(text(3)), query: ago(text(4)), text: text(17),
	}
	s.clientPort, _ = strconv.Atoi(text(2))
	s.queryID, _ = strconv.ParseInt(text(13), 10, 64)
	if s.State == "active" {
		s.InState = s.query // state_change is that of the last message of the extended protocol
	}
	s.InState = max(0, s.InState)
	for _, by := range strings.Fields(text(15)) {
		if by := pid(by); !slices.Contains(s.by, by) { // of a parallel query there is one for each worker
			s.by = append(s.by, by)
		}
	}
	since, gid, _ := strings.Cut(text(16), " ")
	s.prepared = activity.Blocker{Prepared: gid, InState: max(0, ago(since))}
	if s.Hidden && len(s.by) > 0 {
		s.Wait = activity.Wait{Type: "Lock"}
	}
	return s
}

// pid reads a process id, 0 if it isn't one.
func pid(text string) uint32 {
	n, _ := strconv.ParseUint(text, 10, 32)
	return uint32(n)
}

// ago reads an age in seconds, -1 if it isn't known.
func ago(text string) time.Duration {
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return -1
	}
	return max(0, time.Duration(seconds*1e9))
}

// Serves reports whether the session with a pid is that of a connection.
func (s *Sessions) Serves(pid uint32, c *link.Conn) bool {
	one := s.byPID[pid]
	if one == nil || s.pooled {
		return false
	}
	started := int64(0)
	if one.exists >= 0 {
		started = s.now - int64(one.exists)
	}
	return c.IsServedBy(pid, one.clientPort, started)
}

// Cause returns what a statement waits for, nil if the server's answer doesn't show that for certain. others are the pool's
// statements that were under way when the server was asked, a among them or not.
func (s *Sessions) Cause(a Asked, others []Asked) *activity.Cause {
	cause := &activity.Cause{At: s.at, After: time.Duration(s.now - a.Began), ByText: s.pooled}
	var one *session
	switch {
	case s.pooled:
		one = s.alike(a, others)
	case s.Serves(a.Conn.PID(), a.Conn):
		one = s.byPID[a.Conn.PID()]
	}
	if one == nil || one.Hidden || one.State == "" || one.State == "disabled" { // by track_activities
		return nil
	}
	cause.QueryID = one.queryID
	s.judge(cause, one)
	return cause
}

// clocksDiffer is how much the age of a statement on the server may differ from its age here.
const clocksDiffer = 500 * time.Millisecond

// alike returns the only session that may run a statement, nil if there is none or more than one, or if one of the other
// statements may run there too: then a may be the one that the server has answered already, or that waits in the pooler.
func (s *Sessions) alike(a Asked, others []Asked) (found *session) {
	for _, one := range s.all {
		switch {
		case !s.mayRun(one, a):
		case found != nil:
			return nil
		default:
			found = one
		}
	}
	for _, other := range others {
		if found != nil && (other.Conn != a.Conn || other.Began != a.Began) && s.mayRun(found, other) {
			return nil
		}
	}
	return found
}

// mayRun reports whether a session runs a statement's text and has done so for as long. That is all by which a statement can
// be known behind a pooler.
func (s *Sessions) mayRun(one *session, a Asked) bool {
	age := time.Duration(s.now - a.Began)
	return one.State == "active" && one.Application == s.app && (age-one.query).Abs() <= clocksDiffer && one.runs(a.SQL)
}

// shownText is the least that a server shows of a text, which it cuts off (track_activity_query_size).
const shownText = 96

// runs reports whether the text that the server shows is a statement's, which may have tags in a comment at its end.
func (one *session) runs(sql string) bool {
	switch {
	case sql == "":
		return false
	case strings.HasPrefix(one.text, sql):
		rest := strings.TrimLeft(one.text[len(sql):], " ;")
		return rest == "" || strings.HasPrefix(rest, "/*")
	}
	return len(one.text) >= shownText && strings.HasPrefix(sql, one.text)
}

// judge notes in the cause what its session does.
func (s *Sessions) judge(cause *activity.Cause, one *session) {
	switch {
	case one.State != "active" && one.State != "fastpath function call":
		cause.State = activity.Reading
		if one.query < 0 || one.query > cause.After+clocksDiffer {
			cause.State = activity.Unseen
		}
		return
	case one.Wait.Type == "":
		cause.State = activity.Running
		return
	}
	cause.State, cause.Wait = activity.Waiting, one.Wait
	if worker := s.workerOf(one); worker != nil {
		one, cause.Parallel, cause.Wait = worker, true, worker.Wait
		if one.Wait.Type == "" {
			cause.State = activity.Running
		}
	}
	s.follow(cause, one)
}

// workerOf returns the parallel worker for which a session waits, nil if it doesn't wait for one. If there are several it
// is one that waits for a lock, or else one that doesn't wait for the others.
func (s *Sessions) workerOf(leader *session) (worker *session) {
	if leader.Wait.Type != "IPC" || leader.Wait.Event == "SafeSnapshot" || leader.Wait.Event == "SyncRep" {
		return nil
	}
	for _, one := range s.all {
		switch {
		case one.leader != leader.PID:
		case one.Wait.Type == "Lock":
			return one
		case one.Wait.Type != "IPC" && (worker == nil || worker.Wait.Type == ""):
			worker = one
		}
	}
	return worker
}

// follow notes in the cause who blocks a session, who blocks that one, and so on.
func (s *Sessions) follow(cause *activity.Cause, one *session) {
	cause.Others = max(0, len(one.by)-1)
	seen := map[uint32]bool{one.PID: true, one.leader: true}
	for len(one.by) > 0 {
		next := s.worst(one.by)
		if next == 0 {
			cause.Chain = append(cause.Chain, one.prepared)
			return
		}
		if seen[next] {
			return
		}
		seen[next] = true
		blocker := s.byPID[next]
		if blocker == nil { // it has come since, or is gone
			cause.Chain = append(cause.Chain, activity.Blocker{PID: next})
			return
		}
		cause.Chain = append(cause.Chain, blocker.Blocker)
		one = blocker
	}
}

// worst returns which of several blockers to name: one that isn't blocked itself, and of these the one whose transaction is
// the oldest.
func (s *Sessions) worst(by []uint32) uint32 {
	rank := func(pid uint32) (blocked int, open time.Duration) {
		if one := s.byPID[pid]; one != nil {
			return min(1, len(one.by)), one.InTransaction
		}
		return 0, 0
	}
	return slices.MinFunc(by, func(a, b uint32) int {
		blockedA, openA := rank(a)
		blockedB, openB := rank(b)
		return cmp.Or(cmp.Compare(blockedA, blockedB), cmp.Compare(openB, openA))
	})
}
