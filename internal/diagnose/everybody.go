package diagnose

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgprod/pgprod/internal/activity"
	"github.com/pgprod/pgprod/internal/sqlsummary"
)

// A Server is what the sessions of a server do that the role may see, whichever program's they are. There are no literals of
// statements in it.
type Server struct {
	At          time.Time
	Version     string
	InRecovery  bool
	Connections int              // of clients, those that are idle included
	Limit       int              // max_connections
	Hidden      int              // sessions of which the role may not see what they do
	Busy        []*activity.Node // those that run a statement, which has run for the longest first, then those idle in a transaction
	Blocking    []*activity.Node // who blocks whom, as in activity.Snapshot
}

// serverQuery asks for what Server has besides its sessions.
const serverQuery = `select current_setting('server_version'), pg_is_in_recovery(), current_setting('max_connections'),
  (select count(*) from pg_stat_activity where backend_type = 'client backend' or query = '<insufficient privilege>')`

// Everybody asks a server what all of its sessions do, except for the one that asks. It uses the connection until ctx ends.
func Everybody(ctx context.Context, c *pgconn.PgConn) (*Server, error) {
	results, err := c.Exec(ctx, question(nil, c.PID(), 0, true)).ReadAll() // of no version: it has no use for query_id
	if err != nil {
		return nil, err
	}
	sessions, err := read(results)
	if err != nil {
		return nil, err
	}
	server := &Server{At: sessions.at}
	server.arrange(sessions)
	results, err = c.Exec(ctx, serverQuery).ReadAll()
	if err != nil {
		return nil, err
	}
	row := results[0].Rows[0]
	server.Version, server.InRecovery = string(row[0]), string(row[1]) == "t"
	server.Limit, _ = strconv.Atoi(string(row[2]))
	server.Connections, _ = strconv.Atoi(string(row[3]))
	return server, nil
}

// arrange makes nodes of the sessions, and trees of those that block others. A parallel worker is part of its leader.
func (v *Server) arrange(s *Sessions) {
	nodes, prepared := map[uint32]*activity.Node{}, map[string]*activity.Node{}
	var all []*activity.Node
	add := func(n *activity.Node) *activity.Node {
		all = append(all, n)
		return n
	}
	for _, one := range s.all {
		if one.Hidden {
			v.Hidden++
		}
		if one.leader == 0 {
			nodes[one.PID] = add(one.node(s.at))
		}
	}
	by := map[*activity.Node]*activity.Node{}
	for _, one := range s.all {
		waits := nodes[cmp.Or(one.leader, one.PID)]
		if waits == nil || len(one.by) == 0 {
			continue
		}
		blocker := s.worst(one.by)
		above := nodes[blocker]
		switch {
		case blocker == 0:
			if above = prepared[one.prepared.Prepared]; above == nil {
				above = add(&activity.Node{Blocker: one.prepared, SeenAt: s.at})
				prepared[one.prepared.Prepared] = above
			}
		case above == nil: // it has come since
			above = add(&activity.Node{Blocker: activity.Blocker{PID: blocker}, SeenAt: s.at})
			nodes[blocker] = above
		}
		if above != waits {
			by[waits], waits.Others, waits.Wait = above, len(one.by)-1, one.Wait
		}
	}
	v.Blocking, v.Busy = activity.Arrange(all, by), busy(all)
}

// node is the session as a node of a tree, with its statement without literals in one line.
func (one *session) node(at time.Time) *activity.Node {
	n := &activity.Node{Blocker: one.Blocker, Database: one.database, SeenAt: at}
	if !one.Hidden {
		n.Text = strings.Join(strings.Fields(sqlsummary.Parse(one.text).Text), " ")
	}
	if one.State == "active" {
		n.Runs = one.InState
	}
	return n
}

// busy returns those that do something, the ones that have a statement under way first, and of these the oldest.
func busy(all []*activity.Node) (some []*activity.Node) {
	for _, n := range all {
		if n.PID != 0 && n.State != "" && n.State != "idle" {
			some = append(some, n)
		}
	}
	active := func(n *activity.Node) int {
		if n.State == "active" {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(some, func(a, b *activity.Node) int {
		return cmp.Or(cmp.Compare(active(a), active(b)), cmp.Compare(b.InState, a.InState))
	})
	return some
}
