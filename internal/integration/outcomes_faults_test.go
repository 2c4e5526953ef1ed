package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod/internal/pgtest"
	"github.com/pgprod/pgprod/internal/pgtest/faultproxy"
)

// outcomePatience is how long the test waits for what must happen at some time.
const outcomePatience = time.Minute

// A stage is what the clients work on.
type stage struct {
	dsn      string
	primary  *pgtest.Server
	standby  *pgtest.Server // nil: there is none
	survivor *pgtest.Server // the one that has the rows in the end
}

// An outcomeFault is something that befalls a stage under load.
type outcomeFault struct {
	name string
	set  func(*testing.T) *stage
	// inflict returns when the fault is over.
	inflict func(*testing.T, *stage, []*crew)
	// announced says that the server tells each session that it ends it, by which the outcome of all is known.
	announced bool
	proxied   bool // each crew has a proxy between it and the server
}

var outcomeFaults = []outcomeFault{
	{name: "fast restart", set: oneServer, announced: true, inflict: restart(pgtest.Fast)},
	{name: "immediate restart", set: oneServer, inflict: restart(pgtest.Immediate)},
	{name: "kill -9 of the server", set: oneServer, inflict: func(t *testing.T, s *stage, _ []*crew) {
		require.NoError(t, s.primary.Crash())
		s.resume(t)
	}},
	{name: "kill -9 of a backend", set: oneServer, inflict: func(t *testing.T, s *stage, _ []*crew) {
		backends, err := s.primary.Backends(t.Context())
		require.NoError(t, err)
		require.NoError(t, s.primary.KillBackend(backends[rand.IntN(len(backends))].PID)) // on which the server ends all others
	}},
	{name: "all backends terminated", set: oneServer, announced: true, inflict: func(t *testing.T, s *stage, crews []*crew) {
		for range 4 {
			require.NoError(t, s.primary.TerminateAll(t.Context()))
			awaitCalls(t, crews, 2)
		}
	}},
	{name: "replies lost, FIN", set: oneServer, proxied: true, inflict: cutAtRandom(faultproxy.FIN)},
	{name: "replies lost, RST", set: oneServer, proxied: true, inflict: cutAtRandom(faultproxy.RST)},
	{name: "switchover", set: aPair, announced: true, inflict: func(t *testing.T, s *stage, _ []*crew) {
		// The last that a primary does is to send the standby all that it has written.
		require.NoError(t, s.primary.Shutdown(t.Context(), pgtest.Fast))
		s.promote(t)
	}},
	{name: "failover, immediate", set: aSynchronousPair, inflict: func(t *testing.T, s *stage, _ []*crew) {
		require.NoError(t, s.primary.Shutdown(t.Context(), pgtest.Immediate))
		s.promote(t)
	}},
	{name: "failover, kill -9", set: aSynchronousPair, inflict: func(t *testing.T, s *stage, _ []*crew) {
		require.NoError(t, s.primary.Crash())
		s.promote(t)
	}},
}

// restart is an outage of some length.
func restart(mode pgtest.Mode) func(*testing.T, *stage, []*crew) {
	return func(t *testing.T, s *stage, _ []*crew) {
		require.NoError(t, s.primary.Shutdown(t.Context(), mode))
		s.resume(t)
	}
}

// resume starts the server again, after a time in which there is none.
func (s *stage) resume(t *testing.T) {
	<-time.After(300 * time.Millisecond) // the time itself is what matters
	require.NoError(t, s.primary.Resume(t.Context()))
}

func (s *stage) promote(t *testing.T) {
	require.NoError(t, s.standby.Promote(t.Context()))
	s.survivor = s.standby
}

// cutAtRandom ends connections of each client: before a statement reaches the server, when it was executed and not committed,
// when it was, and in the midst of the reply. Any statement may be the one: BEGIN, COMMIT, or between. After each cut the
// next statements pass, among them the one that was cut if it is sent again: pgprod doesn't do that for ever.
func cutAtRandom(how faultproxy.End) func(*testing.T, *stage, []*crew) {
	const cuts = 16
	kinds := []faultproxy.Rule{{Unsent: true}, {Unsynced: true}, {}, {Pass: 1}}
	return func(t *testing.T, _ *stage, crews []*crew) {
		for _, c := range crews {
			passing := rand.IntN(crewSize)
			match := func(faultproxy.Statement) bool { // called for one statement at a time
				passing--
				if passing >= 0 {
					return false
				}
				passing = crewSize + rand.IntN(crewSize)
				return true
			}
			for _, n := range rand.Perm(cuts) {
				kind := kinds[n%len(kinds)]
				kind.Match, kind.End = match, how
				c.proxy.Inject(kind)
			}
		}
		for _, c := range crews {
			pgtest.Eventually(t, outcomePatience, func() bool { return c.proxy.Stats().Injected == cuts }, "%s sends too little", c.name)
		}
	}
}

// reliable are settings of a server that loses nothing of what it has acknowledged when its processes are killed, and has
// room for all crews. pgtest's own servers are faster than that.
var reliable = map[string]string{"synchronous_commit": "on", "full_page_writes": "on", "max_connections": "400"}

func oneServer(t *testing.T) *stage {
	server := pgtest.StartTB(t, pgtest.Config{Settings: reliable})
	require.NoError(t, server.Exec(t.Context(),
		"create table pgprod_once (key text primary key, token uuid not null, done_at timestamptz not null default now())"))
	return &stage{dsn: server.DSN(""), primary: server, survivor: server}
}

func aPair(t *testing.T) *stage {
	s := oneServer(t)
	s.standby = pgtest.StartTB(t, pgtest.Config{StandbyOf: s.primary, Settings: reliable})
	require.NoError(t, s.standby.CatchUp(t.Context()))
	s.dsn = fmt.Sprintf("postgres://postgres@%s,%s/postgres?sslmode=disable&target_session_attrs=read-write",
		address(s.primary), address(s.standby))
	return s
}

func address(s *pgtest.Server) string { return net.JoinHostPort(s.Host(), fmt.Sprint(s.Port())) }

// aSynchronousPair acknowledges a commit when the standby has it, so that none is lost with the primary.
func aSynchronousPair(t *testing.T) *stage {
	s := aPair(t)
	for _, text := range []string{"alter system set synchronous_standby_names = '*'", "select pg_reload_conf()"} {
		require.NoError(t, s.primary.Exec(t.Context(), text))
	}
	admin, err := s.primary.Admin(t.Context())
	require.NoError(t, err)
	defer admin.Close(context.Background())
	pgtest.Eventually(t, outcomePatience, func() bool {
		var synchronous int
		err := admin.QueryRow(t.Context(), "select count(*) from pg_stat_replication where sync_state = 'sync'").Scan(&synchronous)
		return err == nil && synchronous == 1
	})
	return s
}

// awaitNobody waits until the last session has ended: a statement whose connection was cut may still run.
func (s *stage) awaitNobody(t *testing.T) {
	pgtest.Eventually(t, outcomePatience, func() bool {
		left, err := s.survivor.Backends(t.Context())
		return err == nil && len(left) == 0
	}, "sessions go on")
}

// rows counts the rows of a table by id.
func (s *stage) rows(t *testing.T, table string) map[int64][]int {
	admin, err := s.survivor.Admin(t.Context())
	require.NoError(t, err)
	defer admin.Close(context.Background())
	rows, err := admin.Query(t.Context(), "select id, part from "+table)
	require.NoError(t, err)
	parts := map[int64][]int{}
	var id int64
	var part int
	_, err = pgx.ForEachRow(rows, []any{&id, &part}, func() error {
		parts[id] = append(parts[id], part)
		return nil
	})
	require.NoError(t, err)
	return parts
}
